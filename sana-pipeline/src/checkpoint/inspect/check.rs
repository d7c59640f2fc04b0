//! Which weights of a checkpoint are NaN or infinite, and which do not fit its configs.

use std::fmt;

use burn::tensor::DType;
use half::{bf16, f16};
use rayon::prelude::*;
use sana_linear_attn::Weights;
use serde::Serialize;

use crate::checkpoint::{Checkpoint, Component};
use crate::error::PipelineError;
use crate::support::escape::escaped;

pub use super::fit::{LoadedWith, Misfit};

/// Bytes of a tensor that one thread counts at a time; a multiple of the size of every dtype.
const CHUNK: usize = 1 << 20;

/// What was found in the weights of a checkpoint. Its [`fmt::Display`] is a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WeightCheck {
    /// Where the checkpoint is.
    pub origin: String,
    /// Its parts that have weights, by name.
    pub parts: Vec<PartCheck>,
    /// Those that do not fit their configs, or each other.
    pub misfits: Vec<Misfit>,
}

/// What was found in the weights of one part, or of a LoRA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartCheck {
    /// Its folder, such as `vae`, or `lora`.
    pub part: String,
    /// Tensors that were read: those of f32, f16 and bf16.
    pub tensors: usize,
    /// Their elements.
    pub elements: u64,
    /// Tensors with elements that are NaN or infinite, by name.
    pub not_finite: Vec<NotFiniteTensor>,
    /// Tensors with no element but zero, by name: usual in what was initialised and never trained.
    pub all_zero: Vec<String>,
    /// Tensors of other dtypes, which were not read, by name.
    pub not_read: Vec<String>,
}

/// A tensor with elements that are not finite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotFiniteTensor {
    /// Its name.
    pub name: String,
    /// Its dtype on disk.
    pub dtype: &'static str,
    /// Its elements.
    pub elements: u64,
    /// How many of them are NaN.
    pub nan: u64,
    /// How many of them are infinite.
    pub infinite: u64,
}

impl WeightCheck {
    /// Number of tensors with elements that are NaN or infinite.
    pub fn not_finite(&self) -> usize {
        self.parts.iter().map(|part| part.not_finite.len()).sum()
    }
}

impl Checkpoint {
    /// Reads every weight and looks for NaN and infinity: on all cores, from the mapped files as
    /// they are, without a copy of any tensor. Also compares all tensors with the configs.
    /// `variant` as in [`weights`](Self::weights).
    ///
    /// # Errors
    /// When a part's weights cannot be opened.
    pub fn check_weights(&self, variant: Option<&str>) -> Result<WeightCheck, PipelineError> {
        self.check_weights_with(&LoadedWith {
            variant: variant.map(str::to_owned),
            ..LoadedWith::default()
        })
    }

    /// As [`check_weights`](Self::check_weights), with a ControlNet and LoRAs.
    ///
    /// # Errors
    /// When weights cannot be opened.
    pub fn check_weights_with(&self, with: &LoadedWith) -> Result<WeightCheck, PipelineError> {
        let misfits = self.misfits(with)?;
        let variant = with.variant.as_deref();
        let mut parts = Vec::new();
        for part in self.weighted() {
            parts.push(check_part(part, &self.weights(part, variant)?));
        }
        if let Some(controlnet) = self.controlnet(with.controlnet.as_deref())? {
            let weights = controlnet.weights(variant)?;
            parts.push(check_part(Component::ControlNet, &weights));
        }
        for file in &with.loras {
            parts.push(check_part("lora", file.open()?.lora().weights()));
        }
        Ok(WeightCheck {
            origin: self.origin(),
            parts,
            misfits,
        })
    }
}

/// Reads every weight of a part.
pub fn check_part(part: impl fmt::Display, weights: &Weights) -> PartCheck {
    let mut found = PartCheck {
        part: part.to_string(),
        tensors: 0,
        elements: 0,
        not_finite: Vec::new(),
        all_zero: Vec::new(),
        not_read: Vec::new(),
    };
    let names: Vec<&str> = weights.names().collect();
    let counts: Vec<_> = names
        .par_iter()
        .map(|name| {
            let counts = weights.with_floats(name, |bytes, dtype| {
                let (dtype, count) = counter(dtype)?;
                let chunks = bytes.par_chunks(CHUNK).map(count);
                Some((dtype, chunks.reduce(Counts::default, Counts::plus)))
            });
            counts.flatten()
        })
        .collect();
    for (name, counts) in names.into_iter().zip(counts) {
        let name = name.to_owned();
        let Some((dtype, counts)) = counts else {
            found.not_read.push(name);
            continue;
        };
        found.tensors += 1;
        found.elements += counts.elements;
        if counts.nan + counts.infinite > 0 {
            found.not_finite.push(NotFiniteTensor {
                name,
                dtype,
                elements: counts.elements,
                nan: counts.nan,
                infinite: counts.infinite,
            });
        } else if counts.zero == counts.elements && counts.elements > 0 {
            found.all_zero.push(name);
        }
    }
    found
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    elements: u64,
    nan: u64,
    infinite: u64,
    zero: u64,
}

impl Counts {
    fn plus(self, other: Self) -> Self {
        Self {
            elements: self.elements + other.elements,
            nan: self.nan + other.nan,
            infinite: self.infinite + other.infinite,
            zero: self.zero + other.zero,
        }
    }

    fn of(values: impl Iterator<Item = f32>) -> Self {
        values.fold(Self::default(), |mut counts, value| {
            counts.elements += 1;
            counts.nan += u64::from(value.is_nan());
            counts.infinite += u64::from(value.is_infinite());
            counts.zero += u64::from(value == 0.0);
            counts
        })
    }
}

/// Counts the elements in little-endian bytes.
type Count = fn(&[u8]) -> Counts;

/// Name of a dtype, and what counts little-endian elements of it.
fn counter(dtype: DType) -> Option<(&'static str, Count)> {
    match dtype {
        DType::F32 => Some(("f32", |bytes| {
            let values = bytes.as_chunks().0.iter();
            Counts::of(values.map(|&bytes| f32::from_le_bytes(bytes)))
        })),
        DType::F16 => Some(("f16", |bytes| {
            let values = bytes.as_chunks().0.iter();
            Counts::of(values.map(|&bytes| f16::from_le_bytes(bytes).to_f32()))
        })),
        DType::BF16 => Some(("bf16", |bytes| {
            let values = bytes.as_chunks().0.iter();
            Counts::of(values.map(|&bytes| bf16::from_le_bytes(bytes).to_f32()))
        })),
        _ => None,
    }
}

impl fmt::Display for WeightCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "checkpoint  {}", escaped(&self.origin))?;
        for part in &self.parts {
            let (tensors, elements) = (part.tensors, part.elements);
            let bad = part.not_finite.len();
            write!(
                f,
                "\n{:<13} {tensors} tensors, {elements} values: ",
                part.part
            )?;
            match bad {
                0 => write!(f, "all finite")?,
                _ => write!(f, "{bad} tensors with NaN or infinity")?,
            }
            for tensor in &part.not_finite {
                let NotFiniteTensor {
                    name,
                    dtype,
                    elements,
                    nan,
                    infinite,
                } = tensor;
                write!(
                    f,
                    "\n  {} ({dtype}): {nan} NaN and {infinite} infinite of {elements}",
                    escaped(name)
                )?;
            }
            for (what, names) in [
                ("all zero", &part.all_zero),
                ("not read, no float", &part.not_read),
            ] {
                if !names.is_empty() {
                    write!(f, "\n  {what}: {}", escaped(&names.join(", ")))?;
                }
            }
        }
        for misfit in &self.misfits {
            write!(f, "\n{misfit}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;
    use sana_linear_attn::weights::write_tensors;

    use super::*;

    fn weights(tensors: Vec<(&str, TensorData)>) -> Weights {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let tensors = tensors.into_iter();
        write_tensors(
            &path,
            tensors
                .map(|(name, data)| (name.to_owned(), data))
                .collect(),
        )
        .unwrap();
        Weights::from_bytes("w", std::fs::read(&path).unwrap()).unwrap()
    }

    #[test]
    fn every_dtype_is_counted() {
        let values = vec![1.0, f32::NAN, -f32::INFINITY, 0.0, f32::INFINITY, -f32::NAN];
        let data = TensorData::new(values, [2, 3]);
        for (dtype, name) in [
            (DType::F32, "f32"),
            (DType::F16, "f16"),
            (DType::BF16, "bf16"),
        ] {
            let found = check_part(
                Component::Vae,
                &weights(vec![
                    ("bad", data.clone().convert_dtype(dtype)),
                    (
                        "none",
                        TensorData::new(vec![0f32; 4], [4]).convert_dtype(dtype),
                    ),
                    (
                        "right",
                        TensorData::new(vec![1f32, 0.0], [2]).convert_dtype(dtype),
                    ),
                    ("steps", TensorData::new(vec![3i64], [1])),
                ]),
            );
            assert_eq!((found.tensors, found.elements), (3, 12));
            let expected = NotFiniteTensor {
                name: "bad".to_owned(),
                dtype: name,
                elements: 6,
                nan: 2,
                infinite: 2,
            };
            assert_eq!(found.not_finite, [expected]);
            assert_eq!(found.all_zero, ["none"]);
            assert_eq!(found.not_read, ["steps"]);
            let check = WeightCheck {
                origin: "here".to_owned(),
                parts: vec![found],
                misfits: Vec::new(),
            };
            assert_eq!(check.not_finite(), 1);
            let table = check.to_string();
            let line = format!("bad ({name}): 2 NaN and 2 infinite of 6");
            assert!(table.contains(&line), "{table}");
        }
    }

    /// A value at the end of one chunk and at the start of the next.
    #[test]
    fn tensors_of_several_chunks() {
        let elements = CHUNK / 4 * 2 + 3;
        let mut values = vec![1f32; elements];
        for index in [CHUNK / 4 - 1, CHUNK / 4, elements - 1] {
            values[index] = f32::NAN;
        }
        let found = check_part(
            Component::Vae,
            &weights(vec![("long", TensorData::new(values, [elements]))]),
        );
        assert_eq!(found.not_finite[0].nan, 3);
        assert_eq!(found.elements, elements as u64);
    }
}
