use super::*;

const SIZE: [usize; 2] = [128, 128];
const MEADOW: Backdrop = Backdrop::Meadow;

fn faults(prompt: SpriteContent, shown: SpriteContent, backdrop: Backdrop) -> Vec<SpriteFault> {
    let sheet = sheet();
    let [prompt, shown] = [(MEADOW, prompt), (backdrop, shown)]
        .map(|(backdrop, content)| SpritePrompt::new(&sheet, backdrop, content).unwrap());
    let image = scene(&sheet, &shown, 3, SIZE).render(&sheet);
    let verdict = SpriteEvaluator::new(&sheet).evaluate(&image, &prompt);
    assert_eq!(verdict.is_right(), verdict.faults().is_empty());
    verdict.faults().to_vec()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn each_fault_says_what_was_expected_and_found() {
    let (ball, tent) = (thing("ball"), thing("tent"));
    let one = SpriteContent::One(ball);
    assert_eq!(faults(one, one, MEADOW), []);

    let pink = Backdrop::Plain(PlainColor::Pink);
    let found = faults(one, one, pink);
    let expected = SpriteFault::Backdrop {
        expected: MEADOW,
        found: pink,
    };
    assert_eq!(found, [expected]);
    let text = "expected the backdrop \"meadow\", found \"pink\"";
    assert_eq!(found[0].to_string(), text);

    let three = SpriteContent::Several {
        count: 3,
        thing: ball,
    };
    let found = faults(one, three, MEADOW);
    let expected = SpriteFault::Count {
        expected: 1,
        found: 3,
    };
    assert_eq!(found, [expected]);
    assert_eq!(
        found[0].to_string(),
        "number of things: expected 1, found 3"
    );

    let found = faults(one, SpriteContent::One(tent), MEADOW);
    let expected = SpriteFault::Things {
        expected: names(&["ball"]),
        found: vec![Some("tent".to_owned())],
    };
    assert_eq!(found, [expected]);
    assert_eq!(found[0].to_string(), "expected ball, found tent");

    let related = |relation| SpriteContent::Related(ball, relation, tent);
    let left = related(Relation::LeftOf);
    assert_eq!(faults(left, left, MEADOW), []);
    let found = faults(left, related(Relation::RightOf), MEADOW);
    assert!(
        matches!(found[..], [SpriteFault::Relation { relation: Relation::LeftOf, x, .. }] if x > 15.0),
        "{found:?}"
    );
    // A pair may be anywhere.
    assert_eq!(faults(SpriteContent::Pair(tent, ball), left, MEADOW), []);
}

#[test]
fn what_the_sheet_does_not_have_is_something_else() {
    let all = sheet();
    let folder = tempfile::tempdir().unwrap();
    let few = write_sheet(folder.path(), 1);
    let wheel = SpriteContent::One(thing("wheel"));
    let shown = SpritePrompt::new(&all, MEADOW, wheel).unwrap();
    let image = scene(&all, &shown, 5, SIZE).render(&all);
    let prompt = SpritePrompt::new(&few, MEADOW, SpriteContent::One(0)).unwrap();
    let evaluator = SpriteEvaluator::new(&few);
    let seen = evaluator.observe(&image);
    assert_eq!(seen.things.len(), 1);
    assert_eq!(seen.things[0].thing, None);
    let verdict = evaluator.evaluate(&image, &prompt);
    assert_eq!(verdict.to_string(), "expected ball, found something else");
    assert_eq!(verdict.is_category_right(SpriteCategory::Count), Some(true));
    assert_eq!(
        verdict.is_category_right(SpriteCategory::Thing),
        Some(false)
    );
    assert_eq!(verdict.is_category_right(SpriteCategory::Position), None);
    assert_eq!(verdict.is_category_right(SpriteCategory::All), Some(false));
}

#[test]
fn an_image_of_one_pixel_is_no_trouble() {
    let evaluator = SpriteEvaluator::new(&sheet());
    for size in [[1, 1], [1, 300], [3, 2]] {
        let image = image::RgbImage::new(size[0], size[1]);
        assert!(evaluator.observe(&image).things.len() < 9);
    }
}

#[test]
fn report_is_a_table_and_json() {
    let sheet = sheet();
    let evaluator = SpriteEvaluator::new(&sheet);
    let related = |relation| {
        let content = SpriteContent::Related(thing("ball"), relation, thing("tent"));
        SpritePrompt::new(&sheet, MEADOW, content).unwrap()
    };
    let left = related(Relation::LeftOf);
    let image = scene(&sheet, &left, 3, SIZE).render(&sheet);
    let mut report = SpriteReport::default();
    assert_eq!(report.share(SpriteCategory::All), None);
    report.add(&evaluator.evaluate(&image, &left));
    report.add(&evaluator.evaluate(&image, &related(Relation::Above)));
    let table = report.to_string();
    assert!(
        table.contains("backdrop        2      2  100.0 %  34.2 to 100.0 %"),
        "{table}"
    );
    assert!(
        table.contains("position        1      2   50.0 %  9.5 to 90.5 %"),
        "{table}"
    );
    assert_eq!(table.lines().count(), 6);
    let json = serde_json::to_string(&report).unwrap();
    assert!(
        json.contains(r#""category":"position","right":1,"total":2,"interval":[0.09"#),
        "{json}"
    );
    let again: SpriteReport = serde_json::from_str(&json).unwrap();
    assert_eq!(again.categories().len(), 5);
}

/// A caption that names no backdrop is right in front of each.
#[test]
fn captions_may_leave_the_backdrop_open() {
    let sheet = sheet();
    let evaluator = SpriteEvaluator::new(&sheet);
    let one = SpriteContent::One(thing("ball"));
    let shown = SpritePrompt::new(&sheet, MEADOW, one).unwrap();
    let image = scene(&sheet, &shown, 3, SIZE).render(&sheet);
    let is_right = |text: &str| {
        let caption = SpriteCaption::parse(text, &sheet).unwrap();
        evaluator.evaluate_caption(&image, &caption).is_right()
    };
    assert!(is_right("a ball"));
    assert!(is_right("on the grass, a ball"));
    assert!(!is_right("a ball in the snow"));
    assert!(!is_right("two balls"));
}
