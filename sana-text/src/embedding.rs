//! From token ids to embedding rows: on the host from the checkpoint's bytes, or on the device
//! from a parameter.
//!
//! The table of Gemma-2 2B has 256,000 rows of 2,304 channels, 2.36 GB in f32, of which a prompt
//! needs a few hundred. For inference it stays where it is, in the mapped file; for training it is
//! an ordinary parameter.

use std::fmt;
use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{DType, Int, Tensor};
use half::{bf16, f16};
use sana_linear_attn::{WeightError, Weights};

use crate::error::TextError;
use crate::gemma2::Gemma2Config;

/// Names that the table goes by in checkpoints of the encoder and of the whole language model.
const TABLE_NAMES: [&str; 2] = ["embed_tokens.weight", "model.embed_tokens.weight"];

/// The embedding table of a checkpoint, left in its file (or bytes). Rows are read when asked for.
#[derive(Clone)]
pub struct EmbeddingTable {
    weights: Arc<Weights>,
    name: &'static str,
    dtype: DType,
    vocab_size: usize,
    hidden_size: usize,
}

impl EmbeddingTable {
    /// Finds the table in a checkpoint and checks its shape and dtype. Reads no row.
    ///
    /// # Errors
    /// When the checkpoint has no table, or one of another shape or not of f32, bf16 or f16.
    pub fn new(weights: Arc<Weights>, config: &Gemma2Config) -> Result<Self, TextError> {
        let name = TABLE_NAMES
            .into_iter()
            .find(|name| weights.contains(name))
            .ok_or_else(|| WeightError::NoTensor {
                name: TABLE_NAMES[0].to_owned(),
                origin: weights.origin().to_owned(),
            })?;
        let expected = [config.vocab_size, config.hidden_size];
        let found = weights.shape(name).unwrap_or_default();
        if found != expected {
            return Err(TextError::EmbeddingShape {
                name: name.to_owned(),
                origin: weights.origin().to_owned(),
                expected,
                found: found.to_vec(),
            });
        }
        let dtype = weights.dtype(name).ok_or_else(|| WeightError::Dtype {
            name: name.to_owned(),
            origin: weights.origin().to_owned(),
            found: weights.stored_dtype(name).unwrap_or_default(),
        })?;
        let [vocab_size, hidden_size] = expected;
        Ok(Self {
            weights,
            name,
            dtype,
            vocab_size,
            hidden_size,
        })
    }

    /// Number of rows.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Channels of a row.
    pub fn hidden_size(&self) -> usize {
        self.hidden_size
    }

    /// Dtype of the table in the checkpoint.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The rows of `ids` one after the other, widened to f32, which changes no value. Of a quantized table they
    /// are those that it stands for; the others stay as they are.
    ///
    /// # Errors
    /// [`TextError::TokenOutOfRange`] for an id without a row.
    pub fn rows(&self, ids: &[u32]) -> Result<Vec<f32>, TextError> {
        let places: Vec<usize> = ids.iter().map(|&id| id as usize).collect();
        if let Some(values) = self.weights.encoded_rows(self.name, &places)? {
            return Ok(values);
        }
        let bytes = self.weights.bytes(self.name).unwrap_or_default();
        let row_bytes = self.hidden_size * if self.dtype == DType::F32 { 4 } else { 2 };
        let mut values = Vec::with_capacity(ids.len() * self.hidden_size);
        for &id in ids {
            let row = bytes.chunks_exact(row_bytes).nth(id as usize).ok_or(
                TextError::TokenOutOfRange {
                    id,
                    vocab_size: self.vocab_size,
                },
            )?;
            match self.dtype {
                DType::F32 => values.extend(elements(row).map(f32::from_le_bytes)),
                DType::BF16 => {
                    values.extend(elements(row).map(|b| bf16::from_le_bytes(b).to_f32()))
                }
                _ => values.extend(elements(row).map(|b| f16::from_le_bytes(b).to_f32())),
            }
        }
        Ok(values)
    }
}

impl fmt::Debug for EmbeddingTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddingTable")
            .field("origin", &self.weights.origin())
            .field("dtype", &self.dtype)
            .field("vocab_size", &self.vocab_size)
            .field("hidden_size", &self.hidden_size)
            .finish()
    }
}

fn elements<const N: usize>(row: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    row.as_chunks::<N>().0.iter().copied()
}

/// The embedding table as a parameter on the device, for training.
#[derive(Module, Debug)]
pub struct TokenEmbedding {
    /// `[vocab_size, hidden_size]`.
    pub weight: Param<Tensor<2>>,
}

impl TokenEmbedding {
    /// Looks up rows. Ids have to be below `vocab_size`: not every backend checks.
    ///
    /// # Shapes
    /// - `ids` `[tokens]`
    /// - output `[tokens, hidden_size]`
    pub fn forward(&self, ids: Tensor<1, Int>) -> Tensor<2> {
        self.weight.val().select(0, ids)
    }
}

/// Rounds a value to the precision of `dtype`, as the reference does with the embedding scale.
pub(crate) fn round_to(dtype: DType, value: f32) -> f32 {
    match dtype {
        DType::BF16 => bf16::from_f32(value).to_f32(),
        DType::F16 => f16::from_f32(value).to_f32(),
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::{Dtype, TensorView, serialize};

    fn weights(name: &str, dtype: Dtype, shape: &[usize], bytes: &[u8]) -> Arc<Weights> {
        let view = TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
        let file = serialize([(name, view)], None).unwrap();
        Arc::new(Weights::from_bytes("test", file).unwrap())
    }

    fn config() -> Gemma2Config {
        Gemma2Config {
            vocab_size: 3,
            hidden_size: 2,
            ..Gemma2Config::gemma_2_2b()
        }
    }

    #[test]
    fn rows_of_every_dtype() {
        let values = [1.0f32, -2.5, 0.0, 3.25, 100.0, -0.125];
        let f32_bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let bf16_bytes: Vec<u8> = values
            .iter()
            .flat_map(|&v| bf16::from_f32(v).to_le_bytes())
            .collect();
        let f16_bytes: Vec<u8> = values
            .iter()
            .flat_map(|&v| f16::from_f32(v).to_le_bytes())
            .collect();
        let cases = [
            ("embed_tokens.weight", Dtype::F32, f32_bytes),
            ("model.embed_tokens.weight", Dtype::BF16, bf16_bytes),
            ("embed_tokens.weight", Dtype::F16, f16_bytes),
        ];
        for (name, dtype, bytes) in cases {
            let table = EmbeddingTable::new(weights(name, dtype, &[3, 2], &bytes), &config());
            let rows = table.unwrap().rows(&[2, 0, 2]).unwrap();
            assert_eq!(rows, [100.0, -0.125, 1.0, -2.5, 100.0, -0.125], "{dtype:?}");
        }
    }

    #[test]
    fn id_without_a_row() {
        let table = EmbeddingTable::new(
            weights("embed_tokens.weight", Dtype::F16, &[3, 2], &[0; 12]),
            &config(),
        );
        let error = table.unwrap().rows(&[1, 3]).unwrap_err();
        assert!(
            matches!(
                error,
                TextError::TokenOutOfRange {
                    id: 3,
                    vocab_size: 3
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn wrong_shape_dtype_or_name() {
        let wrong_shape = weights("embed_tokens.weight", Dtype::F16, &[2, 3], &[0; 12]);
        let error = EmbeddingTable::new(wrong_shape, &config()).unwrap_err();
        assert!(
            error.to_string().contains("[2, 3], expected [3, 2]"),
            "{error}"
        );

        let wrong_dtype = weights("embed_tokens.weight", Dtype::I16, &[3, 2], &[0; 12]);
        let error = EmbeddingTable::new(wrong_dtype, &config()).unwrap_err();
        assert!(
            matches!(error, TextError::Weights(WeightError::Dtype { .. })),
            "{error}"
        );

        let wrong_name = weights("wte.weight", Dtype::F16, &[3, 2], &[0; 12]);
        let error = EmbeddingTable::new(wrong_name, &config()).unwrap_err();
        assert!(error.to_string().contains("embed_tokens.weight"), "{error}");
    }

    #[test]
    fn rounding() {
        let root = (3072f32).sqrt();
        assert_eq!(round_to(DType::F32, root), root);
        assert_eq!(round_to(DType::BF16, root), 55.5);
        assert_eq!(round_to(DType::F16, root), 55.4375);
    }
}
