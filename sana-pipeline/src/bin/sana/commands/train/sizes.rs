//! The image sizes of a run.

use std::fmt;
use std::str::FromStr;

use anyhow::ensure;

use crate::args::Size;

/// Width and height of each, separated by commas, such as `256,320x192,192x320`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes(Vec<[usize; 2]>);

impl Sizes {
    /// At least one.
    pub fn as_slice(&self) -> &[[usize; 2]] {
        &self.0
    }

    /// The side of a square of the area of the first size, rounded to a multiple of `multiple`: what
    /// a new model is of.
    pub fn nominal(&self, multiple: usize) -> usize {
        let [width, height] = self.0[0];
        if width == height {
            return width;
        }
        let side = (width as f64 * height as f64).sqrt() / multiple as f64;
        (side.round() as usize).max(1) * multiple
    }

    /// Refuses sides that are not a multiple of `multiple`, or 0.
    pub fn check(&self, multiple: usize, whose: &str) -> anyhow::Result<()> {
        for size in &self.0 {
            let fits = |side: &usize| *side > 0 && side.is_multiple_of(multiple);
            ensure!(
                size.iter().all(fits),
                "--size {} must be a positive multiple of {multiple}{whose} on each side",
                Written(*size)
            );
        }
        Ok(())
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut sizes = Vec::new();
        for text in text.split(',') {
            let Size { width, height } = text.parse()?;
            if sizes.contains(&[width, height]) {
                return Err(format!("{} is in the list twice", Written([width, height])));
            }
            sizes.push([width, height]);
        }
        Ok(Self(sizes))
    }
}

/// A size as it is given: one number for a square.
struct Written([usize; 2]);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [width, height] if width == height => write!(f, "{width}"),
            [width, height] => write!(f, "{width}x{height}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_sizes() {
        let sizes: Sizes = "256, 320x192,192x320".parse().unwrap();
        assert_eq!(sizes.as_slice(), [[256, 256], [320, 192], [192, 320]]);
        sizes.check(64, "").unwrap();
        let refused = sizes.check(128, ", the pixels of a token").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "--size 320x192 must be a positive multiple of 128, the pixels of a token on each side"
        );
        assert_eq!(sizes.nominal(32), 256);
        assert_eq!("320x192,256".parse::<Sizes>().unwrap().nominal(32), 256);
        for wrong in ["", "256,", "axb", "256,256x256"] {
            assert!(wrong.parse::<Sizes>().is_err(), "{wrong}");
        }
    }
}
