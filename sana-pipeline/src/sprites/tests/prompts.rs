use std::collections::HashSet;

use super::{rng, sheet};
use crate::scenes::Relation;
use crate::sprites::{Backdrop, PlainColor, SpriteContent, SpriteError, SpritePrompt, SpriteSheet};

#[test]
fn canonical_phrasings() {
    let sheet = sheet();
    let text = |backdrop, content| {
        SpritePrompt::new(&sheet, backdrop, content)
            .unwrap()
            .canonical(&sheet)
    };
    use SpriteContent::{One, Pair, Related, Several};
    assert_eq!(text(Backdrop::Snow, One(0)), "a disc in the snow");
    let two = Several { count: 2, thing: 1 };
    assert_eq!(text(Backdrop::Table, two), "two bars on a wooden table");
    assert_eq!(
        text(Backdrop::Night, Related(2, Relation::LeftOf, 3)),
        "a ring left of drops at night"
    );
    assert_eq!(
        text(Backdrop::Plain(PlainColor::Orange), Pair(0, 1)),
        "a disc and a bar on an orange background"
    );
}

#[test]
fn phrasings_vary() {
    let sheet = sheet();
    let content = SpriteContent::Related(0, Relation::RightOf, 1);
    let prompt = SpritePrompt::new(&sheet, Backdrop::Beach, content).unwrap();
    let mut rng = rng(1);
    let found: HashSet<String> = (0..30_000)
        .map(|_| prompt.caption(&sheet, &mut rng))
        .collect();
    for text in [
        "a disc right of a bar on the beach",
        "a disc to the right of a bar",
        "On the sand, disc right of bar",
        "an orb to the right of a bar on a beach",
    ] {
        assert!(found.contains(text), "{text}");
    }
    // Articles, "to the", synonym and capital of the unnamed backdrop; phrase and place of the named.
    assert_eq!(found.len(), 16 + 16 * 3 * 2);
}

#[test]
fn prompts_that_make_no_sense() {
    let sheet = sheet();
    let refused = |content| SpritePrompt::new(&sheet, Backdrop::Sky, content).unwrap_err();
    let several = |count, thing| SpriteContent::Several { count, thing };
    assert!(matches!(
        refused(SpriteContent::One(4)),
        SpriteError::Thing { found: 4, count: 4 }
    ));
    assert!(matches!(
        refused(several(2, 3)),
        SpriteError::Uncountable { .. }
    ));
    assert_eq!(
        refused(several(4, 0)).to_string(),
        "expected two or three discs, found 4"
    );
    assert!(matches!(
        refused(SpriteContent::Pair(1, 1)),
        SpriteError::Indistinct { .. }
    ));
}

#[test]
fn one_in_ten_is_held_out() {
    let sheet = sheet();
    let mut rng = rng(2);
    for _ in 0..500 {
        assert!(!SpritePrompt::sample_training(&sheet, &mut rng).is_held_out(&sheet));
    }
    let held_out = SpritePrompt::held_out(&sheet, 40, 0);
    assert_eq!(held_out, SpritePrompt::held_out(&sheet, 40, 0));
    assert_ne!(held_out, SpritePrompt::held_out(&sheet, 40, 1));
    assert!(held_out.iter().all(|prompt| prompt.is_held_out(&sheet)));
    assert_eq!(held_out.iter().collect::<HashSet<_>>().len(), 40);
    // A fourth each of what is tested, until there are no more of a kind.
    let first = SpritePrompt::held_out(&sheet, 16, 0);
    assert_eq!(first, held_out[..16]);
    let related = first
        .iter()
        .filter(|prompt| prompt.content().relation().is_some());
    assert_eq!(related.count(), 4);

    let all = Backdrop::all().flat_map(|backdrop| {
        (0..4).flat_map(move |first| {
            (0..4).flat_map(move |second| Relation::ALL.map(|by| (backdrop, first, by, second)))
        })
    });
    let prompts: Vec<SpritePrompt> = all
        .filter_map(|(backdrop, first, by, second)| {
            SpritePrompt::new(&sheet, backdrop, SpriteContent::Related(first, by, second)).ok()
        })
        .collect();
    let share = prompts
        .iter()
        .filter(|prompt| prompt.is_held_out(&sheet))
        .count() as f64
        / prompts.len() as f64;
    assert!((0.07..0.13).contains(&share), "{share}");
}

/// Other plurals and more things leave the rest where it was.
#[test]
fn hashes_depend_on_names_alone() {
    let folder = tempfile::tempdir().unwrap();
    super::write_sheet(folder.path());
    let list = super::LIST.replace("\"discs\"", "\"disks\"");
    std::fs::write(folder.path().join("sprites.json"), list).unwrap();
    let (before, after) = (sheet(), SpriteSheet::open(folder.path()).unwrap());
    let two = SpriteContent::Several { count: 2, thing: 0 };
    let prompt = SpritePrompt::new(&before, Backdrop::Sea, two).unwrap();
    assert_eq!(prompt.stable_hash(&before), prompt.stable_hash(&after));
    assert_ne!(prompt.canonical(&before), prompt.canonical(&after));
}

/// What asks for the same image is held out together.
#[test]
fn mirrored_words_share_a_hash() {
    let sheet = sheet();
    let hash = |content| {
        SpritePrompt::new(&sheet, Backdrop::City, content)
            .unwrap()
            .stable_hash(&sheet)
    };
    use SpriteContent::{Pair, Related};
    assert_eq!(hash(Pair(0, 1)), hash(Pair(1, 0)));
    let [left, right] = [Relation::LeftOf, Relation::RightOf];
    assert_eq!(hash(Related(0, left, 1)), hash(Related(1, right, 0)));
    assert_ne!(hash(Related(0, left, 1)), hash(Related(1, left, 0)));
}
