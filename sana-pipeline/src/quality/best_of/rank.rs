use super::{Rating, VerifierError};

/// How many of `images` rated images are compared to keep `keep`, and how many are kept: by score all
/// and `keep`; by answers of yes or no, whose images meet in pairs, both rounded down to powers of
/// two.
pub fn considered(by_score: bool, images: usize, keep: usize) -> [usize; 2] {
    match by_score {
        true => [images, keep],
        false => [images, keep].map(|count| count.checked_ilog2().map_or(0, |log| 1 << log)),
    }
}

/// The indices of the best images.
///
/// Scores are compared as they are: the best come first, of equal ones the earlier.
///
/// Answers meet in single elimination, neighbours first, until `keep` are left, in their order. Of a
/// "yes" and a "no" the "yes" wins; of two "yes" the larger logit of "yes", of two "no" the smaller
/// logit of "no"; of equal ones the second. As the pairs of the authors' `nvila_sana_pick.py`; how
/// many are compared is [`considered`].
///
/// # Errors
/// [`VerifierError::Keep`], and [`VerifierError::Mixed`] for ratings of both kinds.
pub fn rank(ratings: &[Rating], keep: usize) -> Result<Vec<usize>, VerifierError> {
    let images = ratings.len();
    if keep == 0 || keep > images {
        return Err(VerifierError::Keep { keep, images });
    }
    let scores: Vec<f64> = ratings.iter().filter_map(score).collect();
    if scores.len() == images {
        let mut order: Vec<usize> = (0..images).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        order.truncate(keep);
        return Ok(order);
    }
    let answers: Vec<[f64; 2]> = ratings.iter().filter_map(answer).collect();
    if answers.len() != images {
        return Err(VerifierError::Mixed);
    }
    let [count, keep] = considered(false, images, keep);
    let mut left: Vec<usize> = (0..count).collect();
    while left.len() > keep {
        let pairs = left.chunks(2);
        let winner = |pair: &[usize]| match pair {
            [first, second] if first_wins(answers[*first], answers[*second]) => *first,
            pair => pair[pair.len() - 1],
        };
        left = pairs.map(winner).collect();
    }
    Ok(left)
}

fn score(rating: &Rating) -> Option<f64> {
    match rating {
        Rating::Score(score) => Some(*score),
        Rating::Answer { .. } => None,
    }
}

fn answer(rating: &Rating) -> Option<[f64; 2]> {
    match rating {
        Rating::Answer { yes, no } => Some([*yes, *no]),
        Rating::Score(_) => None,
    }
}

/// Whether the first of two pairs of logits `[yes, no]` wins.
fn first_wins([yes, no]: [f64; 2], [other_yes, other_no]: [f64; 2]) -> bool {
    match (yes > no, other_yes > other_no) {
        (true, true) => yes > other_yes,
        (false, false) => no < other_no,
        (first, _) => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers<const N: usize>(logits: [[f64; 2]; N]) -> Vec<Rating> {
        logits.map(|[yes, no]| Rating::Answer { yes, no }).to_vec()
    }

    #[test]
    fn scores_are_ranked() {
        let scores = [0.5, -1.0, 2.0, 0.5, 2.0].map(Rating::Score);
        assert_eq!(rank(&scores, 1).unwrap(), [2]);
        assert_eq!(rank(&scores, 3).unwrap(), [2, 4, 0]);
        assert_eq!(rank(&scores, 5).unwrap(), [2, 4, 0, 3, 1]);
    }

    #[test]
    fn pairs_follow_the_rule() {
        for (first, second, winner) in [
            ([3.0, 1.0], [0.0, 9.0], 0), // yes against no
            ([0.0, 9.0], [3.0, 1.0], 1),
            ([3.0, 1.0], [2.0, 0.0], 0), // both yes: the larger logit of yes
            ([3.0, 1.0], [4.0, 3.9], 1),
            ([1.0, 5.0], [0.0, 4.0], 1), // both no: the smaller logit of no
            ([0.0, 4.0], [3.0, 5.0], 0),
            ([3.0, 1.0], [3.0, 2.0], 1), // equal: the second
            ([1.0, 5.0], [2.0, 5.0], 1),
            ([2.0, 2.0], [3.0, 1.0], 1), // as much no as yes is no
        ] {
            let found = rank(&answers([first, second]), 1).unwrap();
            assert_eq!(found, [winner], "{first:?}, {second:?}");
        }
    }

    /// Neighbours meet first, and numbers are rounded down to powers of two.
    #[test]
    fn single_elimination() {
        let yes = |logit: f64| [logit, 0.0];
        let logits = [5.0, 6.0, 1.0, 2.0, 9.0, 8.0, 3.0, 4.0].map(yes);
        let ratings = answers(logits);
        assert_eq!(rank(&ratings, 4).unwrap(), [1, 3, 4, 7]);
        // The second best of all is lost to the best, its neighbour.
        assert_eq!(rank(&ratings, 2).unwrap(), [1, 4]);
        assert_eq!(rank(&ratings, 1).unwrap(), [4]);
        assert_eq!(rank(&ratings, 8).unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(rank(&ratings, 3).unwrap(), [1, 4]);
        assert_eq!(rank(&ratings[..7], 1).unwrap(), [1]);
        assert_eq!(considered(false, 7, 3), [4, 2]);
        assert_eq!(considered(true, 7, 3), [7, 3]);
        assert_eq!(considered(false, 0, 1), [0, 1]);
    }

    #[test]
    fn what_cannot_be_compared() {
        let mixed = [Rating::Score(1.0), Rating::Answer { yes: 1.0, no: 0.0 }];
        assert!(matches!(rank(&mixed, 1), Err(VerifierError::Mixed)));
        for keep in [0, 3] {
            let error = rank(&mixed, keep).unwrap_err();
            assert!(
                error.to_string().contains(&format!("keep {keep} of 2")),
                "{error}"
            );
        }
    }

    #[test]
    fn ratings_as_json() {
        for (json, rating) in [
            (r#"{"score":1.5}"#, Rating::Score(1.5)),
            (
                r#"{"yes":2.0,"no":-1.0}"#,
                Rating::Answer { yes: 2.0, no: -1.0 },
            ),
        ] {
            assert_eq!(serde_json::from_str::<Rating>(json).unwrap(), rating);
            assert_eq!(serde_json::to_string(&rating).unwrap(), json);
        }
        for json in [
            "{}",
            "1",
            r#"{"yes":1}"#,
            r#"{"score":"1"}"#,
            r#"{"score":null}"#,
        ] {
            assert!(serde_json::from_str::<Rating>(json).is_err(), "{json}");
        }
    }
}
