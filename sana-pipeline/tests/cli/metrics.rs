use std::path::PathBuf;

use sana_linear_attn::parity::{Fixture, built_in_fixture_path};
use sana_pipeline::image::{RgbImage, save_png};
use sana_pipeline::metrics::FeatureStatistics;
use serde_json::Value;

use crate::fid_inputs;
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

fn clip() -> PathBuf {
    built_in_fixture_path(CRATE, "metrics/clip")
}

/// The images and prompts of the reference outputs, and the score of each with its prompt.
fn clip_inputs(here: &Workplace) -> Vec<f64> {
    std::fs::create_dir(here.path("images")).unwrap();
    let fixture = Fixture::open(CRATE, "metrics/clip.safetensors");
    let texts = fixture.metadata_list("texts");
    // In an order that is not that of the alphabet.
    let keys = ["d", "c", "b", "a"];
    let sizes = [[37, 23], [32, 32], [20, 45], [100, 61]];
    for (key, [width, height]) in keys.iter().zip(sizes) {
        let image = RgbImage::from_fn(width, height, |x, y| {
            let value =
                |channel: u32| ((x * 7 + y * 13 + channel * 50 + x * y % 31 * 5) % 256) as u8;
            [value(0), value(1), value(2)].into()
        });
        let path = here.path(&format!("images/{key}.png"));
        save_png(&path, &image, &[("seed", "7")]).unwrap();
    }
    let prompts: Vec<String> = keys
        .iter()
        .zip(&texts)
        .enumerate()
        .map(|(index, (key, text))| match index % 2 {
            0 => format!(
                "{key:?}: {{\"prompt\": {}, \"category\": \"art\"}}",
                Value::from(text.as_str())
            ),
            _ => format!("{key:?}: {}", Value::from(text.as_str())),
        })
        .collect();
    std::fs::write(
        here.path("prompts.json"),
        format!("{{{}}}", prompts.join(", ")),
    )
    .unwrap();
    let logits = fixture.values("logits");
    (0..4).map(|index| logits[5 * index]).collect()
}

#[test]
fn clip_scores_are_continued() {
    let here = Workplace::new();
    let expected = clip_inputs(&here);
    let mean = |count: usize| expected[..count].iter().sum::<f64>() / count as f64;
    let clip = clip();
    let score = |options: &[&str]| {
        let usual = [
            "metrics",
            "clip-score",
            "--clip",
            clip.to_str().unwrap(),
            "--prompts",
            "prompts.json",
            "--images",
            "images",
            "--device",
            "flex",
        ];
        here.sana(&[&usual, options].concat())
    };
    let close = |found: &str, expected: f64| {
        let found: f64 = found.trim().parse().unwrap();
        assert!((found - expected).abs() < 5e-3, "{found} {expected}");
    };
    close(&score(&[]).quiet_success(), mean(4));
    close(
        &score(&["--count", "2", "--out", "scores.jsonl"]).quiet_success(),
        mean(2),
    );
    let half = std::fs::read_to_string(here.path("scores.jsonl")).unwrap();
    let lines: Vec<Value> = half
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["dtype"], "f32");
    assert!(lines[0]["resize"].as_str().unwrap().contains("bicubic"));
    assert_eq!(
        (&lines[1]["key"], &lines[1]["seed"]),
        (&"d".into(), &"7".into())
    );

    // A score that was found before is kept, a line that was cut off is not.
    let changed = half.replace(
        &format!("\"score\":{}", lines[1]["score"]),
        "\"score\":1000.0",
    );
    assert_ne!(changed, half);
    std::fs::write(
        here.path("scores.jsonl"),
        format!("{changed}{{\"key\": \"b\""),
    )
    .unwrap();
    let continued = score(&["--out", "scores.jsonl", "--batch", "1", "--json"]).quiet_success();
    let json: Value = serde_json::from_str(&continued).unwrap();
    let kept = mean(4) + (1000.0 - expected[0]) / 4.0;
    close(&json["value"].to_string(), kept);
    assert_eq!(json["count"], 4);
    assert_eq!(json["prompts_cut"], 1);
    let all = std::fs::read_to_string(here.path("scores.jsonl")).unwrap();
    assert_eq!(all.lines().count(), 5);

    std::fs::write(here.path("other.jsonl"), "{\"metric\": \"fid\"}\n").unwrap();
    score(&["--out", "other.jsonl"]).fails(1, &["other.jsonl", "other results"]);
    score(&["--count", "5"]).fails(1, &["prompts.json has 4 prompts"]);
    std::fs::remove_file(here.path("images/b.png")).unwrap();
    score(&[]).fails(1, &["no image of \"b\"", "b.jpg"]);
    std::fs::write(here.path("prompts.json"), "[1]").unwrap();
    score(&[]).fails(1, &["prompts.json", "by key"]);
}

#[test]
fn statistics_of_a_folder_of_images() {
    let here = Workplace::new();
    fid_inputs::write_weights(&here.path("inception.safetensors"), |_| {});
    std::fs::create_dir_all(here.path("images/art")).unwrap();
    let names = ["images/a.png", "images/art/c.png", "images/b.png"];
    let sizes = [[64, 51], [45, 70], [48, 48]];
    for ((name, size), shift) in names.iter().zip(sizes).zip([0, 2, 1]) {
        save_png(&here.path(name), &fid_inputs::image(size, shift), &[]).unwrap();
    }
    std::fs::write(here.path("images/notes.txt"), "no image").unwrap();
    let fid = |options: &[&str]| {
        let usual = [
            "metrics",
            "fid",
            "--inception",
            "inception.safetensors",
            "--images",
            "images",
            "--device",
            "flex",
        ];
        here.sana(&[&usual, options].concat())
    };
    let said = fid(&["--resize", "48", "--save", "real.npz", "--batch", "2"]).quiet_success();
    assert_eq!(said, "wrote real.npz of 3 images\n");
    let found = FeatureStatistics::load(&here.path("real.npz")).unwrap();
    assert_eq!((found.count(), found.features()), (Some(3), 2048));
    let features = fid_inputs::reference().values("left");
    for (index, mean) in found.mean().iter().enumerate() {
        let expected = (0..3)
            .map(|image| features[2048 * image + index])
            .sum::<f64>()
            / 3.0;
        assert!((mean - expected).abs() < 1e-3, "{index}: {mean} {expected}");
    }
    let json = fid(&[
        "--resize", "48", "--save", "real.npz", "--count", "2", "--json",
    ]);
    let json: Value = serde_json::from_str(&json.quiet_success()).unwrap();
    assert_eq!((&json["count"], &json["value"]), (&2.into(), &Value::Null));
    assert!(json["resize"].as_str().unwrap().contains("48x48"), "{json}");

    fid(&[]).fails(2, &["--reference", "--save"]);
    fid(&["--save", "x.npz", "--resize", "0"]).fails(2, &["--resize", "none"]);
    fid(&["--save", "x.npz", "--count", "4"]).fails(1, &["images has 3 images, not 4"]);
    fid(&["--save", "x.npz", "--count", "1"]).fails(1, &["at least 2"]);
    let numpy = built_in_fixture_path(CRATE, "metrics/f64.npz");
    fid(&["--reference", numpy.to_str().unwrap()]).fails(1, &["3 features", "2048"]);
    std::fs::remove_file(here.path("inception.safetensors")).unwrap();
    fid(&["--save", "x.npz"]).fails(1, &["inception.safetensors"]);
    assert!(!here.path("x.npz").exists());
}
