//! Whether the tensors of a LoRA fit a transformer.

use std::collections::BTreeMap;

use burn::tensor::Device;

use crate::transformer::config::SanaTransformerConfig;

use super::error::{LoraError, LoraMismatch};
use super::file::Lora;
use super::kind::{LOHA, LOKR, LoraKind, Tensors, kind_of};
use super::layers::layer_sizes;
use super::names::{DORA_SCALE, Role, counterpart};

/// Along which axis of the weight DoRA's magnitudes are.
#[derive(Debug, Clone, Copy)]
pub(super) enum MagnitudeAxis {
    Output,
    Input,
}

impl Lora {
    /// Checks that it fits a transformer, by its header alone.
    ///
    /// # Errors
    /// [`LoraError::Mismatch`] with every layer that the transformer lacks and every tensor that is
    /// missing, unexpected or of another shape; [`WeightError::Dtype`](crate::weights::WeightError::Dtype) for one that is not f32, f16
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
        let names = layers.keys().map(|layer| (layer.replace('.', "_"), layer));
        let names: BTreeMap<String, &String> = names.collect();
        for (target, tensors) in &self.targets {
            let layer = match layers.get_key_value(target) {
                Some((layer, size)) => Some((layer, *size)),
                None => names.get(target).map(|layer| (*layer, layers[*layer])),
            };
            match layer {
                // The layer's own name is in the file too.
                Some((layer, _)) if layer != target && self.targets.contains_key(layer) => {
                    found.unexpected.extend(tensors.values().cloned());
                }
                Some((_, size)) => self.check_tensors(size, target, tensors, &mut found),
                None => {
                    found.absent.push(target.clone());
                    self.missing(target, tensors, &mut found);
                }
            }
            if let Some(alpha) = tensors.get(&Role::Alpha) {
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
        for name in self.targets.values().flat_map(BTreeMap::values) {
            self.weights.checked_dtype(name)?;
        }
        Ok(())
    }

    /// Finds the tensors that a layer's adapter lacks; whether it is complete.
    fn missing(&self, layer: &str, tensors: &Tensors, found: &mut LoraMismatch) -> bool {
        let has = |role: &Role| tensors.contains_key(role);
        let mut missing = Vec::new();
        match kind_of(tensors) {
            LoraKind::Lora | LoraKind::Dora => missing.extend([Role::Down, Role::Up]),
            LoraKind::LoHa => missing.extend(LOHA.into_iter().flatten()),
            LoraKind::LoKr => {
                for [whole, a, b] in LOKR {
                    match () {
                        () if has(&whole) => {}
                        () if has(&a) || has(&b) => missing.extend([a, b]),
                        () => missing.push(whole),
                    }
                }
            }
        }
        missing.retain(|role| !has(role));
        let present = tensors
            .iter()
            .find(|(role, _)| !matches!(role, Role::Alpha | Role::Magnitude))
            .map(|(_, name)| name.as_str());
        let names = missing
            .iter()
            .map(|role| counterpart(present, layer, *role));
        found.missing.extend(names);
        missing.is_empty()
    }

    /// The shapes that the tensors of a layer have to have.
    fn check_tensors(
        &self,
        [d_output, d_input]: [usize; 2],
        layer: &str,
        tensors: &Tensors,
        found: &mut LoraMismatch,
    ) {
        if !self.missing(layer, tensors, found) {
            return;
        }
        match kind_of(tensors) {
            LoraKind::Lora | LoraKind::Dora => {
                let (down, up) = (&tensors[&Role::Down], &tensors[&Role::Up]);
                let rank = self.matrix_dims(down).map_or(1, |[rank, _]| rank.max(1));
                self.expect(down, [rank, d_input], found);
                self.expect(up, [d_output, rank], found);
            }
            LoraKind::LoHa => {
                for [a, b] in LOHA.map(|pair| pair.map(|role| &tensors[&role])) {
                    let rank = self.matrix_dims(b).map_or(1, |[rank, _]| rank.max(1));
                    self.expect(a, [d_output, rank], found);
                    self.expect(b, [rank, d_input], found);
                }
            }
            LoraKind::LoKr => {
                let [first, second] = LOKR.map(|roles| self.lokr_dims(tensors, roles, found));
                let ([rows, columns], _) = first;
                let (second, name) = second;
                let fits = |[r, c]: [usize; 2]| r * rows == d_output && c * columns == d_input;
                if !fits(second) {
                    let expected = vec![d_output / rows.max(1), d_input / columns.max(1)];
                    found.misshapen.push((name, expected, second.to_vec()));
                }
            }
        }
        if let Some(name) = tensors.get(&Role::Magnitude)
            && self.magnitude_axis(name, [d_output, d_input]).is_none()
        {
            let shape = self.weights.shape(name).unwrap_or_default().to_vec();
            found.misshapen.push((name.clone(), vec![d_output], shape));
        }
    }

    fn expect(&self, name: &str, expected: [usize; 2], found: &mut LoraMismatch) {
        if self.matrix_dims(name) != Some(expected) {
            let shape = self.weights.shape(name).unwrap_or_default().to_vec();
            let item = (name.to_owned(), expected.to_vec(), shape);
            found.misshapen.push(item);
        }
    }

    /// The size of a factor of a LoKr, and the name of the tensor that has its columns.
    fn lokr_dims(
        &self,
        tensors: &Tensors,
        [whole, a, b]: [Role; 3],
        found: &mut LoraMismatch,
    ) -> ([usize; 2], String) {
        if let Some(whole) = tensors.get(&whole) {
            return (self.matrix_dims(whole).unwrap_or_default(), whole.clone());
        }
        let (a, b) = (&tensors[&a], &tensors[&b]);
        let [rows, rank] = self.matrix_dims(a).unwrap_or_default();
        let [_, columns] = self.matrix_dims(b).unwrap_or_default();
        self.expect(b, [rank.max(1), columns], found);
        ([rows, columns], b.clone())
    }

    /// PEFT's magnitudes are one for each output, also where they are `[1, out, 1, 1]`; those of
    /// LyCORIS are as their shape says.
    pub(super) fn magnitude_axis(
        &self,
        name: &str,
        [d_output, d_input]: [usize; 2],
    ) -> Option<MagnitudeAxis> {
        let shape = self.weights.shape(name)?;
        let lycoris = name.ends_with(DORA_SCALE);
        match *shape {
            [count] | [count, 1] | [count, 1, 1, 1] if count == d_output => {
                Some(MagnitudeAxis::Output)
            }
            [1, count] | [1, count, 1, 1] if !lycoris && count == d_output => {
                Some(MagnitudeAxis::Output)
            }
            [1, count] | [1, count, 1, 1] if lycoris && count == d_input => {
                Some(MagnitudeAxis::Input)
            }
            _ => None,
        }
    }

    /// Rows and columns of a factor; a 1x1 convolution's is a matrix too.
    fn matrix_dims(&self, name: &str) -> Option<[usize; 2]> {
        match self.weights.shape(name)? {
            &[rows, columns] | &[rows, columns, 1, 1] => Some([rows, columns]),
            _ => None,
        }
    }
}
