//! Values of options that have a notation of their own.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use burn::tensor::DType;
use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;
use sana_sampler::GuidanceInterval;
use serde::{Serialize, Serializer};

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

/// A file and a number after a colon, by default 1.
#[derive(Debug, Clone, PartialEq)]
pub struct ScaledPath {
    pub path: PathBuf,
    pub scale: f64,
}

impl FromStr for ScaledPath {
    type Err = String;

    /// What follows the last colon is the scale if it is a number, otherwise it belongs to the path.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let split = text.rsplit_once(':').and_then(|(path, number)| {
            let scale = number.parse::<f64>().ok()?;
            (!path.is_empty()).then_some((path, scale))
        });
        let (path, scale) = split.unwrap_or((text, 1.0));
        if path.is_empty() {
            return Err("expected FILE or FILE:SCALE".to_owned());
        }
        if !scale.is_finite() {
            return Err(format!("the scale must be a finite number, got {scale}"));
        }
        Ok(Self {
            path: path.into(),
            scale,
        })
    }
}

impl Serialize for ScaledPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for ScaledPath {
    /// With its scale, so that a path that ends in a number stays one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.scale)
    }
}

/// A type of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32 bits: exact
    F32,
    /// 16 bits with the range of f32: half the memory on the CPU; for GPUs that have it
    Bf16,
    /// 16 bits with a narrow range: half the memory on the CPU; for GPUs without bf16
    F16,
}

impl Dtype {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }
}

impl From<Dtype> for DType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => DType::F32,
            Dtype::Bf16 => DType::BF16,
            Dtype::F16 => DType::F16,
        }
    }
}

/// Width and height of an image in pixels, written `WxH`, or `N` for a square.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub width: usize,
    pub height: usize,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let side = |text: &str| {
            text.trim()
                .parse::<usize>()
                .map_err(|_| "expected WIDTHxHEIGHT in pixels, such as 1024x768".to_owned())
        };
        let (width, height) = text.split_once(['x', 'X', '×']).unwrap_or((text, text));
        Ok(Self {
            width: side(width)?,
            height: side(height)?,
        })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// A colour of sRGB, written as six hexadecimal digits, or `white` or `black`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Color(pub [u8; 3]);

impl FromStr for Color {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        match text {
            "white" => return Ok(Self([255; 3])),
            "black" => return Ok(Self([0; 3])),
            _ => {}
        }
        let digits = text.strip_prefix('#').unwrap_or(text);
        let is_hex = digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u32::from_str_radix(digits, 16) {
            Ok(value) if is_hex => Ok(Self([value >> 16, value >> 8, value].map(|v| v as u8))),
            _ => {
                Err("expected RRGGBB in hexadecimal digits, such as 808080, white or black".into())
            }
        }
    }
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [red, green, blue] = self.0;
        write!(f, "{red:02x}{green:02x}{blue:02x}")
    }
}

/// Noise levels, written `FROM..TO`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoiseLevels(pub GuidanceInterval);

impl FromStr for NoiseLevels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let level = |text: &str| text.trim().parse::<f64>().ok();
        let (start, end) = text
            .split_once("..")
            .and_then(|(start, end)| level(start).zip(level(end)))
            .ok_or("expected FROM..TO with noise levels from 0 to 1, such as 0.2..0.9")?;
        let interval = GuidanceInterval::new(start, end);
        interval.map(Self).map_err(|error| error.to_string())
    }
}

impl fmt::Display for NoiseLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.0.start(), self.0.end())
    }
}

/// A number from 1 on. The limit is far beyond what makes sense: it keeps a slip of the finger from
/// asking for all memory.
pub fn positive() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=10_000)
}

/// A number of at least one that nothing grows with.
pub fn many() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

/// Serialises a value as it is typed.
pub fn as_typed<T: fmt::Display, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

/// Serialises a path as it is typed.
pub fn path_as_typed<S: Serializer>(
    path: &Option<PathBuf>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    as_typed(&path.as_ref().map(|path| path.display()), serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors() {
        for (text, color) in [
            ("white", [255; 3]),
            ("black", [0; 3]),
            ("#0a80FF", [10, 128, 255]),
            ("808080", [128; 3]),
        ] {
            assert_eq!(text.parse(), Ok(Color(color)));
            assert_eq!(Color(color).to_string().parse(), Ok(Color(color)));
        }
        for wrong in ["", "red", "fff", "+12345", "1234567", "ééé"] {
            let error = wrong.parse::<Color>().unwrap_err();
            assert!(error.contains("RRGGBB"), "{wrong}");
        }
    }

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

    #[test]
    fn sizes() {
        let size = |width, height| Ok(Size { width, height });
        assert_eq!("96x64".parse(), size(96, 64));
        assert_eq!("96 X 64".parse(), size(96, 64));
        assert_eq!("512".parse(), size(512, 512));
        for wrong in ["", "x", "96x", "axb", "-1x4", "96x64x3", "1.5x2"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn paths_with_scales() {
        let file = |path: &str, scale| {
            Ok(ScaledPath {
                path: path.into(),
                scale,
            })
        };
        for (text, expected) in [
            ("a.safetensors", file("a.safetensors", 1.0)),
            ("a.safetensors:0.5", file("a.safetensors", 0.5)),
            ("a b/c.safetensors:-2", file("a b/c.safetensors", -2.0)),
            (r"C:\x.safetensors", file(r"C:\x.safetensors", 1.0)),
            (r"C:\x.safetensors:1e-3", file(r"C:\x.safetensors", 1e-3)),
            ("a:b", file("a:b", 1.0)),
            ("a:", file("a:", 1.0)),
            ("a:2:3", file("a:2", 3.0)),
        ] {
            let read: Result<ScaledPath, String> = text.parse();
            assert_eq!(read, expected, "{text}");
            let written = read.unwrap().to_string();
            assert_eq!(written.parse(), expected, "{written}");
        }
        for wrong in ["", "a:inf", "a:NaN"] {
            assert!(wrong.parse::<ScaledPath>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn intervals() {
        let expected = |start, end| Ok(NoiseLevels(GuidanceInterval::new(start, end).unwrap()));
        for (text, start, end) in [("0.2..0.9", 0.2, 0.9), ("0 .. 1", 0.0, 1.0)] {
            let levels: Result<NoiseLevels, _> = text.parse();
            assert_eq!(levels, expected(start, end));
            assert_eq!(levels.unwrap().to_string().parse(), expected(start, end));
        }
        for wrong in ["", "..", "0.2", "0.2..", "a..b", "0.2-0.9", "0.1..0.2..0.3"] {
            let error = wrong.parse::<NoiseLevels>().unwrap_err();
            assert!(error.contains("FROM..TO"), "{error}");
        }
        for wrong in ["0.9..0.2", "-0.1..1", "0..1.1", "nan..1"] {
            let error = wrong.parse::<NoiseLevels>().unwrap_err();
            assert!(error.contains("0 <= start <= end <= 1"), "{error}");
        }
    }
}
