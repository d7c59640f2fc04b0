use serde_json::Value;

use crate::support::Workplace;

/// The keys of every object; builds that know their commit add `commit`.
const KEYS: [&str; 32] = [
    "component",
    "variant",
    "width",
    "height",
    "batch",
    "rows",
    "tokens",
    "text_tokens",
    "steps",
    "dtype",
    "implementation",
    "version",
    "device",
    "device_name",
    "cpu",
    "threads",
    "warmup",
    "repeat",
    "median_s",
    "min_s",
    "lower_quartile_s",
    "upper_quartile_s",
    "seconds",
    "gflop",
    "gflop_per_s",
    "gbyte",
    "gbyte_per_s",
    "parameters",
    "weights_bytes",
    "peak_memory_bytes",
    "device_memory_bytes",
    "finite",
];

/// `sana bench` on the built-in model's sizes, 64x32 pixels, as JSON.
fn bench(here: &Workplace, arguments: &[&str]) -> Vec<Value> {
    let usual = [
        "bench",
        "--variant",
        "scenes",
        "--size",
        "64x32",
        "--device",
        "flex",
        "--json",
    ];
    let said = here.sana(&[&usual, arguments].concat()).quiet_success();
    let objects = said.lines().map(|line| serde_json::from_str(line).unwrap());
    objects.collect()
}

#[test]
fn every_component_in_json() {
    let here = Workplace::new();
    let parts = "dit,decode,encode,text,attention,image,matmul";
    let options = ["--repeat", "3", "--warmup", "0", "--tokens", "40"];
    let options = [
        &options[..],
        &["--steps", "2", "--batch", "2", "--threads", "1"],
    ]
    .concat();
    let objects = bench(&here, &[&["--component", parts][..], &options].concat());
    let names: Vec<_> = objects.iter().map(|object| &object["component"]).collect();
    let expected = [
        "dit_text",
        "dit",
        "decode",
        "encode",
        "text",
        "attention",
        "image",
        "matmul",
    ];
    assert_eq!(names, expected);
    for object in &objects {
        let keys = object.as_object().unwrap().keys();
        let keys: Vec<_> = keys.filter(|key| *key != "commit").collect();
        assert_eq!(keys, sorted(), "{object}");
        assert_eq!(object["variant"], "scenes");
        assert_eq!(object["dtype"], "f32");
        assert_eq!(object["device"], "flex");
        assert_eq!(object["implementation"], "sana");
        assert_eq!(object["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(
            (&object["threads"], &object["batch"]),
            (&1.into(), &2.into())
        );
        assert_eq!(object["finite"], true, "{object}");

        let seconds: Vec<f64> = serde_json::from_value(object["seconds"].clone()).unwrap();
        assert_eq!(seconds.len(), 3);
        assert!(seconds.iter().all(|second| *second > 0.0), "{object}");
        let number = |key: &str| object[key].as_f64().unwrap();
        let ordered = ["min_s", "lower_quartile_s", "median_s", "upper_quartile_s"].map(number);
        assert!(ordered.is_sorted(), "{object}");
        assert_eq!(ordered[0], seconds.iter().copied().fold(f64::MAX, f64::min));
        let rate = number("gflop") / number("median_s");
        assert!(
            (number("gflop_per_s") / rate - 1.0).abs() < 1e-9,
            "{object}"
        );
        assert_eq!(object["gbyte"], Value::Null);
    }
    let of = |name: &str| {
        objects
            .iter()
            .find(|object| object["component"] == name)
            .unwrap()
    };
    // Two rows for each image with guidance.
    let dit = of("dit");
    assert_eq!(
        [&dit["rows"], &dit["tokens"], &dit["text_tokens"]],
        [4, 2, 300]
    );
    assert_eq!([&dit["width"], &dit["height"]], [64, 32]);
    assert_eq!(
        dit["weights_bytes"].as_u64(),
        dit["parameters"].as_u64().map(|n| 4 * n)
    );
    assert_eq!(of("decode")["rows"], 2);
    assert_eq!([&of("text")["rows"], &of("text")["tokens"]], [2, 40]);
    assert_eq!(of("attention")["tokens"], 40);
    assert_eq!(of("image")["steps"], 2);
    assert_eq!(of("matmul")["gflop"], 2.0 * 40f64.powi(3) / 1e9);
}

/// serde_json sorts the keys of a map.
fn sorted() -> Vec<&'static str> {
    let mut keys = KEYS.to_vec();
    keys.sort_unstable();
    keys
}

#[test]
fn half_floats_take_half_the_memory() {
    let here = Workplace::new();
    let options = ["--component", "text", "--repeat", "1", "--tokens", "8"];
    let [text] = &bench(&here, &[&options[..], &["--dtype", "bf16"]].concat())[..] else {
        panic!("one object for each component");
    };
    assert_eq!(text["dtype"], "bf16");
    let parameters = text["parameters"].as_u64().unwrap();
    assert_eq!(text["weights_bytes"], 2 * parameters);
}

#[test]
fn a_table_for_people() {
    let here = Workplace::new();
    let arguments = ["bench", "--component", "attention", "--component", "encode"];
    let more = ["--variant", "scenes", "--device", "flex", "--repeat", "1"];
    let said = here.sana(&[&arguments[..], &more].concat()).quiet_success();
    // The size that the built-in model is trained at.
    assert!(
        said.starts_with("scenes, 128x128 px, batch 1, f32 on flex ("),
        "{said}"
    );
    for part in ["component ", "attention ", "encode "] {
        assert!(said.lines().any(|line| line.starts_with(part)), "{said}");
    }
    assert!(said.contains("GFLOP/s"), "{said}");
}

#[test]
fn bad_options() {
    let here = Workplace::new();
    for (arguments, code, expected) in [
        (&[][..], 2, &["--component"][..]),
        (
            &["--component", "dit,vae"],
            2,
            &["vae", "decode", "attention"],
        ),
        (
            &["--component", "dit", "--variant", "sana-9b"],
            2,
            &["sana-9b", "sana-1.5-4.8b", "scenes"],
        ),
        (
            &["--component", "dit", "--size", "100x64"],
            1,
            &["100x64", "multiples of 32", "--size 96x64"],
        ),
        (&["--component", "dit", "--size", "0"], 1, &["--size 32x32"]),
        (&["--component", "dit", "--repeat", "0"], 2, &["--repeat"]),
        (&["--component", "dit", "--batch", "-1"], 2, &["--batch"]),
        (
            &["--component", "dit", "--threads", "0"],
            2,
            &["--threads", "1..=1024"],
        ),
        (
            &["--component", "text", "--tokens", "9000"],
            1,
            &["8192", "--tokens"],
        ),
        (
            &["--component", "matmul", "--tokens", "70000"],
            1,
            &["65536"],
        ),
        (
            &["--component", "dit", "--device", "cuda"],
            1,
            &["device cuda:0"],
        ),
    ] {
        here.sana(&[&["bench"], arguments].concat())
            .fails(code, expected);
    }
}

#[test]
fn threads_are_an_option_of_other_commands_too() {
    let here = Workplace::new();
    here.generate(&["--threads", "1", "--seed", "1"])
        .quiet_success();
    here.generate(&["--threads", "x"]).fails(2, &["--threads"]);
}
