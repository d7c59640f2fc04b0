use rand::RngExt;

use super::*;

#[test]
fn evaluator_catches_a_wrong_number_of_objects() {
    let circle = object("a red circle", 60.0, 60.0);
    let square = object("a blue square", 180.0, 60.0);
    let extra = object("a green triangle", 60.0, 180.0);
    let count = |expected, found| Some(Fault::Count { expected, found });
    let fault = |text: &str, objects: &[Object]| evaluated(text, objects).fault().cloned();
    assert_eq!(fault("a red circle", &[]), count(1, 0));
    assert_eq!(fault("a red circle", &[circle]), None);
    assert_eq!(fault("a red circle", &[circle, square]), count(1, 2));
    assert_eq!(fault("a large red circle", &[circle, square]), count(1, 2));
    assert_eq!(
        fault("a red circle and a blue square", &[circle]),
        count(2, 1)
    );
    assert_eq!(
        fault("a red circle and a blue square", &[square, circle]),
        None
    );
    assert_eq!(
        fault("a red circle and a blue square", &[circle, square, extra]),
        count(2, 3)
    );
    assert_eq!(
        fault(
            "a red circle left of a blue square",
            &[circle, square, extra]
        ),
        count(2, 3)
    );
    assert_eq!(
        fault("a red circle left of a blue square", &[square]),
        count(2, 1)
    );

    let third = Object {
        center: (180.0, 60.0),
        ..circle
    };
    let fourth = Object {
        center: (180.0, 180.0),
        ..circle
    };
    assert_eq!(fault("two red circles", &[circle, third]), None);
    assert_eq!(fault("three red circles", &[circle, third]), count(3, 2));
    assert_eq!(fault("three red circles", &[circle, third, fourth]), None);
    assert_eq!(
        fault("two red circles", &[circle, third, fourth]),
        count(2, 3)
    );
    let touching = Object {
        center: (115.0, 60.0),
        ..circle
    };
    assert_eq!(fault("two red circles", &[circle, touching]), count(2, 1));
}

#[test]
fn evaluator_catches_wrong_shapes_colours_and_sizes() {
    let wrong = |text: &str, objects: &[Object]| {
        assert!(
            matches!(
                evaluated(text, objects).fault(),
                Some(Fault::Objects { .. })
            ),
            "{text}"
        );
    };
    let right = |text: &str, objects: &[Object]| {
        assert!(
            evaluated(text, objects).is_right(),
            "{text}: {}",
            evaluated(text, objects)
        );
    };
    let circle = object("a red circle", 60.0, 60.0);
    for shape in ["circle", "square", "triangle"] {
        let drawn = object(&format!("a red {shape}"), 60.0, 60.0);
        for said in ["circle", "square", "triangle"] {
            let text = format!("a red {said}");
            if said == shape {
                right(&text, &[drawn])
            } else {
                wrong(&text, &[drawn])
            }
        }
    }
    right("a blue circle", &[circle]);
    right("a large red circle", &[circle]);
    wrong("a large blue circle", &[circle]);
    wrong("a large red square", &[circle]);

    let blue_square = object("a blue square", 180.0, 60.0);
    let (blue_circle, red_square) = (
        object("a blue circle", 60.0, 60.0),
        object("a red square", 180.0, 60.0),
    );
    let text = "a red circle and a blue square";
    right(text, &[circle, blue_square]);
    wrong(text, &[blue_circle, red_square]);
    wrong(text, &[circle, red_square]);
    wrong(
        text,
        &[
            circle,
            Object {
                center: (180.0, 60.0),
                ..circle
            },
        ],
    );
    wrong("two red circles", &[circle, blue_square]);
    wrong(
        "two red circles",
        &[
            circle,
            Object {
                center: (180.0, 180.0),
                ..blue_circle
            },
        ],
    );
    wrong(
        "a red circle left of a blue square",
        &[blue_circle, red_square],
    );

    let text = "a small yellow triangle and a large orange circle";
    let small = object("a small yellow triangle", 60.0, 60.0);
    let large = object("a large orange circle", 180.0, 160.0);
    right(text, &[small, large]);
    right(text, &[large, small]);
    let swapped_sizes = [
        Object {
            extent: 96.0,
            ..small
        },
        Object {
            extent: 40.0,
            ..large
        },
    ];
    wrong(text, &swapped_sizes);
    wrong(
        text,
        &[
            Object {
                rgb: large.rgb,
                ..small
            },
            Object {
                rgb: small.rgb,
                ..large
            },
        ],
    );
    wrong(
        text,
        &[
            Object {
                extent: 64.0,
                ..small
            },
            large,
        ],
    );
    let medium = evaluated(
        text,
        &[
            Object {
                extent: 64.0,
                ..small
            },
            large,
        ],
    );
    assert_eq!(
        medium.to_string(),
        "expected small yellow triangle + large orange circle, \
         found medium yellow triangle + large orange circle"
    );
}

#[test]
fn evaluator_catches_a_wrong_relation() {
    let at = |x, y| {
        [
            object("a red circle", x, y),
            object("a blue square", 128.0, 128.0),
        ]
    };
    let says = |relation: &str| format!("a red circle {relation} a blue square");
    for (x, y, true_relation) in [
        (40.0, 120.0, "left of"),
        (210.0, 140.0, "right of"),
        (120.0, 40.0, "above"),
        (135.0, 210.0, "below"),
        (45.0, 60.0, "left of"),
    ] {
        for relation in ["left of", "right of", "above", "below"] {
            let verdict = evaluated(&says(relation), &at(x, y));
            assert_eq!(
                verdict.is_right(),
                relation == true_relation,
                "{relation} at {x}, {y}"
            );
            let mirrored = Relation::ALL
                .into_iter()
                .find(|r| r.words() == relation)
                .unwrap();
            let mirrored = format!("a blue square {} a red circle", mirrored.inverse());
            assert_eq!(
                evaluated(&mirrored, &at(x, y)).is_right(),
                verdict.is_right()
            );
        }
    }
    let verdict = evaluated(&says("left of"), &at(210.0, 128.0));
    let fault = Fault::Relation {
        relation: Relation::LeftOf,
        x: 82.0,
        y: 0.0,
    };
    assert_eq!(verdict.fault(), Some(&fault));

    // Small objects 10 px apart along a diagonal: the distance of 24 px decides.
    let close = |dx: f32| {
        [
            object("a small red circle", 100.0, 100.0),
            object("a small blue square", 100.0 + dx, 100.0),
        ]
        .map(|o| Object { extent: 20.0, ..o })
    };
    assert!(evaluated(&says("left of"), &close(25.0)).is_right());
    assert!(!evaluated(&says("left of"), &close(23.0)).is_right());
}

#[test]
fn evaluator_catches_a_wrong_background() {
    let square = object("a large purple square", 128.0, 128.0);
    let on = |background| image(background, &[square]);
    for said in Background::ALL {
        let prompt = prompt(&format!("a large purple square on a {said} background"));
        for drawn in Background::ALL {
            let verdict = evaluate(&on(drawn), &prompt);
            assert_eq!(verdict.is_right(), said == drawn, "{verdict}");
        }
    }
    let white = prompt("a large purple square");
    let fault = Fault::Background {
        expected: Background::White,
        found: [0; 3],
    };
    assert_eq!(
        evaluate(&on(Background::Black), &white).fault(),
        Some(&fault)
    );
}

#[test]
fn evaluator_accepts_any_image() {
    let prompt = prompt("a red circle");
    let mut rng = rng(11);
    for size in [0, 1, 2, 31, 64] {
        let noise = (0..3 * size * size).map(|_| rng.random()).collect();
        let _ = evaluate(&SceneImage::new(size, noise).unwrap(), &prompt);
    }
    let specks = image(
        Background::White,
        &[Object {
            extent: 6.0,
            ..object("a red square", 50.0, 50.0)
        }],
    );
    assert!(observe(&specks).regions.is_empty());
}

#[test]
fn observation_measures_the_objects() {
    let drawn = object("a large orange triangle", 150.0, 110.0);
    let scene = Scene {
        background: Background::Gray,
        objects: vec![drawn],
    };
    for canvas in [128, 256, 512] {
        let seen = observe(&scene.render(canvas));
        assert_eq!(seen.background, [128; 3]);
        let [region] = seen.regions.as_slice() else {
            panic!("{seen:?}")
        };
        assert_eq!(region.kind, drawn.kind);
        assert_eq!(region.rgb, drawn.rgb);
        assert!((region.extent.0 - 96.0).abs() <= 4.0 && (region.extent.1 - 83.1).abs() <= 4.0);
        assert!((region.center.0 - 150.0).abs() <= 2.0 && (region.center.1 - 110.0).abs() <= 2.0);
        assert!((region.area / 3990.0 - 1.0).abs() < 0.1, "{region:?}");
    }
}

#[test]
fn report_is_a_table_and_json() {
    let mut report = Report::default();
    assert_eq!(report.overall(), None);
    let right = evaluated("a red circle", &[object("a red circle", 60.0, 60.0)]);
    let wrong = evaluated("a red circle", &[]);
    report.add(Category::SingleObject, &right);
    report.add(Category::SingleObject, &wrong);
    report.add(Category::Counting, &right);
    assert_eq!(report.share(Category::SingleObject), Some(0.5));
    assert_eq!(report.share(Category::Position), None);
    assert_eq!(report.overall(), Some(0.75));

    let table = report.to_string();
    assert_eq!(table.lines().count(), 8);
    assert!(
        table.contains("single object           1      2   50.0 %  9.5 to 90.5 %"),
        "{table}"
    );
    assert!(table.ends_with("75.0 %"), "{table}");
    let json = serde_json::to_string(&report).unwrap();
    assert!(
        json.contains(r#"{"category":"colours","right":0,"total":0}"#),
        "{json}"
    );
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
}
