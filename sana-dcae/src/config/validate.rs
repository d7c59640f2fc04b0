//! Which configs a network can be built from.

use crate::{BlockType, DcAeConfig, DcAeError, DownsampleBlockType, NormType, PerStage};

// Bounds far above any released model, so that a hostile config cannot overflow a size or build
// layers without end.
const MAX_STAGES: usize = 16;
const MAX_CHANNELS: usize = 1 << 16;
const MAX_LAYERS: usize = 1 << 7;
const MAX_SCALES: usize = 8;
const MAX_KERNEL: usize = 31;

impl DcAeConfig {
    /// Checks that a network can be built from these values.
    ///
    /// # Errors
    /// [`DcAeError::StageCount`] where lists disagree in length, [`DcAeError::ConfigValue`] where
    /// a value, or two values together, are impossible.
    pub fn validate(&self) -> Result<(), DcAeError> {
        let stages = self.stages();
        if !(2..=MAX_STAGES).contains(&stages) {
            let expected = format!("2 to {MAX_STAGES} stages");
            return Err(invalid("encoder_block_out_channels", stages, expected));
        }
        for (key, found) in [
            (
                "decoder_block_out_channels",
                self.decoder_block_out_channels.len(),
            ),
            (
                "encoder_layers_per_block",
                self.encoder_layers_per_block.len(),
            ),
            (
                "decoder_layers_per_block",
                self.decoder_layers_per_block.len(),
            ),
            (
                "encoder_qkv_multiscales",
                self.encoder_qkv_multiscales.len(),
            ),
            (
                "decoder_qkv_multiscales",
                self.decoder_qkv_multiscales.len(),
            ),
        ] {
            check_length(key, found, stages)?;
        }
        self.encoder_block_types
            .check_length("encoder_block_types", stages)?;
        self.decoder_block_types
            .check_length("decoder_block_types", stages)?;
        self.decoder_norm_types
            .check_length("decoder_norm_types", stages)?;
        self.decoder_act_fns
            .check_length("decoder_act_fns", stages)?;

        for (key, value) in [
            ("in_channels", self.in_channels),
            ("latent_channels", self.latent_channels),
            ("attention_head_dim", self.attention_head_dim),
        ] {
            check_channels(key, value)?;
        }
        if !(self.scaling_factor.is_finite() && self.scaling_factor > 0.0) {
            return Err(invalid(
                "scaling_factor",
                self.scaling_factor,
                "a positive number",
            ));
        }
        self.validate_encoder()?;
        self.validate_decoder()
    }

    fn validate_encoder(&self) -> Result<(), DcAeError> {
        let widths = &self.encoder_block_out_channels;
        let layers = &self.encoder_layers_per_block;
        self.validate_stages(
            "encoder",
            widths,
            layers,
            &self.encoder_block_types,
            &self.encoder_qkv_multiscales,
        )?;

        let unshuffles = self.downsample_block_type == DownsampleBlockType::PixelUnshuffle;
        for (stage, pair) in widths.windows(2).enumerate() {
            let [width, next] = [pair[0], pair[1]];
            // The stem of an empty first stage downsamples too, without shortcut.
            if unshuffles && next % 4 != 0 {
                let key = format!("encoder_block_out_channels[{}]", stage + 1);
                return Err(invalid(
                    key,
                    next,
                    "a multiple of 4, as pixel_unshuffle makes",
                ));
            }
            if layers[stage] > 0 && (4 * width) % next != 0 {
                let key = format!("encoder_block_out_channels[{}]", stage + 1);
                let expected = format!("a divisor of 4 x the stage before's {width}");
                return Err(invalid(key, next, expected));
            }
        }
        let last = widths[widths.len() - 1];
        if self.encoder_out_shortcut && !last.is_multiple_of(self.latent_channels) {
            let expected = format!("a divisor of the encoder's last width {last}");
            return Err(invalid("latent_channels", self.latent_channels, expected));
        }
        Ok(())
    }

    fn validate_decoder(&self) -> Result<(), DcAeError> {
        let widths = &self.decoder_block_out_channels;
        let layers = &self.decoder_layers_per_block;
        self.validate_stages(
            "decoder",
            widths,
            layers,
            &self.decoder_block_types,
            &self.decoder_qkv_multiscales,
        )?;

        for (stage, pair) in widths.windows(2).enumerate() {
            let [width, next] = [pair[0], pair[1]];
            if layers[stage] > 0 && (4 * width) % next != 0 {
                let key = format!("decoder_block_out_channels[{stage}]");
                let expected =
                    format!("a width of which 4 x is a multiple of the next stage's {next}");
                return Err(invalid(key, width, expected));
            }
        }
        for (stage, &depth) in layers.iter().enumerate() {
            let attends = self.decoder_block_types.get(stage) == Some(BlockType::EfficientVit);
            let batch_norm = self.decoder_norm_types.get(stage) == Some(NormType::BatchNorm);
            if depth > 0 && attends && batch_norm {
                let key = format!("decoder_norm_types[{stage}]");
                return Err(invalid(
                    key,
                    "batch_norm",
                    "rms_norm in a stage of EfficientViTBlock",
                ));
            }
        }
        let last = widths[widths.len() - 1];
        if self.decoder_in_shortcut && !last.is_multiple_of(self.latent_channels) {
            let expected = format!("a divisor of the decoder's last width {last}");
            return Err(invalid("latent_channels", self.latent_channels, expected));
        }
        Ok(())
    }

    fn validate_stages(
        &self,
        part: &str,
        widths: &[usize],
        layers: &[usize],
        block_types: &PerStage<BlockType>,
        multiscales: &[Vec<usize>],
    ) -> Result<(), DcAeError> {
        let last = widths.len() - 1;
        for (stage, &width) in widths.iter().enumerate() {
            check_channels(format!("{part}_block_out_channels[{stage}]"), width)?;
            if multiscales[stage].len() > MAX_SCALES {
                let key = format!("{part}_qkv_multiscales[{stage}]");
                let found = format!("{} kernel sizes", multiscales[stage].len());
                return Err(invalid(key, found, format!("at most {MAX_SCALES}")));
            }
            if layers[stage] > MAX_LAYERS {
                let key = format!("{part}_layers_per_block[{stage}]");
                return Err(invalid(key, layers[stage], format!("at most {MAX_LAYERS}")));
            }
            // The change of size belongs to the stage, so an empty one would leave it out.
            if layers[stage] == 0 && stage != 0 && stage != last {
                let key = format!("{part}_layers_per_block[{stage}]");
                return Err(invalid(
                    key,
                    0,
                    "at least 1 (only the first and last stage may be empty)",
                ));
            }
            if layers[stage] == 0 || block_types.get(stage) != Some(BlockType::EfficientVit) {
                continue;
            }
            let head_dim = self.attention_head_dim;
            if width % head_dim != 0 {
                let key = format!("{part}_block_out_channels[{stage}]");
                return Err(invalid(
                    key,
                    width,
                    format!("a multiple of attention_head_dim {head_dim}"),
                ));
            }
            let impossible = |kernel: &&usize| kernel.is_multiple_of(2) || **kernel > MAX_KERNEL;
            if let Some(kernel) = multiscales[stage].iter().find(impossible) {
                let key = format!("{part}_qkv_multiscales[{stage}]");
                let expected = format!("odd kernel sizes up to {MAX_KERNEL}");
                return Err(invalid(key, kernel, expected));
            }
        }
        Ok(())
    }
}

impl<T> PerStage<T> {
    fn check_length(&self, key: &'static str, stages: usize) -> Result<(), DcAeError> {
        match self {
            Self::All(_) => Ok(()),
            Self::Each(values) => check_length(key, values.len(), stages),
        }
    }
}

fn check_channels(key: impl Into<String>, found: usize) -> Result<(), DcAeError> {
    if (1..=MAX_CHANNELS).contains(&found) {
        Ok(())
    } else {
        Err(invalid(key, found, format!("1 to {MAX_CHANNELS}")))
    }
}

fn check_length(key: &'static str, found: usize, expected: usize) -> Result<(), DcAeError> {
    if found == expected {
        Ok(())
    } else {
        Err(DcAeError::StageCount {
            key,
            found,
            expected,
        })
    }
}

fn invalid(key: impl Into<String>, found: impl ToString, expected: impl Into<String>) -> DcAeError {
    DcAeError::ConfigValue {
        key: key.into(),
        found: found.to_string(),
        expected: expected.into(),
    }
}
