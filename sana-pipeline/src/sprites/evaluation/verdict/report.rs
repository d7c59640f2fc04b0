use std::fmt;

use serde::{Deserialize, Serialize};

use super::category::SpriteCategory;
use super::image::SpriteVerdict;
use crate::support::interval::wilson;

/// Right images of one category.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SpriteScore {
    /// The category.
    pub category: SpriteCategory,
    /// Images that were right.
    pub right: usize,
    /// Images that were evaluated.
    pub total: usize,
    /// Wilson's 95 % interval of the share of right images in [0, 1], if there were any images.
    pub interval: Option<[f64; 2]>,
}

impl SpriteScore {
    /// The share of right images in [0, 1], if there were any images.
    pub fn share(&self) -> Option<f64> {
        (self.total > 0).then(|| self.right as f64 / self.total as f64)
    }
}

/// The share of right images per category. Its [`fmt::Display`] is a table; as JSON it is
/// `{"categories": [{category, right, total, interval}]}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpriteReport {
    categories: Vec<SpriteScore>,
}

impl Default for SpriteReport {
    fn default() -> Self {
        let empty = |category| SpriteScore {
            category,
            right: 0,
            total: 0,
            interval: None,
        };
        Self {
            categories: SpriteCategory::ALL.map(empty).to_vec(),
        }
    }
}

impl SpriteReport {
    /// Adds the verdict on an image.
    pub fn add(&mut self, verdict: &SpriteVerdict) {
        for score in &mut self.categories {
            if let Some(right) = verdict.is_category_right(score.category) {
                score.total += 1;
                score.right += usize::from(right);
                score.interval = wilson(score.right, score.total);
            }
        }
    }

    /// The categories in the order of [`SpriteCategory::ALL`].
    pub fn categories(&self) -> &[SpriteScore] {
        &self.categories
    }

    /// The share of right images of a category in [0, 1], if there were any.
    pub fn share(&self, category: SpriteCategory) -> Option<f64> {
        let mut scores = self.categories.iter();
        scores.find(|score| score.category == category)?.share()
    }
}

impl fmt::Display for SpriteReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<10} {:>6} {:>6} {:>8}  95 % interval",
            "category", "right", "of", "share"
        )?;
        for score in &self.categories {
            let SpriteScore {
                category,
                right,
                total,
                interval,
            } = score;
            write!(f, "\n{category:<10} {right:>6} {total:>6} ")?;
            match (score.share(), interval) {
                (Some(share), Some([low, high])) => write!(
                    f,
                    "{:>6.1} %  {:.1} to {:.1} %",
                    100.0 * share,
                    100.0 * low,
                    100.0 * high
                )?,
                _ => write!(f, "{:>8}", "-")?,
            }
        }
        Ok(())
    }
}
