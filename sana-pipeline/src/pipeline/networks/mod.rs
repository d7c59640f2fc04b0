//! The networks of a pipeline, each loaded at first need.

mod autoencoder;
mod clamp;
mod source;

use burn::tensor::{DType, Device};
use sana_dcae::DcAe;
use sana_linear_attn::transformer::F16Clamp;
use sana_linear_attn::{SanaControlNet, SanaTransformer, Weights};
use sana_text::{Gemma2LoadOptions, Gemma2Model, PromptOptions, PromptTokenizer, TextError};

use super::blocking::sync;
use super::options::LoadOptions;
use crate::checkpoint::{Checkpoint, Component, ControlNetFolder, LoraFile, dtype};
use crate::error::{PipelineError, RequestError};
use crate::request::EXTREME_SCALE;

use clamp::clamp_note;
use source::{choose_dtype, no_component};

pub(crate) use autoencoder::Autoencoder;

/// The networks that are in memory, and where the others come from.
#[derive(Debug)]
pub(crate) struct Networks {
    /// `None` for a pipeline made of parts that were in memory already; it releases none of them.
    source: Option<(Checkpoint, LoadOptions)>,
    device: Device,
    tokenizer: Option<PromptTokenizer>,
    text_encoder: Option<Gemma2Model>,
    transformer: Option<SanaTransformer>,
    autoencoder: Option<DcAe>,
    controlnet_folder: Option<ControlNetFolder>,
    controlnet: Option<SanaControlNet>,
    notes: Vec<String>,
}

impl Networks {
    pub fn of_checkpoint(checkpoint: Checkpoint, options: LoadOptions, device: &Device) -> Self {
        Self {
            notes: checkpoint.notes(),
            source: Some((checkpoint, options)),
            device: device.clone(),
            tokenizer: None,
            text_encoder: None,
            transformer: None,
            autoencoder: None,
            controlnet_folder: None,
            controlnet: None,
        }
    }

    /// With a ControlNet next to the checkpoint, or in it.
    pub fn with_controlnet(self, controlnet_folder: Option<ControlNetFolder>) -> Self {
        Self {
            controlnet_folder,
            ..self
        }
    }

    pub fn in_memory(
        tokenizer: PromptTokenizer,
        text_encoder: Gemma2Model,
        transformer: SanaTransformer,
        autoencoder: DcAe,
        device: &Device,
    ) -> Self {
        Self {
            source: None,
            device: device.clone(),
            tokenizer: Some(tokenizer),
            text_encoder: Some(text_encoder),
            transformer: Some(transformer),
            autoencoder: Some(autoencoder),
            controlnet_folder: None,
            controlnet: None,
            notes: Vec::new(),
        }
    }

    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Adds a note that is not there yet.
    pub fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Drops the notes that begin so.
    pub fn forget_notes(&mut self, beginning: &str) {
        self.notes.retain(|note| !note.starts_with(beginning));
    }

    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.source.as_ref().map(|(checkpoint, _)| checkpoint)
    }

    /// LoRAs at scales that make values which are not finite theirs.
    pub fn extreme_loras(&self) -> impl Iterator<Item = String> {
        let source = self.source.as_ref();
        let loras = source.map_or(&[][..], |(_, options)| options.loras.as_slice());
        let extreme = loras.iter().filter(|lora| lora.scale.abs() > EXTREME_SCALE);
        extreme.map(|lora| format!("{} of scale {:?}", lora.path.display(), lora.scale))
    }

    /// The dtype that each network has, or will have once it is loaded.
    pub fn dtypes(&self) -> Result<Vec<(Component, DType)>, PipelineError> {
        let Some((checkpoint, options)) = &self.source else {
            let text_encoder = self.text_encoder.as_ref().map(Gemma2Model::dtype);
            let transformer = self.transformer.as_ref().map(SanaTransformer::dtype);
            let autoencoder = self.autoencoder.as_ref().map(|model| model.decoder.dtype());
            let parts = [
                (Component::TextEncoder, text_encoder),
                (Component::Transformer, transformer),
                (Component::Vae, autoencoder),
            ];
            let known = parts
                .into_iter()
                .filter_map(|(part, dtype)| Some((part, dtype?)));
            return Ok(known.collect());
        };
        let variant = options.variant.as_deref();
        let chosen = |part, weights: &Weights| {
            let choice = dtype::choose(part, weights, options.dtype, &self.device);
            (part, choice.dtype)
        };
        let mut dtypes = Vec::new();
        for part in checkpoint.parts() {
            if part.weights_stem().is_some() && part != Component::ControlNet {
                dtypes.push(chosen(part, &checkpoint.weights(part, variant)?));
            }
        }
        if let Some(folder) = &self.controlnet_folder {
            let part = Component::ControlNet;
            dtypes.push(chosen(part, &folder.weights(variant)?));
        }
        Ok(dtypes)
    }

    /// Where the ControlNet comes from, if there is one.
    pub fn controlnet_folder(&self) -> Option<&ControlNetFolder> {
        self.controlnet_folder.as_ref()
    }

    /// Whether a part is in memory.
    pub fn is_loaded(&self, part: Component) -> bool {
        match part {
            Component::Scheduler => true,
            Component::Tokenizer => self.tokenizer.is_some(),
            Component::TextEncoder => self.text_encoder.is_some(),
            Component::Transformer => self.transformer.is_some(),
            Component::Vae => self.autoencoder.is_some(),
            Component::ControlNet => self.controlnet.is_some(),
        }
    }

    /// Drops every network but that of one stage, and gives its memory back. A ControlNet stays
    /// with the transformer.
    pub fn release_all_but(&mut self, kept: Component) -> Result<(), PipelineError> {
        let kept = kept.stage();
        let networks = [
            Component::TextEncoder,
            Component::Transformer,
            Component::Vae,
        ];
        let loaded = networks
            .into_iter()
            .chain([Component::ControlNet])
            .any(|part| part.stage() != kept && self.is_loaded(part));
        if self.source.is_none() || !loaded {
            return Ok(());
        }
        if kept != Component::TextEncoder {
            self.text_encoder = None;
        }
        if kept != Component::Transformer {
            self.transformer = None;
            self.controlnet = None;
        }
        if kept != Component::Vae {
            self.autoencoder = None;
        }
        sync(&self.device, "releasing memory")?;
        self.device.memory_cleanup();
        Ok(())
    }

    fn source(&self, part: Component) -> Result<(Checkpoint, LoadOptions), PipelineError> {
        self.source.clone().ok_or_else(|| no_component(part))
    }

    /// Opens the weights of a component and chooses its dtype.
    fn open(
        &mut self,
        component: Component,
        checkpoint: &Checkpoint,
        options: &LoadOptions,
    ) -> Result<(Weights, DType), PipelineError> {
        let weights = checkpoint.weights(component, options.variant.as_deref())?;
        let dtype = self.choose_dtype(component, &weights, options);
        Ok((weights, dtype))
    }

    fn choose_dtype(
        &mut self,
        component: Component,
        weights: &Weights,
        options: &LoadOptions,
    ) -> DType {
        choose_dtype(component, weights, options, &self.device, &mut self.notes)
    }

    /// The tokenizer with the given options; the instruction is tokenized again only when they
    /// change.
    pub fn tokenizer(
        &mut self,
        options: &PromptOptions,
    ) -> Result<&PromptTokenizer, PipelineError> {
        let tokenizer = match self.tokenizer.take() {
            Some(tokenizer) if tokenizer.options() == options => tokenizer,
            Some(other) => {
                let rebuilt = PromptTokenizer::new(other.tokenizer().clone(), options.clone());
                rebuilt.inspect_err(|_| self.tokenizer = Some(other))?
            }
            None => {
                let (checkpoint, _) = self.source(Component::Tokenizer)?;
                let tokenizer = checkpoint.tokenizer()?;
                let known = tokenizer.vocab_size();
                let embedded = checkpoint.text_config()?.vocab_size;
                if known > embedded {
                    return Err(PipelineError::Text(TextError::Vocabulary {
                        tokenizer: known,
                        model: embedded,
                    }));
                }
                if !tokenizer.adds_bos() {
                    self.note(
                        "the tokenizer adds no <bos>, with which the text encoder was trained: \
                         tokenizer.json has none in its post-processor, and tokenizer_config.json \
                         has no add_bos_token; images may differ from what is expected"
                            .to_owned(),
                    );
                }
                PromptTokenizer::new(tokenizer, options.clone())?
            }
        };
        Ok(self.tokenizer.insert(tokenizer))
    }

    pub fn text_encoder(&mut self) -> Result<&Gemma2Model, PipelineError> {
        let model = match self.text_encoder.take() {
            Some(model) => model,
            None => {
                let (checkpoint, options) = self.source(Component::TextEncoder)?;
                let (weights, dtype) = self.open(Component::TextEncoder, &checkpoint, &options)?;
                let load = Gemma2LoadOptions {
                    dtype: Some(dtype),
                    quantize: options.quantize.text_encoder,
                    ..Gemma2LoadOptions::default()
                };
                let config = checkpoint.text_config()?;
                Gemma2Model::from_weights(&config, weights, &load, &self.device)?
                    .with_bf16_gemm(options.bf16_gemm)
            }
        };
        Ok(self.text_encoder.insert(model))
    }

    pub fn transformer(&mut self) -> Result<&SanaTransformer, PipelineError> {
        let model = match self.transformer.take() {
            Some(model) => model,
            None => {
                let (checkpoint, options) = self.source(Component::Transformer)?;
                let (weights, dtype) = self.open(Component::Transformer, &checkpoint, &options)?;
                let config = checkpoint.transformer_config()?;
                let clamp = match options.clamp {
                    F16Clamp::Auto => checkpoint.f16_clamp()?,
                    clamp => clamp,
                };
                if let Some(note) = clamp_note(&config, clamp, dtype::stored_dtype(&weights)) {
                    self.note(note);
                }
                let quantize = options.quantize.of_transformer();
                let model =
                    config.load_quantized(&weights, Some(dtype), clamp, quantize, &self.device)?;
                let loras: Result<Vec<_>, _> = options.loras.iter().map(LoraFile::open).collect();
                model.with_loras(&loras?)?.with_bf16_gemm(options.bf16_gemm)
            }
        };
        Ok(self.transformer.insert(model))
    }

    pub fn controlnet(&mut self) -> Result<&SanaControlNet, PipelineError> {
        let model = match self.controlnet.take() {
            Some(model) => model,
            None => {
                let Some(folder) = self.controlnet_folder.clone() else {
                    return Err(PipelineError::Request(RequestError::NoControlNet));
                };
                let (checkpoint, options) = self.source(Component::ControlNet)?;
                let weights = folder.weights(options.variant.as_deref())?;
                let dtype = self.choose_dtype(Component::ControlNet, &weights, &options);
                // Its blocks were the transformer's when its training began.
                let f16 = folder.has_f16_files() || checkpoint.has_f16_transformer();
                let clamp = match options.clamp {
                    F16Clamp::Auto if folder.config().transformer.qk_norm.is_none() && f16 => {
                        F16Clamp::On
                    }
                    clamp => clamp,
                };
                folder
                    .config()
                    .load(&weights, Some(dtype), clamp, &self.device)?
                    .with_bf16_gemm(options.bf16_gemm)
            }
        };
        Ok(self.controlnet.insert(model))
    }

    /// The networks of the denoising stage, the ControlNet only where it is asked for, and the
    /// autoencoder for previews of it.
    pub fn denoiser(&mut self, controlled: bool) -> Result<Denoiser<'_>, PipelineError> {
        if controlled {
            self.controlnet()?;
        }
        self.transformer()?;
        let Some(transformer) = &self.transformer else {
            return Err(no_component(Component::Transformer));
        };
        Ok(Denoiser {
            transformer,
            controlnet: self.controlnet.as_ref().filter(|_| controlled),
            autoencoder: Autoencoder {
                loaded: &mut self.autoencoder,
                source: self.source.as_ref(),
                device: &self.device,
                notes: &mut self.notes,
            },
        })
    }

    pub fn autoencoder(&mut self) -> Result<&DcAe, PipelineError> {
        let autoencoder = Autoencoder {
            loaded: &mut self.autoencoder,
            source: self.source.as_ref(),
            device: &self.device,
            notes: &mut self.notes,
        };
        autoencoder.into_loaded()
    }
}

/// What the denoising stage works with.
pub(crate) struct Denoiser<'a> {
    pub transformer: &'a SanaTransformer,
    pub controlnet: Option<&'a SanaControlNet>,
    pub autoencoder: Autoencoder<'a>,
}
