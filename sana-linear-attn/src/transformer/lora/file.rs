//! LoRA files in the layout of PEFT and diffusers.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{DType, Device, Tensor};

use crate::layers::LowRank;
use crate::transformer::config::SanaTransformerConfig;
use crate::weights::{LARGEST_CONFIG, WeightError, Weights, read_text_bounded};

use super::error::{LoraError, LoraMismatch};
use super::layers::layer_sizes;
use super::settings::Settings;

/// Names of the tensors that change one layer.
#[derive(Debug, Clone, Default)]
struct Factors {
    /// `A`, `[rank, in]`.
    down: Option<String>,
    /// `B`, `[out, rank]`.
    up: Option<String>,
    alpha: Option<String>,
}

/// A LoRA file in the layout of PEFT and diffusers: for each layer that it changes
/// `LAYER.lora_A.weight` `[rank, in]` and `LAYER.lora_B.weight` `[out, rank]`, and perhaps a scalar
/// `LAYER.alpha`. Nothing but its header has been read.
///
/// Layers bear the names of the transformer's checkpoint, bare or behind `transformer.` or
/// `base_model.model.`; `lora_A.default.weight` is read as `lora_A.weight`. Factors of 1x1
/// convolutions may have two further axes of length 1.
#[derive(Debug, Clone)]
pub struct Lora {
    weights: Weights,
    targets: BTreeMap<String, Factors>,
    unexpected: Vec<String>,
    settings: Settings,
}

/// Which part of a LoRA a tensor is.
#[derive(Debug, Clone, Copy)]
enum Role {
    Down,
    Up,
    Alpha,
}

const ROLES: [(&str, Role); 5] = [
    (".lora_A.weight", Role::Down),
    (".lora_A.default.weight", Role::Down),
    (".lora_B.weight", Role::Up),
    (".lora_B.default.weight", Role::Up),
    (".alpha", Role::Alpha),
];

/// The layer that a tensor changes, and how.
fn layer_and_role(name: &str) -> Option<(&str, Role)> {
    let name = name.strip_prefix("base_model.model.").unwrap_or(name);
    let name = name.strip_prefix("transformer.").unwrap_or(name);
    ROLES
        .iter()
        .find_map(|(suffix, role)| Some((name.strip_suffix(suffix)?, *role)))
}

/// PEFT's name of the file whose settings stand in a file of their own.
const PEFT_FILE: &str = "adapter_model.safetensors";
const PEFT_SETTINGS: &str = "adapter_config.json";

impl Lora {
    /// Opens a LoRA file. Alpha comes from its tensors, else from its metadata, else from the
    /// `adapter_config.json` next to a file called `adapter_model.safetensors`; without any it is
    /// the rank.
    ///
    /// # Errors
    /// When the file cannot be read or is empty, or its settings are not usable.
    pub fn open(path: &Path) -> Result<Self, LoraError> {
        let weights = Weights::open_file(path)?;
        let adjacent = path.with_file_name(PEFT_SETTINGS);
        let text = if path.ends_with(PEFT_FILE) && adjacent.is_file() {
            let read = read_text_bounded(&adjacent, LARGEST_CONFIG);
            Some(read.map_err(|source| WeightError::Io {
                path: adjacent,
                source,
            })?)
        } else {
            None
        };
        Self::with_settings(weights, text.as_deref())
    }

    /// A LoRA of tensors that are open already, with the settings of their metadata.
    ///
    /// # Errors
    /// When there are no tensors, or the settings are not usable.
    pub fn from_weights(weights: Weights) -> Result<Self, LoraError> {
        Self::with_settings(weights, None)
    }

    fn with_settings(weights: Weights, settings: Option<&str>) -> Result<Self, LoraError> {
        let origin = weights.origin().to_owned();
        let mut targets: BTreeMap<String, Factors> = BTreeMap::new();
        let mut unexpected = Vec::new();
        for name in weights.names() {
            let Some((layer, role)) = layer_and_role(name) else {
                unexpected.push(name.to_owned());
                continue;
            };
            let factors = targets.entry(layer.to_owned()).or_default();
            let slot = match role {
                Role::Down => &mut factors.down,
                Role::Up => &mut factors.up,
                Role::Alpha => &mut factors.alpha,
            };
            if slot.is_none() {
                *slot = Some(name.to_owned());
            } else {
                unexpected.push(name.to_owned());
            }
        }
        if targets.is_empty() && unexpected.is_empty() {
            return Err(LoraError::Empty { origin });
        }
        let settings = Settings::read(&weights, settings)
            .and_then(|settings| {
                settings
                    .check(targets.keys().map(String::as_str))
                    .map(|()| settings)
            })
            .map_err(|reason| LoraError::Settings { origin, reason })?;
        Ok(Self {
            weights,
            targets,
            unexpected,
            settings,
        })
    }

    /// Where it comes from: a path, or the name given.
    pub fn origin(&self) -> &str {
        self.weights.origin()
    }

    /// The layers that it changes, by the names of the transformer's checkpoint.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        self.targets.keys().map(String::as_str)
    }

    /// Checks that it fits a transformer, by its header alone.
    ///
    /// # Errors
    /// [`LoraError::Mismatch`] with every layer that the transformer lacks and every tensor that is
    /// missing, unexpected or of another shape; [`WeightError::Dtype`] for one that is not f32, f16
    /// or bf16.
    ///
    /// # Panics
    /// If the config was not validated and is impossible.
    pub fn check(&self, config: &SanaTransformerConfig, device: &Device) -> Result<(), LoraError> {
        self.check_layers(&layer_sizes(&mut config.init(device)))
    }

    pub(super) fn check_layers(
        &self,
        layers: &BTreeMap<String, [usize; 2]>,
    ) -> Result<(), LoraError> {
        let mut found = LoraMismatch {
            origin: self.origin().to_owned(),
            unexpected: self.unexpected.clone(),
            ..LoraMismatch::default()
        };
        for (layer, factors) in &self.targets {
            match (&factors.down, &factors.up) {
                (Some(down), Some(up)) => match layers.get(layer) {
                    Some(&size) => self.check_factors(size, down, up, &mut found),
                    None => found.absent.push(layer.clone()),
                },
                (down, up) => {
                    if !layers.contains_key(layer) {
                        found.absent.push(layer.clone());
                    }
                    // As the half that is there is called.
                    let lacking = |present: &Option<String>, [own, wanted]: [&str; 2]| {
                        let name = present.as_ref().map(|name| name.replace(own, wanted));
                        name.unwrap_or_else(|| format!("{layer}.{wanted}.weight"))
                    };
                    if down.is_none() {
                        found.missing.push(lacking(up, ["lora_B", "lora_A"]));
                    }
                    if up.is_none() {
                        found.missing.push(lacking(down, ["lora_A", "lora_B"]));
                    }
                }
            }
            if let Some(alpha) = &factors.alpha {
                let shape = self.weights.shape(alpha).unwrap_or_default();
                if shape.iter().product::<usize>() != 1 {
                    let shape = shape.to_vec();
                    found.misshapen.push((alpha.clone(), Vec::new(), shape));
                }
            }
        }
        if !found.is_empty() {
            return Err(LoraError::Mismatch(Box::new(found)));
        }
        for factors in self.targets.values() {
            let names = [&factors.down, &factors.up, &factors.alpha];
            for name in names.into_iter().flatten() {
                self.weights.checked_dtype(name)?;
            }
        }
        Ok(())
    }

    /// The shapes that the two factors of a layer have to have: they share the rank.
    fn check_factors(
        &self,
        [d_output, d_input]: [usize; 2],
        down: &str,
        up: &str,
        found: &mut LoraMismatch,
    ) {
        let rank = self.matrix_dims(down).map_or(1, |[rank, _]| rank.max(1));
        for (name, expected) in [(down, [rank, d_input]), (up, [d_output, rank])] {
            if self.matrix_dims(name) != Some(expected) {
                let shape = self.weights.shape(name).unwrap_or_default().to_vec();
                let item = (name.to_owned(), expected.to_vec(), shape);
                found.misshapen.push(item);
            }
        }
    }

    /// Rows and columns of a factor; a 1x1 convolution's is a matrix too.
    fn matrix_dims(&self, name: &str) -> Option<[usize; 2]> {
        match self.weights.shape(name)? {
            &[rows, columns] | &[rows, columns, 1, 1] => Some([rows, columns]),
            _ => None,
        }
    }

    fn matrix(&self, name: &str, device: &Device) -> Result<Tensor<2>, WeightError> {
        match self.weights.shape(name) {
            Some(&[rows, columns, _, _]) => {
                let tensor = self.weights.tensor::<4>(name, DType::F32, device)?;
                Ok(tensor.reshape([rows, columns]))
            }
            _ => self.weights.tensor::<2>(name, DType::F32, device),
        }
    }

    /// What it adds to a layer, in f32, all factors multiplied into `up`; `None` when it leaves the
    /// layer as it is.
    pub(super) fn term(
        &self,
        layer: &str,
        scale: f64,
        device: &Device,
    ) -> Result<Option<LowRank>, LoraError> {
        let Some(factors) = self.targets.get(layer) else {
            return Ok(None);
        };
        let (Some(down), Some(up)) = (&factors.down, &factors.up) else {
            return Ok(None);
        };
        let down = self.matrix(down, device)?;
        let [rank, _] = down.dims();
        let alpha = factors.alpha.as_deref();
        let alpha = alpha.and_then(|name| scalar(&self.weights, name));
        let scale = scale * self.settings.factor(alpha, layer, rank);
        let up = self.matrix(up, device)? * scale;
        Ok(Some(LowRank { down, up }))
    }
}

/// The value of a float tensor of one element.
fn scalar(weights: &Weights, name: &str) -> Option<f64> {
    match (weights.dtype(name)?, weights.bytes(name)?) {
        (DType::F32, &[a, b, c, d]) => Some(f64::from(f32::from_le_bytes([a, b, c, d]))),
        (DType::F16, &[a, b]) => Some(half::f16::from_le_bytes([a, b]).to_f64()),
        (DType::BF16, &[a, b]) => Some(half::bf16::from_le_bytes([a, b]).to_f64()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_use() {
        let layer = "transformer_blocks.0.attn1.to_q";
        for prefix in ["", "transformer.", "base_model.model."] {
            for suffix in ["lora_A.weight", "lora_A.default.weight"] {
                let name = format!("{prefix}{layer}.{suffix}");
                let found = layer_and_role(&name);
                assert!(
                    matches!(found, Some((found, Role::Down)) if found == layer),
                    "{name}: {found:?}"
                );
            }
        }
        for other in ["proj_out.weight", "lora_A.weight", "a.lora_A.bias", ""] {
            assert!(layer_and_role(other).is_none(), "{other}");
        }
    }
}
