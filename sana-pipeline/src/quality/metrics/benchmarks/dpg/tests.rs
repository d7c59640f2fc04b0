use super::*;

const CSV: &str = "\
item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language
skipped,a,,1,0,entity,whole,entity - whole (x),Is this left out?
p1,\"A red car, and \"\"a dog\"\"\",,1,0,entity,whole,entity - whole (car),Is there a car?
p1,\"A red car, and \"\"a dog\"\"\",,2,1,attribute,color,\"attribute - color (car, red)\",\"Is the car red, or not?\"
p1,\"A red car, and \"\"a dog\"\"\",,3,0,entity,whole,entity - whole (dog),Is there a dog?
p1,\"A red car, and \"\"a dog\"\"\",,4,\"2,3\",relation,spatial,\"relation - spatial (car, dog, left)\",Is the red car left of the dog?
p2,b,,1,0,global,,global (photo),Is it a photo?
";

/// What the official script writes of one image.
fn detail(path: &str, place: &str, answers: &[&str]) -> String {
    let questions: &[&str] = match path.contains("p1") {
        true => &[
            "Is there a car?",
            "Is the car red, or not?",
            "Is there a dog?",
            "Is the red car left of the dog?",
        ],
        false => &["Is it a photo?"],
    };
    let lines = questions.iter().zip(answers);
    lines
        .map(|(question, answer)| format!("{path}, {place}, {question}, {answer}\n"))
        .collect()
}

const PLACES: [&str; 2] = ["(0, 0, 64, 64)", "(64, 0, 128, 64)"];

fn score(details: &[String]) -> Result<DpgScore, MetricsError> {
    DpgScore::of_answers(&DpgQuestions::read(CSV).unwrap(), &details.concat())
}

#[test]
fn questions_are_wrong_where_those_before_them_are() {
    let [one, two] = ["out, (1)/p1.jpg", "out/p2.jpg"];
    let found = score(&[
        // No car: neither its colour nor where it is counts. 1 of 4.
        detail(one, PLACES[0], &["no", "yes", "yes", "yes"]),
        detail(two, PLACES[0], &["yes"]),
        // 2 of 4: the last one depends on the dog.
        detail(one, PLACES[1], &["yes", "yes", "no", "yes"]),
        detail(two, PLACES[1], &["yes, it is"]),
    ])
    .unwrap();
    assert_eq!(
        (found.grids.as_slice(), found.count),
        (&[one, two].map(str::to_owned)[..], 4)
    );
    // (1/4 + 2/4) / 2 and (1 + 0) / 2.
    assert!((found.value - 100.0 * (0.375 + 0.5) / 2.0).abs() < 1e-9);
    let category = |name: &str| {
        let mut all = found.categories.iter();
        let found = all.find(|one| one.category == name).unwrap();
        (found.value, found.questions)
    };
    // The last images, as they were answered.
    assert_eq!(category("entity"), (50.0, 2));
    assert_eq!(category("entity - whole"), (50.0, 2));
    assert_eq!(category("attribute - color"), (100.0, 1));
    assert_eq!(category("relation"), (100.0, 1));
    assert_eq!(category("global"), (0.0, 1));
    assert_eq!(found.categories.len(), 7);
    assert!(found.left_out.is_empty());
    assert!(found.to_string().ends_with(" 43.7500"), "{found}");
}

#[test]
fn prompts_that_the_script_fails_on() {
    let csv = format!("{CSV}p3,c,,2,1,entity,whole,entity - whole (x),Is it x?\n");
    let questions = DpgQuestions::read(&csv).unwrap();
    let lines = "p3.jpg, (0, 0, 4, 4), Is it x?, yes\np2.png, (0, 0, 4, 4), Is it a photo?, yes\n";
    let found = DpgScore::of_answers(&questions, lines).unwrap();
    assert_eq!(
        (found.value, found.left_out),
        (100.0, vec!["p3.jpg".to_owned()])
    );
}

/// Later rows win, as in the official script.
#[test]
fn questions_that_are_there_twice() {
    let rows: Vec<&str> = CSV.lines().collect();
    let other = "p1,a,,1,0,entity,whole,entity - whole (bus),Is there a bus?";
    let texts = |rows: Vec<&str>| -> Vec<String> {
        let questions = DpgQuestions::read(&rows.join("\n")).unwrap();
        let of_prompt = questions.prompts["p1"].iter();
        of_prompt.map(|question| question.text.clone()).collect()
    };
    let twice = [&rows[..4], &[other][..]].concat();
    assert_eq!(texts(twice), ["Is there a bus?", "Is the car red, or not?"]);
    let apart = [&rows[..4], &rows[6..7], &[other][..]].concat();
    assert_eq!(texts(apart), ["Is there a bus?"]);
}

#[test]
fn what_is_refused() {
    let whole = detail("p1.jpg", PLACES[0], &["yes"; 4]);
    let cases = [
        (
            "p1.jpg, Is there a car?, yes\n".to_owned(),
            "line 1: expected PATH",
        ),
        (
            detail("p9.jpg", PLACES[0], &["yes"]),
            "no questions about \"p9\"",
        ),
        (
            format!("{whole}{whole}"),
            "line 5: expected the answer to: no more question",
        ),
        (
            whole.replace("red, or", "blue, or"),
            "expected the answer to: Is the car red",
        ),
        (
            detail("p1.jpg", PLACES[0], &["yes"; 3]),
            "3 of 4 questions about p1.jpg (0, 0, 64, 64)",
        ),
        (
            [
                whole.clone(),
                detail("p1.jpg", PLACES[1], &["yes"; 4]),
                detail("p2.jpg", PLACES[0], &["yes"]),
            ]
            .concat(),
            "line 9: the evaluation was stopped: of p2.jpg 1 of 2 images",
        ),
        (String::new(), "no results"),
    ];
    for (detail, expected) in cases {
        let error = score(&[detail]).unwrap_err().to_string();
        assert!(error.contains(expected), "no {expected:?} in {error}");
    }
    let rows: Vec<&str> = CSV.lines().collect();
    let header = rows[..2].join("\n");
    for (csv, expected) in [
        (header, "no results"),
        (
            CSV.replace(",4,\"2,3\"", ",4,\"2,x\""),
            "line 6: \"x\" is no number",
        ),
        (CSV.replace("item_id", "item"), "item_id"),
        (format!("{CSV}p2,b\n"), "line 8"),
    ] {
        let error = DpgQuestions::read(&csv).unwrap_err().to_string();
        assert!(error.contains(expected), "no {expected:?} in {error}");
    }
}
