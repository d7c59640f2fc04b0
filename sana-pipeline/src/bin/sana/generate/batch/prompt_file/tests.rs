use super::*;
use crate::generate::args::ImageArgs;

fn read_as(ending: &str, text: &[u8]) -> anyhow::Result<Vec<Entry>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("prompts.{ending}"));
    fs::write(&path, text).unwrap();
    let mut problems = Problems::default();
    let entries = read(&path, &mut problems)?;
    problems.check(Path::new("prompts"))?;
    Ok(entries)
}

fn entry(line: usize, prompt: &str) -> Entry {
    Entry {
        line,
        args: ImageArgs {
            prompt: Some(prompt.to_owned()),
            ..ImageArgs::default()
        },
        name: None,
        left_out: Vec::new(),
    }
}

#[track_caller]
fn refused(ending: &str, text: &str, expected: &[&str]) {
    let error = read_as(ending, text.as_bytes()).unwrap_err().to_string();
    for part in expected {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
}

#[test]
fn text_has_a_prompt_per_line() {
    let text = "\u{feff}a red circle\r\n\n  # not this\n  {\"a\": 1}  \n\tein grüner Kreis";
    let expected = [
        entry(1, "a red circle"),
        entry(4, "{\"a\": 1}"),
        entry(5, "ein grüner Kreis"),
    ];
    for ending in ["txt", "", "prompts"] {
        assert_eq!(read_as(ending, text.as_bytes()).unwrap(), expected);
    }
    assert_eq!(read_as("txt", b"\n# a\n").unwrap(), []);
    let error = read_as("txt", b"a\nb\xff\n").unwrap_err().to_string();
    assert!(error.contains("not UTF-8 text, see line 2"), "{error}");
}

#[test]
fn objects_have_options() {
    let object = r#"{"prompt": "a", "name": "one", "size": [96, 64], "pag_layers": [1, 2],
        "seed": 18446744073709551615, "apg": true, "negative": null}"#;
    let full = |line| Entry {
        args: ImageArgs::deserialize(serde_json::json!({
            "prompt": "a", "size": "96x64", "pag-layers": "1,2", "seed": u64::MAX, "apg": true
        }))
        .unwrap(),
        name: Some("one".to_owned()),
        ..entry(line, "a")
    };
    let array = format!("\n[\n {object} ,\n\"b\\n]\"\n, {{\"prompt\":\"c\"}}]\n");
    let expected = [full(3), entry(5, "b\n]"), entry(6, "c")];
    assert_eq!(read_as("json", array.as_bytes()).unwrap(), expected);
    let lines = format!("{}\n\n\"b\"\n", object.replace('\n', ""));
    let expected = [full(1), entry(3, "b")];
    assert_eq!(read_as("jsonl", lines.as_bytes()).unwrap(), expected);
    assert_eq!(read_as("NDJSON", lines.as_bytes()).unwrap(), expected);
    assert_eq!(read_as("json", b"[ ]").unwrap(), []);
    let off = read_as("jsonl", br#"{"prompt": "a", "apg": false}"#).unwrap();
    assert_eq!(off[0].left_out, ["apg"]);
}

#[test]
fn what_is_not_a_list() {
    for (text, expected) in [
        ("", ["line 1", "expected a list"]),
        ("{\"prompt\": \"a\"}", ["line 1", ".jsonl"]),
        ("[", ["line 1", "does not end"]),
        ("[\n\"a\"", ["line 2", "does not end"]),
        ("[\"a\",\n]", ["line 2", "expected value"]),
        ("[\"a\"\n\"b\"]", ["line 2", "comma or ]"]),
        ("[\"a\",\n 3]", ["line 2", "a prompt in quotes"]),
        ("[\"a\",\n {\"prompt\":\n x}]", ["line 3", "expected value"]),
        ("[\"a\"]\n\n[", ["line 3", "nothing more"]),
    ] {
        refused("json", text, &expected);
    }
}

#[test]
fn lines_that_are_not_prompts() {
    let lines = [
        r#"{"prompt": "a", "step": 3}"#,
        r#"{"seed": 3}"#,
        r#"{"prompt": " "}"#,
        r#"{"prompt": 3}"#,
        r#"{"prompt": "a", "seed": 1, "seed": 2}"#,
        r#"{"prompt": "a", "size": {}}"#,
        r#"{"prompt": "a", "size": [[1], 2]}"#,
        r#"{"prompt": "a", "seed": "1\u001b"}"#,
        r#"{"prompt": "a\u0000"}"#,
        r#"{"prompt": "a", "name": 3}"#,
        r#"{"prompt": "a", "steps": 0}"#,
        r#"{"prompt": "a", "apg": "yes"}"#,
        r#"{"prompt": "a", "steps": true}"#,
        r#"{"prompt": "a", "size": 64, "aspect": "1:2"}"#,
        r#"{"prompt": "a", "solver": "ddim"}"#,
        r#"{"prompt": "a""#,
        "[1]",
    ];
    let expected = [
        "line 1: unknown key \"step\", known are name, prompt, negative, seed, steps, ",
        "line 2: no \"prompt\"",
        "line 3: the prompt is empty",
        "line 4: \"prompt\" must be text in quotes, not 3",
        "line 5: \"seed\" occurs twice",
        "line 6: \"size\" cannot be {}",
        "line 7: \"size\" cannot be [1]",
        "line 8: \"seed\" holds control characters",
        "line 9: \"prompt\" holds control characters",
        "line 10: \"name\" must be text in quotes",
        "line 11: invalid value '0' for '--steps <N>'",
        "line 12: unexpected value 'yes' for '--apg'",
        "line 13: a value is required for '--steps <N>'",
        "line 14: the argument '--size <WxH>' cannot be used with '--aspect <W:H>'",
        "line 15: invalid value 'ddim' for '--solver <SOLVER>' [possible values: flow-dpm, \
         flow-euler, scm]",
        "line 16: EOF",
        "line 17: invalid type",
    ];
    refused("jsonl", &lines.join("\n"), &expected);
}

#[test]
fn many_problems_are_counted() {
    refused(
        "jsonl",
        &"{}\n".repeat(25),
        &["line 20: no", "\n  and 5 more"],
    );
    let error = read(Path::new("none.txt"), &mut Problems::default()).unwrap_err();
    assert_eq!(error.to_string(), "cannot read none.txt");
}
