use std::fmt;

use serde::{Deserialize, Serialize};

use super::evaluate::Verdict;
use super::scene::Category;
use crate::support::interval::wilson;

/// Right images of one category.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CategoryScore {
    /// The category.
    pub category: Category,
    /// Images that were right.
    pub right: usize,
    /// Images that were evaluated.
    pub total: usize,
}

impl CategoryScore {
    /// The share of right images in [0, 1], if there were any images.
    pub fn share(&self) -> Option<f64> {
        (self.total > 0).then(|| self.right as f64 / self.total as f64)
    }

    /// Wilson's 95 % interval of that share, if there were any images.
    pub fn interval(&self) -> Option<[f64; 2]> {
        wilson(self.right, self.total)
    }
}

/// The share of right images per category and overall. Its [`fmt::Display`] is
/// a table; as JSON it is `{"categories": [{category, right, total}], "overall"}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    categories: Vec<CategoryScore>,
    overall: Option<f64>,
}

impl Default for Report {
    fn default() -> Self {
        let empty = |category| CategoryScore {
            category,
            right: 0,
            total: 0,
        };
        Self {
            categories: Category::ALL.map(empty).to_vec(),
            overall: None,
        }
    }
}

impl Report {
    /// Adds the verdict on an image.
    pub fn add(&mut self, category: Category, verdict: &Verdict) {
        for score in &mut self.categories {
            if score.category == category {
                score.total += 1;
                score.right += usize::from(verdict.is_right());
            }
        }
        let shares: Vec<f64> = self
            .categories
            .iter()
            .filter_map(CategoryScore::share)
            .collect();
        self.overall = Some(shares.iter().sum::<f64>() / shares.len() as f64);
    }

    /// The six categories in the order of [`Category::ALL`].
    pub fn categories(&self) -> &[CategoryScore] {
        &self.categories
    }

    /// The share of right images of a category in [0, 1], if there were any.
    pub fn share(&self, category: Category) -> Option<f64> {
        self.categories
            .iter()
            .find(|score| score.category == category)?
            .share()
    }

    /// The mean of the categories' shares (of those with images), in [0, 1].
    pub fn overall(&self) -> Option<f64> {
        self.overall
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: Option<f64>| {
            share.map_or("-".into(), |share| format!("{:.1} %", 100.0 * share))
        };
        writeln!(
            f,
            "{:<18} {:>6} {:>6} {:>8}  95 % interval",
            "category", "right", "of", "share"
        )?;
        for score in &self.categories {
            let CategoryScore {
                category,
                right,
                total,
            } = score;
            let interval = score.interval().map_or(String::new(), |[low, high]| {
                format!("  {:.1} to {:.1} %", 100.0 * low, 100.0 * high)
            });
            writeln!(
                f,
                "{category:<18} {right:>6} {total:>6} {:>8}{interval}",
                percent(score.share())
            )?;
        }
        write!(
            f,
            "{:<18} {:>6} {:>6} {:>8}",
            "overall",
            "",
            "",
            percent(self.overall)
        )
    }
}
