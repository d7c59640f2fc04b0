use sana_linear_attn::parity::built_in_fixture_path;
use sana_pipeline::metrics::FeatureStatistics;
use serde_json::Value;

use crate::support::Workplace;

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn frechet_distance_of_two_files() {
    let here = Workplace::new();
    let numpy = built_in_fixture_path(CRATE, "metrics/f64.npz");
    let numpy = numpy.to_str().unwrap();
    // Twice the deviations, and the mean moved by 3 in one feature: 9 + trace.
    let reference = FeatureStatistics::load(numpy.as_ref()).unwrap();
    let mut mean = reference.mean().to_vec();
    mean[1] += 3.0;
    let covariance = reference.covariance().iter().map(|value| 4.0 * value);
    FeatureStatistics::new(mean, covariance.collect())
        .unwrap()
        .with_count(50)
        .save(&here.path("generated.npz"))
        .unwrap();
    let distance = ["metrics", "frechet", numpy, "generated.npz"];
    assert_eq!(here.sana(&distance).quiet_success(), "16.000000\n");
    let json = here.sana(&[&distance[..], &["--json"]].concat());
    let json: Value = serde_json::from_str(&json.quiet_success()).unwrap();
    assert!((json["value"].as_f64().unwrap() - 16.0).abs() < 1e-9);
    assert_eq!(json["features"], 3);
    assert_eq!(json["reference"]["count"], Value::Null);
    assert_eq!(json["generated"]["count"], 50);

    std::fs::write(here.path("text.npz"), "no archive").unwrap();
    here.sana(&["metrics", "frechet", numpy, "text.npz"])
        .fails(1, &["text.npz", "mu", "sigma"]);
    here.sana(&["metrics", "frechet", numpy, "absent.npz"])
        .fails(1, &["absent.npz"]);
    let one = FeatureStatistics::new(vec![0.0], vec![1.0]).unwrap();
    one.save(&here.path("one.npz")).unwrap();
    here.sana(&["metrics", "frechet", numpy, "one.npz"])
        .fails(1, &["length 1", "length 3"]);
}
