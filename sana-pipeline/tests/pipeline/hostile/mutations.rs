//! Small changes of valid files.

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value, json};

/// A change of bytes; places are taken modulo the length.
#[derive(Debug, Clone)]
pub enum Edit {
    FlipBit(Index, u8),
    Overwrite(Index, Vec<u8>),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Duplicate(Index, usize),
    Truncate(Index),
}

/// One to four edits.
pub fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let at = any::<Index>;
    let few = || prop::collection::vec(any::<u8>(), 1..9);
    let edit = prop_oneof![
        4 => (at(), 0u8..8).prop_map(|(at, bit)| Edit::FlipBit(at, bit)),
        2 => (at(), few()).prop_map(|(at, bytes)| Edit::Overwrite(at, bytes)),
        1 => (at(), few()).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        1 => (at(), 1usize..40).prop_map(|(at, length)| Edit::Remove(at, length)),
        1 => (at(), 1usize..40).prop_map(|(at, length)| Edit::Duplicate(at, length)),
        1 => at().prop_map(Edit::Truncate),
    ];
    prop::collection::vec(edit, 1..5)
}

/// A file after the edits.
pub fn edited(file: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for edit in edits {
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len();
        match edit {
            Edit::FlipBit(at, bit) => bytes[at.index(length)] ^= 1 << bit,
            Edit::Overwrite(at, new) => {
                let start = at.index(length);
                let end = length.min(start + new.len());
                bytes[start..end].copy_from_slice(&new[..end - start]);
            }
            Edit::Insert(at, new) => {
                let start = at.index(length);
                bytes.splice(start..start, new.iter().copied());
            }
            Edit::Remove(at, count) => {
                let start = at.index(length);
                bytes.drain(start..length.min(start + count));
            }
            Edit::Duplicate(at, count) => {
                let start = at.index(length);
                let copy = bytes[start..length.min(start + count)].to_vec();
                bytes.splice(start..start, copy);
            }
            Edit::Truncate(at) => bytes.truncate(at.index(length)),
        }
    }
    bytes
}

/// A change of a JSON file; places count all values of the file.
#[derive(Debug, Clone)]
pub enum JsonEdit {
    /// Another value, written as it is here.
    Replace(Index, String),
    /// A key or an element less.
    Delete(Index),
    /// A key twice in one object, with this value the second time.
    Repeat(Index, String),
}

/// Values that readers stumble over, as JSON or nearly so.
fn awkward() -> impl Strategy<Value = String> {
    let fixed = [
        "0",
        "-1",
        "1",
        "2",
        "3",
        "7",
        "1000000000",
        "4294967295",
        "4294967296",
        "9223372036854775807",
        "18446744073709551615",
        "18446744073709551616",
        "1e18",
        "1e308",
        "1e999",
        "1e-320",
        "-0.0",
        "0.5",
        "NaN",
        "Infinity",
        "-Infinity",
        "null",
        "true",
        "\"\"",
        "\"\\u0000\"",
        "\"a\"",
        "\"\\ud800\"",
        "[]",
        "{}",
        "[[]]",
        "[0]",
        "[18446744073709551615]",
        "[0, 9223372036854775808, 9223372036854775808]",
        "{\"a\": 1, \"a\": 2}",
        "[null]",
        "{\"type\": \"Sequence\"}",
        "",
    ];
    prop_oneof![
        20 => prop::sample::select(fixed.to_vec()).prop_map(str::to_owned),
        2 => any::<i64>().prop_map(|number| number.to_string()),
        2 => any::<f64>().prop_map(|number| number.to_string()),
        2 => ".{0,12}".prop_map(|text| Value::String(text).to_string()),
        1 => (1usize..300).prop_map(|depth| "[".repeat(depth) + &"]".repeat(depth)),
        1 => (1usize..300).prop_map(|depth| "{\"a\":".repeat(depth) + "0" + &"}".repeat(depth)),
        1 => (1usize..2000).prop_map(|length| format!("[{}0]", "1,".repeat(length))),
        1 => (1usize..4000).prop_map(|length| format!("\"{}\"", "a".repeat(length))),
    ]
}

/// One to three changes of a JSON file.
pub fn json_edits() -> impl Strategy<Value = Vec<JsonEdit>> {
    let at = any::<Index>;
    let edit = prop_oneof![
        4 => (at(), awkward()).prop_map(|(at, value)| JsonEdit::Replace(at, value)),
        1 => at().prop_map(JsonEdit::Delete),
        1 => (at(), awkward()).prop_map(|(at, value)| JsonEdit::Repeat(at, value)),
    ];
    prop::collection::vec(edit, 1..4)
}

/// A placeholder for a text that is not a JSON value until the whole is written.
fn placeholder(index: usize) -> String {
    format!("placeholder-of-an-edit-{index}")
}

/// The text of a JSON file after the changes. Lists of more than a hundred elements and objects
/// of more than a hundred keys count as far as the hundredth.
pub fn json_edited(file: &Value, edits: &[JsonEdit]) -> String {
    let mut file = file.clone();
    let mut texts = Vec::new();
    for (index, edit) in edits.iter().enumerate() {
        let mut paths = Vec::new();
        collect(&file, String::new(), &mut paths);
        let hold = |texts: &mut Vec<(String, String)>, text: &str| {
            let held = placeholder(index);
            texts.push((format!("\"{held}\""), text.to_owned()));
            held
        };
        match edit {
            JsonEdit::Replace(at, text) => {
                let path = &paths[at.index(paths.len())];
                let held = hold(&mut texts, text);
                if let Some(place) = file.pointer_mut(path) {
                    *place = Value::String(held);
                }
            }
            JsonEdit::Delete(at) => {
                let path = &paths[at.index(paths.len())];
                delete(&mut file, path);
            }
            JsonEdit::Repeat(at, text) => {
                let path = &paths[at.index(paths.len())];
                if let Some(Value::Object(map)) = file.pointer_mut(path) {
                    let Some((key, first)) = map.iter().next() else {
                        continue;
                    };
                    let (key, first) = (json!(key), first.clone());
                    let held = hold(&mut texts, text);
                    // "key": first, "key": text
                    let second = format!("{first}, {key}: {text}");
                    texts.pop();
                    texts.push((format!("\"{held}\""), second));
                    let key = key.as_str().unwrap_or_default().to_owned();
                    map.insert(key, Value::String(held));
                }
            }
        }
    }
    let mut text = file.to_string();
    // The last held text may stand inside an earlier one.
    for (held, with) in texts.iter().rev() {
        text = text.replace(held, with);
    }
    for (held, with) in &texts {
        text = text.replace(held, with);
    }
    text
}

fn collect(value: &Value, path: String, paths: &mut Vec<String>) {
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate().take(100) {
                collect(item, format!("{path}/{index}"), paths);
            }
        }
        Value::Object(map) => {
            for (key, item) in map.iter().take(100) {
                let key = key.replace('~', "~0").replace('/', "~1");
                collect(item, format!("{path}/{key}"), paths);
            }
        }
        _ => {}
    }
    paths.push(path);
}

fn delete(file: &mut Value, path: &str) {
    let Some((parent, last)) = path.rsplit_once('/') else {
        *file = Value::Object(Map::new());
        return;
    };
    match file.pointer_mut(parent) {
        Some(Value::Object(map)) => {
            map.remove(&last.replace("~1", "/").replace("~0", "~"));
        }
        Some(Value::Array(items)) => {
            if let Ok(index) = last.parse::<usize>() {
                items.remove(index);
            }
        }
        _ => {}
    }
}

#[test]
fn edits_do_what_they_say() {
    let at = |index: usize| {
        // An index of a slice as long as this one is itself.
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        loop {
            let tree = any::<Index>().new_tree(&mut runner).expect("a value");
            let found = proptest::strategy::ValueTree::current(&tree);
            if found.index(4) == index {
                return found;
            }
        }
    };
    assert_eq!(edited(b"abcd", &[Edit::FlipBit(at(1), 0)]), b"accd");
    assert_eq!(
        edited(b"abcd", &[Edit::Overwrite(at(3), vec![0; 9])]),
        b"abc\0"
    );
    assert_eq!(edited(b"abcd", &[Edit::Remove(at(1), 2)]), b"ad");
    assert_eq!(edited(b"abcd", &[Edit::Duplicate(at(2), 9)]), b"abcdcd");
    assert_eq!(edited(b"abcd", &[Edit::Truncate(at(2))]), b"ab");
    assert_eq!(
        edited(b"abcd", &[Edit::Insert(at(0), vec![9])]),
        b"\x09abcd"
    );

    // Values in this order: /a, /b/0, /b, and the whole.
    let file = json!({"a": 1, "b": [2]});
    let replaced = json_edited(&file, &[JsonEdit::Replace(at(1), "NaN".to_owned())]);
    assert_eq!(replaced, r#"{"a":1,"b":[NaN]}"#);
    let deleted = json_edited(&file, &[JsonEdit::Delete(at(0))]);
    assert_eq!(deleted, r#"{"b":[2]}"#);
    let repeated = json_edited(&file, &[JsonEdit::Repeat(at(3), "7".to_owned())]);
    assert_eq!(repeated, r#"{"a":1, "a": 7,"b":[2]}"#);
}
