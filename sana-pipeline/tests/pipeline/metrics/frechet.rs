use sana_linear_attn::parity::{Fixture, built_in_fixture_path};
use sana_pipeline::metrics::{FeatureStatistics, frechet_distance};

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

/// scipy's root of an unsymmetric matrix loses half of the digits where it is singular: 1.5e-8 of
/// the distance for ranks 7 and 11 of 20, and 5e-10 where eigenvalues go down to 1e-14. The exact
/// distances, with 50 digits, are closer: what remains is the root of the rounding of eigenvalues
/// that should be zero.
#[test]
fn distances_are_scipy_s() {
    let fixture = Fixture::open(CRATE, "metrics/frechet.safetensors");
    let names: Vec<String> = fixture
        .names()
        .iter()
        .filter_map(|name| name.strip_suffix(".scipy").map(str::to_owned))
        .collect();
    assert_eq!(names.len(), 4);
    for name in names {
        let values = |part: &str| fixture.values(&format!("{name}.{part}"));
        let [left, right] = ["1", "2"].map(|side| {
            let mean = values(&format!("mu{side}"));
            FeatureStatistics::new(mean, values(&format!("sigma{side}"))).unwrap()
        });
        for distance in [
            frechet_distance(&left, &right).unwrap(),
            frechet_distance(&right, &left).unwrap(),
        ] {
            let off = |reference: &str, bound: f64| {
                let expected = values(reference)[0];
                let error = (distance - expected).abs() / expected;
                assert!(error < bound, "{name}, {reference}: {distance} {expected}");
            };
            off("scipy", 1e-7);
            off("exact", 1e-8);
        }
    }
}

#[test]
fn statistics_that_numpy_wrote() {
    let mean = [1.0, -0.5, 2.0];
    let covariance = [2.0, 0.5, 0.25, 0.5, 1.0, 0.125, 0.25, 0.125, 4.0];
    for name in ["f64.npz", "f32_compressed.npz"] {
        let path = built_in_fixture_path(CRATE, &format!("metrics/{name}"));
        let found = FeatureStatistics::load(&path).unwrap();
        assert_eq!(found.mean(), mean, "{name}");
        assert_eq!(found.covariance(), covariance, "{name}");
        assert_eq!(found.count(), None);
    }
}
