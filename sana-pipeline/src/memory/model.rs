//! What the estimate knows of a pipeline: configs, sizes of the weights, and where they go.

use burn::tensor::{DType, Device};
use sana_dcae::{DcAeConfig, Tiling};
use sana_linear_attn::gpu::DeviceMemory;
use sana_linear_attn::quantization::Quantization;
use sana_linear_attn::{SanaTransformerConfig, Weights};
use sana_text::{Gemma2Config, PromptOptions};

use super::activations::{
    Denoising, decode_elements, denoise_elements, encode_elements, largest_of_decoding,
    largest_of_denoising, largest_of_text, text_elements,
};
use super::batch::images_decoded_at_once;
use super::estimate::{MemoryEstimate, StageEstimate};
use crate::checkpoint::dtype;
use crate::checkpoint::{Checkpoint, Component, QuantizeComponents};
use crate::error::PipelineError;

/// Bytes of an element that arithmetic is done on, on the CPU backend: it computes in f32 whatever
/// the weights are in.
const CPU_ELEMENT: f64 = 4.0;
/// Bytes that the tokenizer takes for each byte of a text.
const TOKENIZED: f64 = 192.0;

/// The weights of a part.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LoadedPart {
    pub part: Component,
    /// Elements that are loaded.
    elements: u64,
    /// Elements of the largest tensor among them.
    largest: u64,
    /// Bytes that come with them, of LoRAs and quantized weights.
    extra: u64,
    /// Elements of the weights that are quantized.
    quantized: u64,
    /// Whether low-rank terms are computed next to the weights.
    low_rank: bool,
    dtype: DType,
    /// The dtype when bf16 is asked for.
    narrow: DType,
}

impl LoadedPart {
    /// From the headers of the weight files. The text encoder's table of embeddings stays in its
    /// file, and a head for text generation is not loaded; GGUF files have names of their own for both.
    pub fn new(part: Component, weights: &Weights, wanted: Option<DType>, device: &Device) -> Self {
        let choose = |wanted| dtype::choose(part, weights, wanted, device).dtype;
        Self::sized(part, weights, choose(wanted), choose(Some(DType::BF16)))
    }

    fn sized(part: Component, weights: &Weights, dtype: DType, narrow: DType) -> Self {
        let loaded = |name: &&str| {
            let name = name.strip_prefix("model.").unwrap_or(name);
            let apart = ["embed_tokens.", "lm_head.", "token_embd.", "output."];
            part != Component::TextEncoder || !apart.iter().any(|apart| name.starts_with(apart))
        };
        let (mut elements, mut largest, mut extra, mut quantized) = (0u64, 0, 0u64, 0u64);
        let low_rank = weights.names().any(|name| weights.has_low_rank(name));
        for name in weights.names().filter(loaded) {
            let shape = weights.shape(name).unwrap_or_default();
            let size = shape
                .iter()
                .fold(1, |size: u64, &side| size.saturating_mul(side as u64));
            largest = largest.max(size);
            if weights.packed(name).is_some() {
                let bytes = weights.byte_len(name).unwrap_or(0);
                extra = extra.saturating_add(bytes as u64);
                quantized = quantized.saturating_add(size);
            } else {
                elements = elements.saturating_add(size);
            }
        }
        Self {
            part,
            elements,
            largest,
            extra,
            quantized,
            low_rank,
            dtype,
            narrow,
        }
    }

    /// Whether layers of it are quantized, in its files or while it is loaded.
    pub fn is_quantized(&self) -> bool {
        self.quantized > 0
    }

    /// With layers of these sizes `[out, in]` quantized while it is loaded on a device, unless it is in its files.
    pub fn quantized(mut self, sizes: &[[usize; 2]], form: Quantization, device: &Device) -> Self {
        if !self.is_quantized() {
            for &[rows, inputs] in sizes {
                let size = rows as u64 * inputs as u64;
                self.elements = self.elements.saturating_sub(size);
                self.quantized = self.quantized.saturating_add(size);
                let bytes = form.on(inputs, device).bytes([rows, inputs]) as u64;
                self.extra = self.extra.saturating_add(bytes);
            }
        }
        self
    }

    /// With low-rank terms of so many elements, which are kept in f32 or pass through it. They stay next
    /// to weights that are quantized.
    pub fn with_low_rank(mut self, elements: usize) -> Self {
        self.low_rank |= self.is_quantized();
        self.extra = self.extra.saturating_add(4 * elements as u64);
        self
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> u64 {
        let size = self.dtype.size() as u64;
        self.elements
            .saturating_mul(size)
            .saturating_add(self.extra)
    }

    /// Bytes that loading the largest tensor needs on top, and computing with it where it has to be
    /// widened for that: the file's bytes and the converted ones.
    fn passing(&self) -> f64 {
        8.0 * self.largest as f64
    }
}

/// What a request asks of the networks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Workload {
    /// Prompts that are encoded together, and tokens of each at most; `None` with ready embeddings.
    pub text: Option<[usize; 2]>,
    /// Tokens of a prompt that are attended to, at most.
    pub text_tokens: usize,
    pub prompts: usize,
    /// Images of all prompts.
    pub images: usize,
    pub guided: bool,
    pub perturbed: bool,
    /// `[width, height]` in pixels.
    pub size: [usize; 2],
    /// `[width, height]` that images are resized to once they are decoded.
    pub output: Option<[usize; 2]>,
    /// Bytes of the longest prompt or negative prompt.
    pub text_bytes: usize,
    /// Whether images of this size are encoded too, one at a time.
    pub encodes: bool,
}

impl Workload {
    /// One image with classifier-free guidance.
    pub fn one_image(options: &PromptOptions, size: [usize; 2]) -> Self {
        Self {
            text: Some([1, text_length(options)]),
            text_tokens: options.max_tokens,
            prompts: 1,
            images: 1,
            guided: true,
            perturbed: false,
            size,
            output: None,
            text_bytes: 0,
            encodes: false,
        }
    }
}

/// Tokens of a prompt behind its instruction, at most: a text has no more of them than bytes.
pub(crate) fn text_length(options: &PromptOptions) -> usize {
    let instruction = options.instruction.as_ref();
    let bytes = instruction.map_or(0, |instruction| instruction.text().len());
    options.max_tokens.saturating_add(bytes + 2)
}

/// What is alive in a stage next to its weights.
struct Alive {
    /// Elements of tensors.
    elements: f64,
    /// Bytes besides.
    bytes: f64,
    /// Elements of the largest tensor.
    largest: f64,
}

/// What the estimate is made from.
#[derive(Debug, Clone)]
pub(crate) struct MemoryModel {
    pub parts: Vec<LoadedPart>,
    /// `None` where there is no text encoder.
    pub text: Option<Gemma2Config>,
    pub transformer: SanaTransformerConfig,
    pub autoencoder: DcAeConfig,
    /// Residuals that a ControlNet hands to the transformer at each step; 0 without one.
    pub residuals: usize,
    /// Whether LoRAs are kept next to the weights.
    pub low_rank: bool,
    pub cpu: bool,
    /// Of a GPU.
    pub device: Option<DeviceMemory>,
    /// Tiles where the autoencoder works in them.
    pub tiling: Tiling,
}

impl MemoryModel {
    /// Of a checkpoint that is loaded in one dtype on the CPU, whatever its files are in, and with some
    /// of its networks quantized.
    pub fn of_checkpoint(
        checkpoint: &Checkpoint,
        variant: Option<&str>,
        dtype: DType,
        quantize: QuantizeComponents,
    ) -> Result<Self, PipelineError> {
        let device = Device::default();
        let present: Vec<Component> = checkpoint.weighted().collect();
        let mut parts = Vec::new();
        for &part in &present {
            let weights = checkpoint.weights(part, variant)?;
            let mut loaded = LoadedPart::sized(part, &weights, dtype, dtype);
            if let (Component::Transformer, Some(quantize)) = (part, quantize.of_transformer()) {
                let config = checkpoint.transformer_config()?;
                let sizes = config.quantized_sizes(quantize, &device);
                loaded = loaded.quantized(&sizes, quantize.to, &device);
            }
            if let (Component::TextEncoder, Some(form)) = (part, quantize.text_encoder) {
                let config = checkpoint.text_config()?;
                loaded = loaded.quantized(&config.quantized_sizes(&device)?, form, &device);
            }
            parts.push(loaded);
        }
        let autoencoder = checkpoint.vae_config()?;
        Ok(Self {
            parts,
            text: match present.contains(&Component::TextEncoder) {
                true => Some(checkpoint.text_config()?),
                false => None,
            },
            transformer: checkpoint.transformer_config()?,
            tiling: Tiling::for_compression(autoencoder.compression()),
            autoencoder,
            residuals: 0,
            low_rank: false,
            cpu: true,
            device: None,
        })
    }

    /// With all components in bf16, as far as the device allows.
    pub fn narrowed(&self) -> Self {
        let mut narrowed = self.clone();
        for part in &mut narrowed.parts {
            part.dtype = part.narrow;
        }
        narrowed
    }

    /// Pixels that the model was trained at, on a side.
    pub fn native(&self) -> usize {
        self.transformer.sample_size * self.autoencoder.compression()
    }

    /// The estimate of a request.
    pub fn estimate(&self, work: &Workload) -> MemoryEstimate {
        let threads = rayon::current_num_threads();
        let mut stages = Vec::new();
        if let (Some(config), Some([rows, tokens])) = (&self.text, work.text) {
            let elements = text_elements(config, rows, tokens);
            // Scores of 128 queries in every thread.
            let kernels = threads as f64 * 128.0 * tokens as f64;
            let elements = elements + kernels;
            let bytes = TOKENIZED * work.text_bytes as f64;
            let alive = Alive {
                elements,
                bytes,
                largest: largest_of_text(config, rows, tokens),
            };
            stages.push(self.stage("text", Component::TextEncoder, alive));
        }
        let compression = self.autoencoder.compression();
        let [width, height] = work.size;
        let patch = compression * self.transformer.patch_size;
        let run = Denoising {
            images: work.images,
            guided: work.guided,
            perturbed: work.perturbed,
            tokens: (width / patch) * (height / patch),
            text_tokens: work.text_tokens,
            low_rank: self.low_rank
                || self
                    .parts
                    .iter()
                    .any(|part| part.part == Component::Transformer && part.low_rank),
        };
        let elements = denoise_elements(&self.transformer, &run);
        let kernels = threads as f64 * 128.0 * work.text_tokens as f64;
        let rows = work.images * if work.guided { 2 } else { 1 };
        let tokens = rows as f64 * (width / patch) as f64 * (height / patch) as f64;
        let residuals = self.residuals as f64 * tokens * self.transformer.width() as f64;
        let alive = Alive {
            elements: elements + kernels + residuals,
            bytes: 0.0,
            largest: largest_of_denoising(&self.transformer, &run),
        };
        stages.push(self.stage("denoise", Component::Transformer, alive));
        stages.push(self.decode(work, false));
        MemoryEstimate {
            stages,
            decode_in_tiles: self.decode(work, true),
        }
    }

    /// The estimate of decoding images, and of encoding one before that where the work does.
    pub fn decode(&self, work: &Workload, in_tiles: bool) -> StageEstimate {
        let [width, height] = work.size;
        let pixels = height as f64 * width as f64;
        let channels = self.autoencoder.in_channels as f64;
        let (at_once, tile, assembled) = if in_tiles {
            let [tile_height, tile_width] = self.tiling.tile;
            let tile = [height.min(tile_height), width.min(tile_width)];
            // Two rows of tiles with their overlaps, and the bands that they become.
            let overlapping = tile_width as f64 / self.tiling.stride[1].max(1) as f64;
            let rows = 2.0 * (tile[0] * width) as f64 * overlapping;
            let mixed = 2.0 * (tile[0] * tile[1]) as f64;
            (1, tile, channels * (2.0 * pixels + rows + mixed))
        } else {
            let at_once = images_decoded_at_once(height * width);
            (work.images.min(at_once), [height, width], 0.0)
        };
        let threads = self.cpu.then(rayon::current_num_threads);
        let mut elements = decode_elements(&self.autoencoder, at_once, tile, threads) + assembled;
        // The result twice while it is read, and every image in bytes.
        elements += 2.0 * channels * pixels * at_once as f64;
        let mut shown = pixels;
        if let Some([columns, rows]) = work.output {
            let [columns, rows] = [columns, rows].map(|side| side as f64);
            shown = columns * rows;
            // Resized along one axis and then the other, each from two pixels for every one.
            elements += 2.0 * channels * (rows * width as f64 + shown) * at_once as f64;
        }
        let bytes = channels * shown * work.images as f64;
        if work.encodes {
            let encoded = encode_elements(&self.autoencoder, 1, tile, threads);
            elements = elements.max(encoded + 2.0 * channels * pixels);
        }
        let decoded = largest_of_decoding(&self.autoencoder, at_once, tile);
        let alive = Alive {
            elements,
            bytes,
            // Images put together of tiles are one tensor too.
            largest: decoded.max(channels * pixels * at_once as f64),
        };
        self.stage("decode", Component::Vae, alive)
    }

    fn stage(&self, name: &'static str, part: Component, alive: Alive) -> StageEstimate {
        // A ControlNet is held next to the transformer, and lighter than it.
        let loaded = || {
            self.parts
                .iter()
                .filter(|loaded| loaded.part.stage() == part)
        };
        let weights = loaded().map(LoadedPart::bytes).fold(0, u64::saturating_add);
        let part = loaded().max_by_key(|loaded| loaded.elements.saturating_add(loaded.quantized));
        let element = match part {
            Some(part) if !self.cpu => part.dtype.size() as f64,
            _ => CPU_ELEMENT,
        };
        let widened = match part {
            // A GPU may copy a weight of 8 bits for each use, and of 4 bits twice.
            Some(part) if part.is_quantized() && !self.cpu => part.largest as f64,
            // Widened for each use.
            Some(part) if part.is_quantized() => 4.0 * part.largest as f64,
            Some(part) if self.cpu && part.dtype != DType::F32 => 4.0 * part.largest as f64,
            _ => 0.0,
        };
        let running = alive.elements * element + alive.bytes + widened;
        let loading = part.map_or(0.0, LoadedPart::passing);
        let weight = part.map_or(0, |part| {
            part.largest.saturating_mul(part.dtype.size() as u64)
        });
        StageEstimate {
            name,
            weights,
            // A cast of what is beyond u64 is its largest number.
            activations: running.max(loading) as u64,
            largest_tensor: weight.max((alive.largest * element) as u64),
        }
    }
}
