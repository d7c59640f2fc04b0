//! Files of nunchaku: the transformer of Sana 1.6B with 4-bit blocks.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::Module;
use safetensors::tensor::Dtype;

use crate::transformer::config::{ConfigError, SanaTransformerConfig};
use crate::weights::encoded::svdquant::{LowRank, PackedBias, RowOrder, SvdMatrix, Zeros};
use crate::weights::encoded::{Encoded, Rows, Slice};
use crate::weights::{KeyMap, NewTensor, WeightError, Weights, parameter_shapes};

/// By which such a file is recognised, in every block.
const MARK: &str = ".attn.qkv_proj.qweight";
const BLOCKS: &str = "transformer_blocks.";
/// Channels of a head, for which nunchaku's kernels are built.
const HEAD: usize = 32;

/// A quantized layer of a block: published, in the file.
const LAYERS: [(&str, &str); 8] = [
    ("attn1.to_q", "attn.qkv_proj"),
    ("attn1.to_k", "attn.qkv_proj"),
    ("attn1.to_v", "attn.qkv_proj"),
    ("attn1.to_out.0", "attn.out_proj"),
    ("attn2.to_q", "cross_attn.q_linear"),
    ("attn2.to_out.0", "cross_attn.out_proj"),
    ("ff.conv_inverted", "ff.inverted_conv"),
    ("ff.conv_point", "ff.point_conv"),
];

/// The tensors of a quantized layer, by the names of both generations; the first three are always there.
const PARTS: [[&str; 2]; 5] = [
    ["qweight", "qweight"],
    ["wscales", "wscales"],
    ["smooth", "smooth_factor"],
    ["lora_down", "proj_down"],
    ["lora_up", "proj_up"],
];

/// Tensors that computing does not need: the factors before folding, and the values of perturbed attention,
/// which are those of attention.
const UNUSED: [&str; 3] = [".smooth_orig", ".smooth_factor_orig", ".attn.pag_to_v."];

/// The layout of nunchaku's files: one that is called like `svdq-int4_r32-sana1.6b.safetensors`, or the
/// older pair `transformer_blocks.safetensors` and `unquantized_layers.safetensors`. Most matrices of the blocks are of 4 bits with a low-rank part ([SVDQuant](https://arxiv.org/abs/2411.05007)),
/// in the order of a GPU's registers, padded to multiples of 128; query, key and value are one matrix, with
/// keys and values alternating by head; the two halves of the feed-forward's channels take turns, also in the
/// depthwise convolution. [`SanaTransformerConfig::load`] recognises the layout and loads the dense weights
/// that these stand for, `q * scale / smooth + up down`. Files of NVFP4 are refused.
#[derive(Debug, Clone, Copy)]
pub struct NunchakuLayout(());

impl NunchakuLayout {
    /// Recognises the layout by `attn.qkv_proj.qweight` in a block.
    pub fn of(weights: &Weights) -> Option<Self> {
        weights
            .names()
            .any(|name| name.starts_with(BLOCKS) && name.ends_with(MARK))
            .then_some(Self(()))
    }

    /// The config that the newer, single file carries; `None` for the older pair.
    ///
    /// # Errors
    /// When it is not usable, or of another model.
    pub fn config(&self, weights: &Weights) -> Result<Option<SanaTransformerConfig>, ConfigError> {
        let class = weights.metadata("model_class").unwrap_or("Sana");
        if !class.contains("Sana") {
            return Err(ConfigError::NotInferred {
                origin: weights.origin().to_owned(),
                reason: format!("it is a file of nunchaku for the model {class}"),
            });
        }
        let Some(text) = weights.metadata("config") else {
            return Ok(None);
        };
        SanaTransformerConfig::from_json(text, weights.origin().as_ref()).map(Some)
    }

    /// The weights under their published names and in their published shapes. Nothing is computed before they
    /// are loaded. `model` is one of that config.
    ///
    /// # Errors
    /// [`WeightError::Mismatch`] when tensors are missing or unexpected, by the names of the file;
    /// [`WeightError::Quantized`] when those of a layer do not fit it, or are of a format that is not read.
    pub fn published<M: Module>(
        &self,
        weights: &Weights,
        config: &SanaTransformerConfig,
        model: &M,
    ) -> Result<Weights, WeightError> {
        let quantized = |reason: String| WeightError::Quantized {
            origin: weights.origin().to_owned(),
            reason,
        };
        if config.attention_head_dim != HEAD {
            let found = config.attention_head_dim;
            return Err(quantized(format!(
                "heads of {found} channels, expected {HEAD}"
            )));
        }
        let mut reader = Reader {
            weights,
            used: BTreeSet::new(),
            missing: Vec::new(),
            tensors: Vec::new(),
        };
        let shapes = parameter_shapes(model, KeyMap::default());
        let shapes: BTreeMap<String, Vec<usize>> = shapes.into_iter().collect();
        for (name, shape) in &shapes {
            let added = reader.add(name, shape);
            added.map_err(|reason| quantized(format!("{name}: {reason}")))?;
        }
        reader.skip_zero_biases().map_err(quantized)?;
        let unexpected: Vec<String> = weights
            .names()
            .filter(|name| !reader.used.contains(*name))
            .filter(|name| !UNUSED.iter().any(|part| name.contains(part)))
            .map(str::to_owned)
            .collect();
        if !reader.missing.is_empty() || !unexpected.is_empty() {
            return Err(WeightError::Mismatch {
                origin: weights.origin().to_owned(),
                missing: reader.missing,
                unexpected,
                misshapen: Vec::new(),
            });
        }
        Ok(weights.with_tensors(reader.tensors))
    }
}

/// Goes through the tensors of a model and finds what each is made of.
struct Reader<'a> {
    weights: &'a Weights,
    used: BTreeSet<String>,
    missing: Vec<String>,
    tensors: Vec<(String, NewTensor)>,
}

impl Reader<'_> {
    /// Adds a tensor of the published layout.
    fn add(&mut self, name: &str, shape: &[usize]) -> Result<(), String> {
        let block = name
            .strip_prefix(BLOCKS)
            .and_then(|rest| rest.split_once('.'));
        let Some((index, inner)) = block else {
            self.add_stored(name, name.to_owned());
            return Ok(());
        };
        let block = format!("{BLOCKS}{index}.");
        if let Some((published, stored)) = LAYERS.iter().find(|(published, _)| {
            inner
                .strip_prefix(published)
                .is_some_and(|rest| matches!(rest, ".weight" | ".bias"))
        }) {
            let layer = format!("{block}{stored}");
            let order = row_order(published, shape);
            return match inner.ends_with(".bias") {
                true => self.add_bias(name, shape, &layer, order),
                false => self.add_matrix(name, shape, &layer, order),
            };
        }
        let [rows, ..] = *shape else {
            return Err(format!("the shape {shape:?}"));
        };
        for (published, first) in [("attn2.to_k.", 0), ("attn2.to_v.", rows)] {
            if let Some(kind) = inner.strip_prefix(published) {
                let stored = format!("{block}cross_attn.kv_linear.{kind}");
                return self.add_rows(name, shape, stored, 2 * rows, move |row| first + row);
            }
        }
        if let Some(kind) = inner.strip_prefix("ff.conv_depth.") {
            let stored = format!("{block}ff.depth_conv.{kind}");
            let order = RowOrder::Pairs { rows };
            let channels = 2 * (rows / 2).next_multiple_of(64);
            return self.add_rows(name, shape, stored, channels, move |row| order.place(row));
        }
        self.add_stored(name, name.to_owned());
        Ok(())
    }

    fn find(&mut self, name: String) -> Option<Slice> {
        match self.weights.slice(&name) {
            Some(slice) => {
                self.used.insert(name);
                Some(slice)
            }
            None => {
                self.missing.push(name);
                None
            }
        }
    }

    fn add_stored(&mut self, name: &str, stored: String) {
        if self.find(stored.clone()).is_some() {
            self.tensors
                .push((name.to_owned(), NewTensor::Stored(stored)));
        }
    }

    fn push(&mut self, name: &str, shape: &[usize], dtype: Dtype, source: impl Encoded + 'static) {
        let tensor = NewTensor::Encoded {
            shape: shape.to_vec(),
            dtype,
            source: Box::new(source),
        };
        self.tensors.push((name.to_owned(), tensor));
    }

    /// Rows of a tensor that is not quantized.
    fn add_rows(
        &mut self,
        name: &str,
        shape: &[usize],
        stored: String,
        stored_rows: usize,
        place: impl Fn(usize) -> usize + Send + Sync + 'static,
    ) -> Result<(), String> {
        let Some(slice) = self.find(stored) else {
            return Ok(());
        };
        let dtype = float(&slice)?;
        let columns: usize = shape.iter().skip(1).product();
        if slice.elements() != stored_rows * columns {
            let found = slice.shape();
            return Err(format!(
                "the shape {found:?}, expected {stored_rows} rows of {columns}"
            ));
        }
        let plus = 0.0;
        self.push(name, shape, dtype, Rows { slice, place, plus });
        Ok(())
    }

    fn add_matrix(
        &mut self,
        name: &str,
        shape: &[usize],
        layer: &str,
        order: RowOrder,
    ) -> Result<(), String> {
        let [rows, inputs, ..] = *shape else {
            return Err(format!("the shape {shape:?}"));
        };
        let (qweight, scales) = (self.part(layer, 0), self.part(layer, 1));
        let (smooth, low_rank) = (self.part(layer, 2), self.low_rank(layer)?);
        let (Some(qweight), Some(scales), Some(smooth)) = (qweight, scales, smooth) else {
            return Ok(());
        };
        if scales.dtype() == Dtype::F8_E4M3 {
            return Err("it is in NVFP4, which is not supported; use the int4 file".to_owned());
        }
        let dtype = float(&scales)?;
        float(&smooth)?;
        let packed = SvdMatrix::sizes(&qweight, &scales, &smooth, low_rank.as_ref())?;
        let expected = [order.packed(rows), inputs.next_multiple_of(128)];
        if packed != expected {
            return Err(format!(
                "{layer} is {packed:?} with its padding, expected {expected:?}"
            ));
        }
        let source = SvdMatrix {
            qweight,
            scales,
            smooth,
            low_rank,
            packed,
            inputs,
            order,
        };
        self.push(name, shape, dtype, source);
        Ok(())
    }

    /// One of [`PARTS`].
    fn part(&mut self, layer: &str, part: usize) -> Option<Slice> {
        let names = PARTS[part].map(|part| format!("{layer}.{part}"));
        let found = names.iter().find(|name| self.weights.contains(name));
        let name = found.unwrap_or(&names[0]).clone();
        match found {
            // The low-rank part may be absent.
            None if part >= 3 => None,
            _ => self.find(name),
        }
    }

    fn low_rank(&mut self, layer: &str) -> Result<Option<LowRank>, String> {
        match (self.part(layer, 3), self.part(layer, 4)) {
            (None, None) => Ok(None),
            (Some(down), Some(up)) => {
                float(&down)?;
                float(&up)?;
                let rank = down.shape().get(1).copied();
                let rank = rank.ok_or("lora_down has one axis")?;
                Ok(Some(LowRank { down, up, rank }))
            }
            _ => Err(format!("{layer} has one half of its low-rank part")),
        }
    }

    /// The bias of a quantized layer, which has zeros where the file has none: nunchaku computes without it.
    fn add_bias(
        &mut self,
        name: &str,
        shape: &[usize],
        layer: &str,
        order: RowOrder,
    ) -> Result<(), String> {
        let stored = format!("{layer}.bias");
        if !self.weights.contains(&stored) {
            self.push(name, shape, Dtype::BF16, Zeros);
            return Ok(());
        }
        let (Some(bias), &[rows]) = (self.find(stored), shape) else {
            return Ok(());
        };
        let dtype = float(&bias)?;
        let expected = order.packed(rows);
        if bias.elements() != expected {
            let found = bias.shape();
            return Err(format!(
                "a bias of the shape {found:?}, expected {expected}"
            ));
        }
        self.push(name, shape, dtype, PackedBias { bias, order });
        Ok(())
    }

    /// Layers without a bias have one of zeros in the file.
    fn skip_zero_biases(&mut self) -> Result<(), String> {
        for name in self.weights.names() {
            let ours = LAYERS.iter().any(|(_, stored)| {
                let rest = name.strip_suffix(".bias");
                rest.is_some_and(|layer| layer.ends_with(stored))
            });
            if !ours || self.used.contains(name) {
                continue;
            }
            let Some(bias) = self.weights.slice(name) else {
                continue;
            };
            let values = bias.all().map_err(|error| error.to_string())?;
            if values.iter().all(|&value| value == 0.0) {
                self.used.insert(name.to_owned());
            }
        }
        Ok(())
    }
}

/// Where the rows of a layer are.
fn row_order(published: &str, shape: &[usize]) -> RowOrder {
    let rows = shape.first().copied().unwrap_or(0);
    match published {
        "attn1.to_q" => RowOrder::Query,
        "attn1.to_k" | "attn1.to_v" => RowOrder::Heads {
            // The first third is of the query.
            skip: rows.next_multiple_of(128),
            values: published == "attn1.to_v",
        },
        "ff.conv_inverted" => RowOrder::Pairs { rows },
        _ => RowOrder::Same,
    }
}

fn float(slice: &Slice) -> Result<Dtype, String> {
    match slice.dtype() {
        dtype @ (Dtype::BF16 | Dtype::F16 | Dtype::F32) => Ok(dtype),
        other => Err(format!("a tensor of {other:?} in place of 16-bit floats")),
    }
}
