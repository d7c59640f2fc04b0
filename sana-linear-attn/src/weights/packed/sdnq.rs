//! Weights as SDNQ stores them: <https://github.com/Disty0/sdnq>.
//!
//! | form | `X.weight` | `X.scale` | `X.zero_point` |
//! |---|---|---|---|
//! | int8 | i8 `[out, in]` | `[out, 1]` | |
//! | uint4 | u8 `[out * in / 2]`, the first value in the low half | `[out, groups, 1]` | as the scale |
//!
//! Those of 1x1 convolutions have two further axes of length 1, and of a single group the axis of
//! groups is missing. `X.svd_up` `[out, rank]` and `X.svd_down` `[rank, in]` are added to the weight.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use safetensors::tensor::Dtype;
use serde_json::Value;

use crate::layers::{LowRank, QuantizedWeight};
use crate::precision::is_cpu;
use crate::quantization::{Int8Rows, QuantizedMatrix, Uint4Groups};

use super::super::error::WeightError;
use super::super::tensors::{Entry, Packed, Weights, dtype_name, float_dtype};
use super::settings;

/// The weight of a layer.
#[derive(Debug)]
struct SdnqMatrix {
    size: [usize; 2],
    weight: Entry,
    scale: Entry,
    /// Of uint4.
    zero_point: Option<Entry>,
    /// `svd_up` and `svd_down`.
    low_rank: Option<[Entry; 2]>,
}

/// The weights with each layer's as one tensor.
pub(super) fn packed(mut weights: Weights, config: &Value) -> Result<Weights, WeightError> {
    settings::check(config).map_err(|reason| weights.unsupported(reason))?;
    let mut entries: BTreeMap<String, Entry> = weights.entries.clone();
    for (name, weight) in &weights.entries {
        if float_dtype(weight.dtype).is_some() {
            continue;
        }
        let Some(layer) = name.strip_suffix(".weight") else {
            continue;
        };
        let mut part = |suffix: &str| entries.remove(&format!("{layer}.{suffix}"));
        let parts = Parts {
            weight: weight.clone(),
            scale: part("scale"),
            zero_point: part("zero_point"),
            up: part("svd_up"),
            down: part("svd_down"),
        };
        let (matrix, shape) = parts
            .matrix()
            .map_err(|reason| weights.unsupported(format!("{name} {reason}")))?;
        let entry = Entry {
            shape,
            packed: Some(Arc::new(matrix)),
            ..weight.clone()
        };
        entries.insert(name.clone(), entry);
    }
    weights.entries = entries;
    Ok(weights)
}

/// The tensors of a layer.
struct Parts {
    weight: Entry,
    scale: Option<Entry>,
    zero_point: Option<Entry>,
    up: Option<Entry>,
    down: Option<Entry>,
}

impl Parts {
    /// The matrix, and the shape of the weight that it stands for; or what it has that it should not.
    fn matrix(self) -> Result<(SdnqMatrix, Vec<usize>), String> {
        let Self {
            weight,
            scale,
            zero_point,
            up,
            down,
        } = self;
        let scale = scale.ok_or("has no scale")?;
        let [rows, groups, pointwise] = scale_axes(&scale.shape)?;
        let is_float = |entry: &Entry| float_dtype(entry.dtype).is_some();
        if ![
            Some(&scale),
            zero_point.as_ref(),
            up.as_ref(),
            down.as_ref(),
        ]
        .into_iter()
        .flatten()
        .all(is_float)
        {
            return Err("has a scale, a zero point or factors of no float dtype".to_owned());
        }
        let inputs = match (weight.dtype, &zero_point) {
            (Dtype::I8, None) => {
                let found = weight.shape.as_slice();
                let inputs = match *found {
                    [out, inputs] if out == rows && pointwise == 0 => inputs,
                    [out, inputs, 1, 1] if out == rows && pointwise == 1 => inputs,
                    _ => {
                        return Err(format!(
                            "has the shape {found:?} and a scale of {:?}: int8 needs a scale for \
                             each row (group_size -1), and of convolutions only 1x1 can be read",
                            scale.shape
                        ));
                    }
                };
                if groups != 1 {
                    return Err(format!(
                        "has {groups} scales for each row: save int8 with group_size -1"
                    ));
                }
                inputs
            }
            (Dtype::U8, Some(zero_point)) => {
                let values = 2 * (weight.end - weight.start);
                if zero_point.shape != scale.shape {
                    let found = &zero_point.shape;
                    return Err(format!("has zero points of shape {found:?}"));
                }
                if values % (rows * groups) != 0 || !(values / (rows * groups)).is_multiple_of(2) {
                    return Err(format!(
                        "has {values} values of 4 bits for {rows} rows of {groups} groups"
                    ));
                }
                values / rows
            }
            (dtype, _) => {
                let zero = if zero_point.is_some() { "" } else { "out" };
                return Err(format!(
                    "is {} with{zero} zero points, expected int8 without or uint4 with",
                    dtype_name(dtype)
                ));
            }
        };
        let low_rank = match (up, down) {
            (None, None) => None,
            (Some(up), Some(down)) => {
                let (left, right) = (up.shape.as_slice(), down.shape.as_slice());
                let fits = matches!((left, right), (&[out, rank], &[of, width])
                    if out == rows && rank == of && width == inputs);
                if !fits {
                    return Err(format!("has factors of shapes {left:?} and {right:?}"));
                }
                Some([up, down])
            }
            _ => return Err("has one of svd_up and svd_down without the other".to_owned()),
        };
        let shape = match pointwise {
            0 => vec![rows, inputs],
            _ => vec![rows, inputs, 1, 1],
        };
        let matrix = SdnqMatrix {
            size: [rows, inputs],
            weight,
            scale,
            zero_point,
            low_rank,
        };
        Ok((matrix, shape))
    }
}

/// Rows, groups of a row, and 1 for a 1x1 convolution.
fn scale_axes(shape: &[usize]) -> Result<[usize; 3], String> {
    match *shape {
        [rows, 1] => Ok([rows, 1, 0]),
        [rows, groups, 1] => Ok([rows, groups, 0]),
        [rows, 1, 1, 1] => Ok([rows, 1, 1]),
        [rows, groups, 1, 1, 1] => Ok([rows, groups, 1]),
        _ => Err(format!("has a scale of shape {shape:?}")),
    }
    .and_then(|axes| match axes {
        [0, ..] | [_, 0, _] => Err("has no rows or no groups".to_owned()),
        axes => Ok(axes),
    })
}

impl Packed for SdnqMatrix {
    fn name(&self) -> &'static str {
        match self.zero_point {
            Some(_) => "uint4",
            None => "int8",
        }
    }

    fn bytes(&self) -> usize {
        let factors = self.low_rank.iter().flatten();
        [
            Some(&self.weight),
            Some(&self.scale),
            self.zero_point.as_ref(),
        ]
        .into_iter()
        .flatten()
        .chain(factors)
        .map(|entry| entry.end - entry.start)
        .sum()
    }

    fn has_low_rank(&self) -> bool {
        self.low_rank.is_some()
    }

    fn read(&self, weights: &Weights, device: &Device) -> Result<QuantizedWeight, WeightError> {
        let [rows, inputs] = self.size;
        let integers = |dtype, shape: [usize; 2]| -> Result<Tensor<2, Int>, WeightError> {
            // The file's own memory on the CPU.
            let data = weights.data(&self.weight, dtype, dtype, is_cpu(device))?;
            let data = TensorData::from_bytes(data.into_bytes(), shape, dtype);
            Ok(Tensor::from_data(data, (device, dtype)))
        };
        let floats = |entry: &Entry| {
            let stored = float_dtype(entry.dtype).unwrap_or(DType::F32);
            weights.data(entry, stored, DType::F32, false)
        };
        let groups = self.scale.shape.iter().product::<usize>() / rows;
        let of_groups = |entry| -> Result<Tensor<2>, WeightError> {
            let bytes = floats(entry)?.into_bytes();
            let data = TensorData::from_bytes(bytes, [rows, groups], DType::F32);
            Ok(Tensor::from_data(data, (device, DType::F32)))
        };
        let matrix = match &self.zero_point {
            None => QuantizedMatrix::Int8Rows(Int8Rows {
                values: integers(DType::I8, self.size)?,
                scales: of_groups(&self.scale)?.reshape([rows]),
            }),
            Some(zero_point) => QuantizedMatrix::Uint4Groups(Uint4Groups {
                packed: integers(DType::U8, [rows, inputs / 2])?,
                scales: of_groups(&self.scale)?,
                zero_points: of_groups(zero_point)?,
                group: inputs / groups,
            }),
        };
        let factor = |entry: &Entry| -> Result<Tensor<2>, WeightError> {
            Ok(Tensor::from_data(floats(entry)?, (device, DType::F32)))
        };
        let low_rank = match &self.low_rank {
            None => None,
            Some([up, down]) => Some(LowRank {
                up: factor(up)?,
                down: factor(down)?,
            }),
        };
        Ok(QuantizedWeight { matrix, low_rank })
    }
}
