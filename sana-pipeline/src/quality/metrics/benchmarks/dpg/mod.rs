//! DPG-Bench (Hu et al. 2024, ELLA): its questions, and the score of what a network answered.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::quality::metrics::error::MetricsError;

/// A question about the images of one prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Question {
    id: u32,
    text: String,
    /// Such as `attribute - color`.
    category: String,
    /// Questions without which this one makes no sense.
    dependencies: Vec<u32>,
}

/// The questions of all prompts, `dpg_bench.csv`.
#[derive(Debug, Clone, Default)]
pub struct DpgQuestions {
    prompts: HashMap<String, Vec<Question>>,
}

#[derive(Deserialize)]
struct Row {
    item_id: String,
    proposition_id: String,
    dependency: String,
    tuple: String,
    question_natural_language: String,
}

impl DpgQuestions {
    /// The questions of a CSV file's text, with the columns `item_id`, `proposition_id`, `dependency`,
    /// `tuple` and `question_natural_language`. As in the official script the **first row is left
    /// out**, a number that a prompt has twice is the later question in the place of the first, and
    /// rows of a prompt in two places are the later ones alone.
    ///
    /// # Errors
    /// [`MetricsError::Line`] for a row that is no question, [`MetricsError::NoResults`] without any.
    pub fn read(csv: &str) -> Result<Self, MetricsError> {
        let mut prompts: HashMap<String, Vec<Question>> = HashMap::new();
        let mut last = String::new();
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        for (index, row) in reader.deserialize::<Row>().enumerate() {
            let wrong = |line: Option<u64>, reason: String| MetricsError::Line {
                line: line.unwrap_or(index as u64 + 2) as usize,
                reason,
            };
            let row = row.map_err(|error| {
                wrong(error.position().map(csv::Position::line), error.to_string())
            })?;
            if index == 0 {
                continue;
            }
            let number = |text: &str| {
                let number = text.trim().parse::<u32>();
                number.map_err(|_| wrong(None, format!("{text:?} is no number of a question")))
            };
            let question = Question {
                id: number(&row.proposition_id)?,
                dependencies: row
                    .dependency
                    .split(',')
                    .map(number)
                    .collect::<Result<_, _>>()?,
                category: before(&row.tuple, '(').to_owned(),
                text: row.question_natural_language,
            };
            let of_prompt = prompts.entry(row.item_id.clone()).or_default();
            if last != row.item_id {
                of_prompt.clear();
            }
            let known = of_prompt.iter().position(|known| known.id == question.id);
            match known {
                Some(place) => of_prompt[place] = question,
                None => of_prompt.push(question),
            }
            last = row.item_id;
        }
        match prompts.is_empty() {
            true => Err(MetricsError::NoResults),
            false => Ok(Self { prompts }),
        }
    }
}

/// A category of questions, and how many were answered with yes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DpgCategory {
    /// Its name: a broad one as `attribute`, or one in it as `attribute - color`.
    pub category: String,
    /// The share of questions that were answered with yes, in percent.
    pub value: f64,
    /// Questions.
    pub questions: usize,
}

/// The score of the answers of DPG-Bench's evaluator.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DpgScore {
    /// The mean over prompts of the mean over their images of the share of questions that are right,
    /// in percent. A question is wrong where one that it depends on is.
    pub value: f64,
    /// Images, all of all grids.
    pub count: usize,
    /// Grids of images, one for each prompt.
    pub grids: Vec<String>,
    /// Broad categories and those in them, by name. As in the official script they count the answers
    /// about the last image of each grid, and these without their dependencies.
    pub categories: Vec<DpgCategory>,
    /// Grids that the official script fails on and leaves out: a question depends on one that is not
    /// there.
    pub left_out: Vec<String>,
}

/// The answers about the images of one grid, image by image.
struct Grid<'a> {
    path: &'a str,
    questions: &'a [Question],
    /// Where an image is, and for each question whether the answer is yes.
    images: Vec<(&'a str, Vec<bool>)>,
}

impl DpgScore {
    /// The score of the official script's `_detail.txt`: lines `PATH, (LEFT, TOP, RIGHT, BOTTOM),
    /// QUESTION, ANSWER`, in the order of the questions for each image. The name of a file up to its
    /// first dot is that of the prompt.
    ///
    /// # Errors
    /// [`MetricsError::Line`] for another line, for an image with fewer answers than questions, and
    /// for a grid with answers about fewer images than others; [`MetricsError::NoResults`].
    pub fn of_answers(questions: &DpgQuestions, detail: &str) -> Result<Self, MetricsError> {
        let grids = grids(questions, detail)?;
        let (mut sum, mut count, mut scored) = (0.0, 0, Vec::new());
        let mut categories: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
        let mut left_out = Vec::new();
        let most = grids.iter().map(|grid| grid.images.len()).max();
        let most = most.unwrap_or(0);
        for grid in &grids {
            let shares: Option<Vec<f64>> = grid
                .images
                .iter()
                .map(|(_, answers)| share(grid.questions, answers))
                .collect();
            let (Some(shares), Some((_, last))) = (shares, grid.images.last()) else {
                left_out.push(grid.path.to_owned());
                continue;
            };
            if shares.len() < most {
                return Err(MetricsError::Line {
                    line: detail.lines().count(),
                    reason: format!(
                        "the evaluation was stopped: of {} {} of {most} images are answered",
                        grid.path,
                        shares.len()
                    ),
                });
            }
            sum += shares.iter().sum::<f64>() / shares.len() as f64;
            count += shares.len();
            scored.push(grid.path.to_owned());
            for (question, yes) in grid.questions.iter().zip(last) {
                let detailed = question.category.as_str();
                let broad = before(detailed, '-');
                let names = [Some(broad), (broad != detailed).then_some(detailed)];
                for name in names.into_iter().flatten() {
                    let [right, all] = categories.entry(name).or_default();
                    *right += usize::from(*yes);
                    *all += 1;
                }
            }
        }
        if scored.is_empty() {
            return Err(MetricsError::NoResults);
        }
        let category = |(category, [right, questions]): (&str, [usize; 2])| DpgCategory {
            category: category.to_owned(),
            value: 100.0 * right as f64 / questions as f64,
            questions,
        };
        Ok(Self {
            value: 100.0 * sum / scored.len() as f64,
            count,
            grids: scored,
            categories: categories.into_iter().map(category).collect(),
            left_out,
        })
    }
}

/// The answers of a file, by grid in the order of the file.
fn grids<'a>(questions: &'a DpgQuestions, detail: &'a str) -> Result<Vec<Grid<'a>>, MetricsError> {
    let mut grids: Vec<Grid<'_>> = Vec::new();
    let mut known: HashMap<&str, usize> = HashMap::new();
    let mut last_line = 0;
    for (index, line) in detail.lines().enumerate() {
        let wrong = |reason: String| MetricsError::Line {
            line: index + 1,
            reason,
        };
        if line.trim().is_empty() {
            continue;
        }
        last_line = index + 1;
        let [path, place, rest] = parts(line).ok_or_else(|| {
            wrong("expected PATH, (LEFT, TOP, RIGHT, BOTTOM), QUESTION, ANSWER".to_owned())
        })?;
        let grid = match known.get(path) {
            Some(grid) => *grid,
            None => {
                let file = path.rsplit(['/', '\\']).next().unwrap_or(path);
                let prompt = file.split('.').next().unwrap_or(file);
                let of_prompt = questions.prompts.get(prompt);
                let of_prompt =
                    of_prompt.ok_or_else(|| wrong(format!("no questions about {prompt:?}")))?;
                grids.push(Grid {
                    path,
                    questions: of_prompt,
                    images: Vec::new(),
                });
                known.insert(path, grids.len() - 1);
                grids.len() - 1
            }
        };
        let grid = &mut grids[grid];
        let image = grid.images.iter().position(|(known, _)| *known == place);
        let image = image.unwrap_or_else(|| {
            grid.images.push((place, Vec::new()));
            grid.images.len() - 1
        });
        let answers = &mut grid.images[image].1;
        let question = grid.questions.get(answers.len());
        let answer = question.and_then(|question| {
            let rest = rest.strip_prefix(question.text.as_str())?;
            rest.strip_prefix(", ")
        });
        match answer {
            Some(answer) => answers.push(answer == "yes"),
            None => {
                let question = question.map_or("no more question", |known| &known.text);
                return Err(wrong(format!("expected the answer to: {question}")));
            }
        }
    }
    for grid in &grids {
        for (place, answers) in &grid.images {
            let (found, all) = (answers.len(), grid.questions.len());
            if found < all {
                return Err(MetricsError::Line {
                    line: last_line,
                    reason: format!(
                        "the evaluation was stopped: {found} of {all} questions about {} {place} \
                         are answered",
                        grid.path
                    ),
                });
            }
        }
    }
    Ok(grids)
}

/// Path, place in the grid, and the rest of a line.
fn parts(line: &str) -> Option<[&str; 3]> {
    line.match_indices(", (").find_map(|(start, _)| {
        let after = &line[start + 2..];
        let end = after.find("), ")? + 1;
        let numbers = after[1..end - 1].split(", ");
        let are_numbers = |numbers: std::str::Split<'_, &str>| {
            let numbers: Vec<_> = numbers.map(str::parse::<u32>).collect();
            numbers.len() == 4 && numbers.iter().all(Result::is_ok)
        };
        are_numbers(numbers).then(|| [&line[..start], &after[..end], &after[end + 2..]])
    })
}

/// The share of questions about an image that are right, one after the other as the official script
/// looks at them: a question is wrong where one that it depends on is. `None` where it looks for a
/// question that is not there.
fn share(questions: &[Question], answers: &[bool]) -> Option<f64> {
    let mut right: BTreeMap<u32, bool> = questions
        .iter()
        .zip(answers)
        .map(|(question, yes)| (question.id, *yes))
        .collect();
    for question in questions {
        // 0 is no question.
        for dependency in question.dependencies.iter().filter(|id| **id != 0) {
            if !*right.get(dependency)? {
                right.insert(question.id, false);
                break;
            }
        }
    }
    let count = right.values().filter(|right| **right).count();
    Some(count as f64 / right.len() as f64)
}

/// A text up to a character, without the space before it.
fn before(text: &str, end: char) -> &str {
    text.split(end).next().unwrap_or(text).trim()
}

impl fmt::Display for DpgScore {
    /// A table of the categories; its last line is the score.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for DpgCategory {
            category,
            value,
            questions,
        } in &self.categories
        {
            writeln!(f, "{category:<30} {questions:>6} questions  {value:>8.4}")?;
        }
        write!(f, "{:<49}{:>8.4}", "overall", self.value)
    }
}
