//! Token ids against the reference.

use sana_linear_attn::parity::fixture_path;
use sana_text::GemmaTokenizer;
use serde_json::Value;

use crate::ROOT;

#[test]
fn ids_equal_the_reference() {
    let path = |name| fixture_path(ROOT, name);
    let tokenizer = GemmaTokenizer::from_folder(&path("text/tokenizer")).unwrap();
    let cases: Value =
        serde_json::from_slice(&std::fs::read(path("text/tokenizer_cases.json")).unwrap()).unwrap();
    let cases = cases.as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let expected: Vec<u32> = case["ids"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| id.as_u64().unwrap() as u32)
            .collect();
        assert_eq!(tokenizer.encode(text).unwrap(), expected, "{text:?}");
        for limit in 1..=expected.len() {
            let cut = tokenizer.encode_limited(text, limit).unwrap();
            assert_eq!(cut.ids, expected[..limit], "{text:?} cut to {limit}");
            assert_eq!(
                cut.dropped,
                expected.len() - limit,
                "{text:?} cut to {limit}"
            );
        }
    }
}
