use std::collections::HashSet;

use super::*;

#[test]
fn captions_vary_and_read_back_as_their_prompt() {
    let mut rng = rng(1);
    let mut phrasings = HashSet::new();
    for index in 0..60_000 {
        let prompt = ScenePrompt::sample(&mut rng, Category::ALL[index % 6]);
        for text in [prompt.canonical(), prompt.caption(&mut rng)] {
            let read = ScenePrompt::parse(&text).unwrap();
            assert_eq!(read.content(), prompt.content(), "{text}");
            assert_eq!(read.background(), prompt.background(), "{text}");
            if prompt.category() != Category::SingleObject {
                assert_eq!(read, prompt, "{text}");
            }
        }
        assert_eq!(
            ScenePrompt::parse(&prompt.canonical()).unwrap().canonical(),
            prompt.canonical()
        );
    }
    let fixed = prompt("an orange circle to the left of a large red square");
    for _ in 0..2000 {
        phrasings.insert(fixed.caption(&mut rng));
    }
    assert_eq!(
        phrasings.len(),
        2 * 2 * 3 * 3,
        "article, relation, background, letters"
    );
}

#[test]
fn phrasings_of_the_specification() {
    for (text, category) in [
        ("a red circle", Category::SingleObject),
        (
            "a large purple square on a black background",
            Category::Colors,
        ),
        ("a red circle and a blue square", Category::TwoObjects),
        ("three green triangles", Category::Counting),
        ("a red circle left of a blue square", Category::Position),
        (
            "a small yellow triangle and a large orange circle",
            Category::AttributeBinding,
        ),
    ] {
        assert_eq!(prompt(text).category(), category);
        assert_eq!(prompt(text).canonical(), text);
    }
    let same = "a red circle and an orange square on a gray background";
    for text in [
        "Red circle, orange square, on gray background.",
        "ON A GRAY BACKGROUND A RED CIRCLE, AN ORANGE SQUARE",
        " on the grey background ,one red circle and orange square",
    ] {
        assert_eq!(prompt(text).canonical(), same);
    }
    assert_eq!(
        prompt("4 large red squares").canonical(),
        "four large red squares"
    );
}

#[test]
fn other_texts_are_refused() {
    let refused = |text: &str| ScenePrompt::parse(text).unwrap_err();
    for (text, expected, found) in [
        ("a red dog", "circle, square or triangle", "dog"),
        ("a pink circle", "a colour", "pink"),
        ("two red circle", "circles, squares or triangles", "circle"),
        ("a red circle a blue square", "the end", "a"),
        (
            "a red circle to the above a blue square",
            "left or right",
            "above",
        ),
        ("a red circle left a blue square", "of", "a"),
        ("a red circle to left of a blue square", "the", "left"),
        (
            "a red circle on a green background",
            "white, black or gray",
            "green",
        ),
        (
            "on black background a red circle on black background",
            "the end",
            "on",
        ),
        ("a red circle on a black canvas", "background", "canvas"),
    ] {
        let found = found.to_owned();
        let error = SceneError::UnexpectedWord {
            text: text.to_owned(),
            expected,
            found,
        };
        assert_eq!(refused(text), error);
    }
    for (text, expected) in [
        ("", "a colour"),
        ("a red circle and", "a colour"),
        (",", "a colour"),
    ] {
        match refused(text) {
            SceneError::UnexpectedEnd { expected: e, .. }
            | SceneError::UnexpectedWord { expected: e, .. } => assert_eq!(e, expected),
            error => panic!("{error}"),
        }
    }
    assert_eq!(
        refused("a red").to_string(),
        "\"a red\" is not in the scene language: expected circle, square or triangle, found its end"
    );

    let kind = object("a black circle", 0.0, 0.0).kind;
    let background = Background::Black;
    let invisible = SceneError::Invisible {
        object: kind,
        background,
    };
    assert_eq!(refused("a black circle on a black background"), invisible);
    assert_eq!(
        refused("a black circle and black circle"),
        SceneError::Indistinct { object: kind }
    );
    assert_eq!(
        refused("a black circle left of a black circle"),
        SceneError::Indistinct { object: kind }
    );
    for count in [0, 1, 5] {
        let content = Content::Several { count, kind };
        let error = SceneError::Count { found: count };
        assert_eq!(ScenePrompt::new(Background::White, content), Err(error));
    }
}

#[test]
fn samples_keep_the_rules_of_their_category() {
    let mut rng = rng(2);
    for index in 0..30_000 {
        let category = Category::ALL[index % 6];
        let prompt = ScenePrompt::sample(&mut rng, category);
        let kinds = prompt.content().kinds();
        assert_eq!(prompt.category(), category);
        assert!(
            kinds
                .iter()
                .all(|kind| prompt.background().shows(kind.color))
        );
        if let Content::Pair(a, b) | Content::Related(a, _, b) = prompt.content() {
            assert!(
                a.shape != b.shape || a.color != b.color,
                "{}",
                prompt.canonical()
            );
            if category == Category::AttributeBinding {
                assert!(a.shape != b.shape && a.color != b.color && a.size != b.size);
                assert!(a.size != Size::Medium && b.size != Size::Medium);
            }
        }
    }
}

#[test]
fn one_prompt_in_ten_is_held_out_of_training() {
    let mut rng = rng(3);
    for category in Category::ALL {
        let distinct: HashSet<ScenePrompt> = (0..20_000)
            .map(|_| ScenePrompt::sample(&mut rng, category))
            .collect();
        let held_out = distinct
            .iter()
            .filter(|prompt| prompt.is_held_out())
            .count();
        let share = held_out as f64 / distinct.len() as f64;
        // Three standard deviations of a coin of one tenth.
        let slack = 3.0 * (0.09 / distinct.len() as f64).sqrt();
        println!("{category}: {held_out} of {} held out", distinct.len());
        assert!((share - 0.1).abs() < slack, "{category}: {share}");
    }

    let held_out: HashSet<String> = ScenePrompt::held_out_set(300, 5)
        .iter()
        .map(ScenePrompt::canonical)
        .collect();
    let mut seen = [0; 6];
    for _ in 0..60_000 {
        let prompt = ScenePrompt::sample_training(&mut rng);
        assert!(
            !held_out.contains(&prompt.canonical()),
            "{}",
            prompt.canonical()
        );
        seen[prompt.category() as usize] += 1;
    }
    assert!(
        seen.iter().all(|count| (9_500..10_500).contains(count)),
        "{seen:?}"
    );
}

#[test]
fn held_out_prompts_are_distinct_while_there_are_more() {
    for category in Category::ALL {
        let prompts = ScenePrompt::held_out(category, 100, 0);
        let distinct: HashSet<_> = prompts.iter().collect();
        println!("{category}: {} distinct of 100", distinct.len());
        assert_eq!(prompts.len(), 100);
        assert_eq!(prompts, ScenePrompt::held_out(category, 100, 0));
        assert!(
            prompts
                .iter()
                .all(|p| p.is_held_out() && p.category() == category)
        );
        let few = matches!(
            category,
            Category::SingleObject | Category::Colors | Category::Counting
        );
        assert!(
            distinct.len() == 100 || few && distinct.len() >= 12,
            "{category}"
        );
        for (index, prompt) in prompts.iter().enumerate() {
            assert_eq!(prompt, &prompts[index % distinct.len()]);
        }
    }
    let set = ScenePrompt::held_out_set(3, 1);
    let categories: Vec<_> = set.iter().map(ScenePrompt::category).collect();
    assert_eq!(
        categories,
        Category::ALL.map(|category| [category; 3]).concat()
    );
    assert_ne!(set, ScenePrompt::held_out_set(3, 2));
}

#[test]
fn phrasings_of_the_same_image_are_held_out_together() {
    for (a, b) in [
        (
            "a red circle and a blue square",
            "a blue square and a red circle",
        ),
        (
            "a red circle left of a blue square",
            "a blue square right of a red circle",
        ),
        (
            "a red circle above a blue square",
            "a blue square below a red circle",
        ),
    ] {
        assert_eq!(prompt(a).stable_hash(), prompt(b).stable_hash());
        assert_ne!(prompt(a).canonical(), prompt(b).canonical());
    }
    assert_ne!(
        prompt("a red circle left of a blue square").stable_hash(),
        prompt("a blue square left of a red circle").stable_hash()
    );
    // FNV-1a of the text, so that other programs can tell which prompts are held out.
    assert_eq!(prompt("a red circle").stable_hash(), 0x6ae3_3d74_ebd0_574d);
}
