//! Values of options that have a notation of their own: amounts of memory, aspect ratios.

use std::fmt;
use std::str::FromStr;

/// An amount of memory, written `6GB`, `512MiB` or in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const UNITS: [(&str, f64); 7] = [
            ("KB", 1e3),
            ("MB", 1e6),
            ("GB", 1e9),
            ("KIB", 1024.0),
            ("MIB", 1048576.0),
            ("GIB", 1073741824.0),
            ("B", 1.0),
        ];
        let upper = text.trim().to_ascii_uppercase();
        let with_unit = UNITS
            .iter()
            .find_map(|(unit, bytes)| Some((upper.strip_suffix(unit)?, *bytes)));
        let (number, unit) = with_unit.unwrap_or((&upper, 1.0));
        let number: Option<f64> = number.trim().parse().ok();
        match number {
            Some(number) if number > 0.0 && number.is_finite() => Ok(Self((number * unit) as u64)),
            _ => Err("expected an amount of memory, such as 6GB, 512MB or 2GiB".to_owned()),
        }
    }
}

/// Width to height, written `W:H`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Aspect {
    pub width: f64,
    pub height: f64,
}

impl FromStr for Aspect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| text.trim().parse::<f64>().ok();
        let (width, height) = text.split_once([':', '/']).unwrap_or((text, "1"));
        match number(width).zip(number(height)) {
            Some((width, height))
                if [width, height]
                    .iter()
                    .all(|side| *side > 0.0 && side.is_finite()) =>
            {
                Ok(Self { width, height })
            }
            _ => Err("expected width to height, such as 16:9, 2:3 or 1.85".to_owned()),
        }
    }
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory() {
        for (text, bytes) in [
            ("6GB", 6_000_000_000),
            ("5.9 gb", 5_900_000_000),
            ("512MB", 512_000_000),
            ("2GiB", 2 << 30),
            ("100kB", 100_000),
            ("100B", 100),
            ("1e9", 1_000_000_000),
            ("4096", 4096),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for wrong in ["", "GB", "-1GB", "0", "6TB", "nan", "infGB", "6 G B"] {
            let error = wrong.parse::<Bytes>().unwrap_err();
            assert!(error.contains("such as 6GB"), "{wrong}: {error}");
        }
    }

    #[test]
    fn aspect_ratios() {
        for (text, width, height) in [
            ("16:9", 16.0, 9.0),
            ("2/3", 2.0, 3.0),
            ("1.85", 1.85, 1.0),
            ("2.39 : 1", 2.39, 1.0),
        ] {
            let aspect = Aspect { width, height };
            assert_eq!(text.parse(), Ok(aspect), "{text}");
            assert_eq!(aspect.to_string().parse(), Ok(aspect));
        }
        for wrong in ["", ":", "16:", "16:9:1", "0:1", "-16:9", "inf:1", "wide"] {
            assert!(wrong.parse::<Aspect>().is_err(), "{wrong}");
        }
    }
}
