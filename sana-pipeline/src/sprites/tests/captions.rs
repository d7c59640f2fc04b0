use super::{rng, sheet};
use crate::sprites::{
    Backdrop, PlainColor, Relation, SpriteCaption, SpriteContent, SpritePrompt, SpriteSheet,
};

fn parse(text: &str, sheet: &SpriteSheet) -> (SpriteContent, Option<Backdrop>) {
    let caption = SpriteCaption::parse(text, sheet).unwrap_or_else(|error| panic!("{error}"));
    (caption.content(), caption.backdrop())
}

#[test]
fn every_phrasing_is_read() {
    let sheet = sheet();
    let mut rng = rng(3);
    let mut open = 0;
    for _ in 0..3000 {
        let prompt = SpritePrompt::sample_training(&sheet, &mut rng);
        let text = prompt.caption(&sheet, &mut rng);
        let caption = SpriteCaption::parse(&text, &sheet).unwrap_or_else(|error| panic!("{error}"));
        open += usize::from(caption.backdrop().is_none());
        assert_eq!(caption.prompt(prompt.backdrop()), prompt, "{text}");
        let (content, backdrop) = parse(&prompt.canonical(&sheet), &sheet);
        assert_eq!(
            (content, backdrop),
            (prompt.content(), Some(prompt.backdrop()))
        );
    }
    // A tenth names no backdrop.
    assert!((200..400).contains(&open), "{open}");
}

#[test]
fn what_people_type() {
    let sheet = sheet();
    use SpriteContent::{One, Pair, Related, Several};
    let three = Several { count: 3, thing: 2 };
    let left = Related(0, Relation::LeftOf, 1);
    for (text, content, backdrop) in [
        ("  The ORB, in the snow. ", One(0), Some(Backdrop::Snow)),
        ("3 rings at sea", three, Some(Backdrop::Sea)),
        ("one disc", One(0), None),
        ("at night a disc, drops", Pair(0, 3), Some(Backdrop::Night)),
        (
            "disc to the left of bar indoors",
            left,
            Some(Backdrop::Room),
        ),
        // The sea is also what one is under.
        ("a bar under the sea", One(1), Some(Backdrop::Underwater)),
        (
            "on white, a bar",
            One(1),
            Some(Backdrop::Plain(PlainColor::White)),
        ),
    ] {
        assert_eq!(parse(text, &sheet), (content, backdrop), "{text}");
    }
}

#[test]
fn what_is_no_caption() {
    let sheet = sheet();
    for (text, expected) in [
        ("", "expected the name of a thing, found its end"),
        ("a cat", "expected the name of a thing, found \"cat\""),
        ("two disc", "expected several of a thing, found \"disc\""),
        ("a disc and", "expected the name of a thing, found its end"),
        (
            "a disc to the top of a bar",
            "expected left of or right of, found \"top of a bar\"",
        ),
        (
            "a disc on the moon",
            "expected \"and\", a relation, a backdrop or the end, found \"on the moon\"",
        ),
        (
            "in the snow a disc near a bar",
            "expected \"and\", a relation or the end, found \"near a bar\"",
        ),
        (
            "a disc above a bar on top",
            "expected a backdrop or the end, found \"on top\"",
        ),
        (
            "a disc in the snow at night",
            "expected the end, found \"at night\"",
        ),
        ("four discs", "expected two or three discs, found 4"),
        ("a disc and an orb", "the two things are both \"disc\""),
        ("two dropses", "found \"dropses\""),
    ] {
        let error = SpriteCaption::parse(text, &sheet).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

/// The longest name counts, wherever it is in the list.
#[test]
fn names_within_names() {
    let folder = tempfile::tempdir().unwrap();
    super::write_sheet(folder.path());
    let list = super::LIST
        .replace("\"name\": \"ring\"", "\"name\": \"bar disc\"")
        .replace("\"drops\"", "\"bar disc box\"");
    std::fs::write(folder.path().join("sprites.json"), list).unwrap();
    let sheet = SpriteSheet::open(folder.path()).unwrap();
    let one = |text| parse(text, &sheet).0;
    assert_eq!(one("a bar"), SpriteContent::One(1));
    assert_eq!(one("a bar disc"), SpriteContent::One(2));
    assert_eq!(one("a bar disc box in winter"), SpriteContent::One(3));
}
