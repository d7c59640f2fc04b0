use serde_json::json;

use super::*;
use crate::generate::args::{GenerateArgs, ImageArgs, RecordedArgs};

fn read_json<T: Args>(options: Value) -> Result<T, String> {
    let Value::Object(options) = options else {
        panic!("{options}")
    };
    read(&options)
}

#[test]
fn definitions_are_consistent() {
    definition::<GenerateArgs>().debug_assert();
    definition::<RecordedArgs>().debug_assert();
    definition::<ImageArgs>().debug_assert();
}

#[test]
fn they_survive_being_written_and_read() {
    let options: RecordedArgs = read_json(json!({
        "prompt": "-cat",
        "negative": "-dog",
        "seed": u64::MAX,
        "guidance": 4.5,
        "guidance-interval": "0.25..1",
        "pag": "2",
        "pag-layers": [1, 2],
        "apg": true,
        "apg-norm": "inf",
        "apg-momentum": -0.5,
        "solver": "flow-euler",
        "timesteps": "paper",
        "size": [96, 64],
        "bucket": true,
        "instruction": "repository",
        "control": "a b.png",
        "control-interval": "0..0.5",
        "control-from": "edges",
        "image": "x.png",
        "mask": "y.png",
        "mask-feather": 3,
        "model": "o/n",
        "device": "cuda:1",
        "dtype": "bf16",
        "lora": ["a:1", "b"],
        "lora-unmerged": true,
    }))
    .unwrap();
    check(&options).unwrap();
    assert_eq!(read(&by_name(&options)), Ok(options.clone()));
    let expected = "--negative=-dog --seed=18446744073709551615 --guidance=4.5 \
                    --solver=flow-euler --timesteps=paper --size=96x64 --bucket \
                    --instruction=repository --guidance-interval=0.25..1 --pag=2 \
                    --pag-layers=1,2 --apg --apg-norm=inf --apg-momentum=-0.5 --control='a b.png' \
                    --control-interval=0..0.5 --control-from=edges --image=x.png --mask=y.png \
                    --mask-feather=3 --model=o/n --device=cuda:1 --dtype=bf16 --lora=a:1 \
                    --lora=b:1 --lora-unmerged";
    assert_eq!(shell_words(&options, '='), expected);
    let written = recorded(&options);
    assert_eq!(written[0], ("prompt".to_owned(), "-cat".to_owned()));
    assert!(written.contains(&("apg".to_owned(), SET.to_owned())));
}

#[test]
fn one_over_the_other() {
    let below = json!({
        "prompt": "below", "steps": 3, "lora": ["a", "b"], "instruction": "none", "apg": true,
        "apg-eta": 1, "size": 70, "bucket": true, "model": "o/n", "revision": "v1",
    });
    let below: RecordedArgs = read_json(below).unwrap();
    let over = |above: Value| -> RecordedArgs {
        let above: RecordedArgs = read_json(above).unwrap();
        above.or(below.clone())
    };
    let shown = |options: &RecordedArgs| shell_words(options, '=');
    let both = over(json!({"prompt": "above", "steps": 4}));
    assert_eq!(both.image.prompt(), "above");
    assert!(
        shown(&both)
            .starts_with("--steps=4 --size=70x70 --bucket --instruction=none --apg --apg-eta=1")
    );
    assert_eq!(over(json!({})), below);
    // All of an option's occurrences make way for those above.
    let loras = shown(&over(json!({"lora": "c"})));
    assert!(
        loras.contains("--lora=c:1") && !loras.contains("--lora=a"),
        "{loras}"
    );
    // What excludes an option replaces it, and what says something about it goes with it.
    for (above, expected, gone) in [
        (
            json!({"no-instruction": true}),
            "--no-instruction",
            "--instruction",
        ),
        (json!({"aspect": "1:2"}), "--aspect=1:2", "--size"),
        (json!({"aspect": "1:2"}), "--aspect=1:2", "--bucket"),
        (json!({"size": 96}), "--size=96x96", "--bucket"),
        (json!({"model": "b"}), "--model=b", "--revision"),
    ] {
        let both = over(above);
        check(&both).unwrap();
        let both = shown(&both);
        assert!(both.contains(expected) && !both.contains(gone), "{both}");
    }
}

#[test]
fn options_go_with_those_that_they_require() {
    let options: RecordedArgs = read_json(json!({
        "steps": 3, "apg": true, "apg-eta": 1, "apg-norm": 2, "size": 70, "bucket": true,
        "model": "o/n", "revision": "v1", "image": "a", "mask": "b", "mask-feather": 1,
        "control": "c", "control-scale": 1, "controlnet": "d", "lora": "e",
        "lora-unmerged": true,
    }))
    .unwrap();
    let left = |names: &[&str]| {
        let left = names.iter().fold(options.clone(), |options, name| {
            without(&options, name).unwrap()
        });
        shell_words(&left, '=')
    };
    let all = ["apg", "size", "model", "image", "control", "lora"];
    assert_eq!(left(&all), "--steps=3");
    let all_but_image = ["apg", "size", "model", "mask", "control", "lora"];
    assert_eq!(left(&all_but_image), "--steps=3 --image=a");
    assert_eq!(left(&["aspect", "lor"]), shell_words(&options, '='));
}

#[test]
fn what_clap_refuses_is_refused_in_one_line() {
    let error = read_json::<ImageArgs>(json!({"solver": "ddim"})).unwrap_err();
    let expected = "invalid value 'ddim' for '--solver <SOLVER>' [possible values: flow-dpm, \
                    flow-euler, scm]";
    assert_eq!(error, expected);
    let error = read_json::<ImageArgs>(json!({"size": {}})).unwrap_err();
    assert_eq!(error, "\"size\" cannot be {}");
    // What an option requires may come from elsewhere.
    let alone: ImageArgs = read_json(json!({"apg-eta": 1})).unwrap();
    let error = check(&alone).unwrap_err();
    assert!(error.contains("--apg"), "{error}");
}

#[test]
fn options_of_a_run_are_not_recorded() {
    let (image, recorded) = (names::<ImageArgs>(), names::<RecordedArgs>());
    let loaded = [
        "model",
        "revision",
        "transformer",
        "text-encoder",
        "variant",
        "device",
        "dtype",
        "low-memory",
        "quantize",
        "dense-down",
        "widen-bf16",
        "lora",
        "lora-unmerged",
        "controlnet",
        "control-wiring",
    ];
    for key in loaded.map(str::to_owned) {
        assert!(recorded.contains(&key) && !image.contains(&key), "{key}");
    }
    let mut of_the_run = names::<GenerateArgs>();
    of_the_run.retain(|key| !recorded.contains(key));
    let expected = [
        "memory-limit",
        "ignore-memory",
        "threads",
        "out",
        "json",
        "profile",
        "control-save",
        "no-mark",
        "prompts",
        "batch",
        "format",
        "shard",
        "preview",
        "preview-every",
        "preview-terminal",
        "grid",
        "grid-columns",
        "best-of",
        "keep",
        "verifier",
        "from-image",
        "without",
    ];
    assert_eq!(of_the_run, expected);
}

#[test]
fn words_of_the_shell() {
    assert_eq!(quoted("96x64"), "96x64");
    assert_eq!(quoted("cuda:0"), "cuda:0");
    assert_eq!(quoted(""), "''");
    assert_eq!(quoted("$(a) b"), "'$(a) b'");
    assert_eq!(quoted("it's"), r"'it'\''s'");
}
