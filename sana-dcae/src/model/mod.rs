//! The whole autoencoder: checked inputs, scaled latents, files.

mod init;
mod non_finite;

use std::io::Write;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use sana_linear_attn::layers::LinearLayers;
use sana_linear_attn::precision::{Bf16Gemm, compute_dtype};
use sana_linear_attn::weights::check_module;
use sana_linear_attn::weights::replace_file;
use sana_linear_attn::{KeyMap, LoadOptions, SaveOptions, Weights, load_module, save_module};

use crate::{DcAeConfig, DcAeError, Decoder, Encoder, Tiling};

/// Name of the config in a checkpoint folder.
const CONFIG_FILE: &str = "config.json";
/// Name of the weights in a checkpoint folder, without extension.
const WEIGHTS_STEM: &str = "diffusion_pytorch_model";
/// Counters that batch norms keep while their statistics are gathered.
const UNUSED_TENSORS: &[&str] = &[".num_batches_tracked"];

/// How much of a batch is in work at once. The default is all of it.
///
/// Slices do not change the result. Tiles do, near their edges, and small tiles everywhere: see
/// [`Tiling`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryOptions {
    /// Images at a time; the whole batch where `None`.
    pub slice: Option<usize>,
    /// Tiles that each image is cut into; whole images where `None`.
    pub tiling: Option<Tiling>,
}

impl MemoryOptions {
    /// Sets the number of images at a time, at least 1.
    pub fn with_slice(mut self, images: usize) -> Self {
        self.slice = Some(images);
        self
    }

    /// Sets the tiles that larger images are cut into.
    pub fn with_tiling(mut self, tiling: Tiling) -> Self {
        self.tiling = Some(tiling);
        self
    }

    fn validate(&self, compression: usize) -> Result<(), DcAeError> {
        if self.slice == Some(0) {
            return Err(DcAeError::InvalidSlice);
        }
        self.tiling
            .map_or(Ok(()), |tiling| tiling.validate(compression))
    }
}

/// A deep compression autoencoder (DC-AE, arXiv 2410.10733; Sana, arXiv 2410.10629, section 2.1).
///
/// ```text
/// latents = encoder(image) * scaling_factor
/// image   = decoder(latents / scaling_factor)
/// ```
///
/// [`encode`](DcAe::encode) and [`decode`](DcAe::decode) speak scaled latents, which a diffusion
/// model works on; the `raw` forms leave the factor out. Inputs are cast to the
/// [dtype of the computation](DcAe::compute_dtype); results are f32 whatever that is.
#[derive(Module, Debug)]
pub struct DcAe {
    /// Image to raw latent.
    pub encoder: Encoder,
    /// Raw latent to image.
    pub decoder: Decoder,
    #[module(skip)]
    config: DcAeConfig,
    #[module(skip)]
    compute: Option<DType>,
}

impl DcAeConfig {
    /// A model with random weights (PyTorch's default initialisation), for training. Parameters
    /// are lazy: nothing is allocated before a weight is first used. The backend draws them, from
    /// the generator that [`Device::seed`] seeds; [`init_seeded`](Self::init_seeded) draws the same
    /// on every backend.
    ///
    /// # Panics
    /// If the config is not valid; [`DcAeConfig::validate`] names the value.
    pub fn init(&self, device: &Device) -> DcAe {
        if let Err(error) = self.validate() {
            panic!("invalid autoencoder config: {error}");
        }
        DcAe {
            encoder: Encoder::new(self, device),
            decoder: Decoder::new(self, device),
            config: self.clone(),
            compute: None,
        }
    }
}

impl LinearLayers for DcAe {
    fn set_bf16_gemm(&mut self, gemm: Bf16Gemm) {
        self.encoder.set_bf16_gemm(gemm);
        self.decoder.set_bf16_gemm(gemm);
    }
}

impl DcAe {
    /// Loads a folder in the diffusers layout: `config.json` and
    /// `diffusion_pytorch_model.safetensors`, single, sharded, or of a `variant` such as `fp16`.
    /// `dtype` is that of the parameters in memory; the file's own where `None`.
    ///
    /// # Errors
    /// Where the config or the weights cannot be read, do not fit this architecture or do not fit
    /// each other.
    pub fn load(
        folder: impl AsRef<Path>,
        variant: Option<&str>,
        dtype: Option<DType>,
        device: &Device,
    ) -> Result<Self, DcAeError> {
        let folder = folder.as_ref();
        let config = DcAeConfig::from_file(folder.join(CONFIG_FILE))?;
        let weights = Weights::open_folder(folder, WEIGHTS_STEM, variant)?;
        Self::from_weights(&config, &weights, dtype, device)
    }

    /// Builds a model from a config and opened weights, for example of an embedded checkpoint.
    ///
    /// # Errors
    /// Where the config is not valid, or tensors are missing, unexpected or of other shapes (all
    /// of them are named).
    pub fn from_weights(
        config: &DcAeConfig,
        weights: &Weights,
        dtype: Option<DType>,
        device: &Device,
    ) -> Result<Self, DcAeError> {
        config.validate()?;
        let options = LoadOptions {
            dtype,
            key_map: KeyMap::default(),
            strip_prefix: "",
            ignore: UNUSED_TENSORS,
        };
        Ok(load_module(config.init(device), weights, &options, device)?)
    }

    /// Checks by the headers alone that [`from_weights`](Self::from_weights) can load weights. The
    /// device is asked for nothing but the shapes of parameters.
    ///
    /// # Errors
    /// As [`from_weights`](Self::from_weights).
    pub fn check_weights(
        config: &DcAeConfig,
        weights: &Weights,
        device: &Device,
    ) -> Result<(), DcAeError> {
        config.validate()?;
        let options = LoadOptions {
            ignore: UNUSED_TENSORS,
            ..LoadOptions::default()
        };
        Ok(check_module(&config.init(device), weights, &options)?)
    }

    /// Writes `config.json` and `diffusion_pytorch_model.safetensors` into an existing folder, in
    /// the layout that [`DcAe::load`] and the reference implementation read. Each file appears
    /// whole or not at all. `dtype` is that of the tensors in the file; the parameters' own where
    /// `None`.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>, dtype: Option<DType>) -> Result<(), DcAeError> {
        let folder = folder.as_ref();
        let path = folder.join(format!("{WEIGHTS_STEM}.safetensors"));
        save_module(
            self,
            &path,
            &SaveOptions {
                dtype,
                ..SaveOptions::default()
            },
        )?;
        let path = folder.join(CONFIG_FILE);
        replace_file(&path, |file| {
            file.write_all(self.config.to_json().as_bytes())
        })
        .map_err(|source| DcAeError::WriteConfig { path, source })
    }

    /// The hyper-parameters.
    pub fn config(&self) -> &DcAeConfig {
        &self.config
    }

    /// The dtype of the computation: that of [`with_compute_dtype`](DcAe::with_compute_dtype), or
    /// else what [`compute_dtype`] names for the parameters where they are: f32 on the CPU backend,
    /// the parameters' own elsewhere.
    pub fn compute_dtype(&self) -> DType {
        let weight = self.encoder.conv_out.weight.val();
        self.compute
            .unwrap_or_else(|| compute_dtype(weight.dtype(), &weight.device()))
    }

    /// Chooses how linear layers multiply f32 rows by bf16 weights on the CPU.
    pub fn with_bf16_gemm(mut self, gemm: Bf16Gemm) -> Self {
        self.set_bf16_gemm(gemm);
        self
    }

    /// Computes in this dtype, f32, f16 or bf16, whatever the parameters are.
    pub fn with_compute_dtype(mut self, dtype: DType) -> Self {
        self.compute = Some(dtype);
        self
    }

    /// Pixels per latent along each axis.
    pub fn compression(&self) -> usize {
        self.config.compression()
    }

    /// Scaled latents are raw latents times this.
    pub fn scaling_factor(&self) -> f64 {
        self.config.scaling_factor
    }

    /// Encodes images into scaled latents.
    ///
    /// # Shapes
    /// - image `[batch, in_channels, height, width]`, values in [-1, 1], both sides multiples of
    ///   the compression ratio
    /// - output `[batch, latent_channels, height / compression, width / compression]`, f32, about
    ///   unit variance
    ///
    /// # Errors
    /// [`DcAeError::ImageSize`], [`DcAeError::ImageChannels`] or [`DcAeError::Empty`].
    pub fn encode(&self, image: Tensor<4>) -> Result<Tensor<4>, DcAeError> {
        self.encode_with(image, &MemoryOptions::default())
    }

    /// [`encode`](DcAe::encode) in slices or tiles.
    ///
    /// # Errors
    /// As [`encode`](DcAe::encode); [`DcAeError::InvalidSlice`] or [`DcAeError::InvalidTiling`].
    pub fn encode_with(
        &self,
        image: Tensor<4>,
        memory: &MemoryOptions,
    ) -> Result<Tensor<4>, DcAeError> {
        Ok(self.encode_raw_with(image, memory)? * self.config.scaling_factor)
    }

    /// Encodes images into latents as the encoder gives them, not scaled. Shapes and errors are
    /// those of [`encode`](DcAe::encode).
    pub fn encode_raw(&self, image: Tensor<4>) -> Result<Tensor<4>, DcAeError> {
        self.encode_raw_with(image, &MemoryOptions::default())
    }

    /// [`encode_raw`](DcAe::encode_raw) in slices or tiles. Errors are those of
    /// [`encode_with`](DcAe::encode_with).
    pub fn encode_raw_with(
        &self,
        image: Tensor<4>,
        memory: &MemoryOptions,
    ) -> Result<Tensor<4>, DcAeError> {
        memory.validate(self.compression())?;
        self.check_image(image.dims())?;
        let dtype = self.compute_dtype();
        let encode = |image: Tensor<4>| self.encoder.forward(image.cast(dtype)).cast(DType::F32);
        Ok(in_slices(image, memory.slice, |image| {
            match memory.tiling {
                Some(tiling) => tiling.encoding(self.compression()).apply(image, encode),
                None => encode(image),
            }
        }))
    }

    /// Decodes scaled latents into images.
    ///
    /// # Shapes
    /// - latents `[batch, latent_channels, height, width]`
    /// - output `[batch, in_channels, height * compression, width * compression]`, f32, about
    ///   [-1, 1] but not clamped
    ///
    /// # Errors
    /// [`DcAeError::LatentChannels`] or [`DcAeError::Empty`].
    pub fn decode(&self, latents: Tensor<4>) -> Result<Tensor<4>, DcAeError> {
        self.decode_with(latents, &MemoryOptions::default())
    }

    /// [`decode`](DcAe::decode) in slices or tiles.
    ///
    /// # Errors
    /// As [`decode`](DcAe::decode); [`DcAeError::InvalidSlice`] or [`DcAeError::InvalidTiling`].
    pub fn decode_with(
        &self,
        latents: Tensor<4>,
        memory: &MemoryOptions,
    ) -> Result<Tensor<4>, DcAeError> {
        let latents = latents.cast(DType::F32) / self.config.scaling_factor;
        self.decode_raw_with(latents, memory)
    }

    /// Decodes latents that were not scaled. Shapes and errors are those of
    /// [`decode`](DcAe::decode).
    pub fn decode_raw(&self, latents: Tensor<4>) -> Result<Tensor<4>, DcAeError> {
        self.decode_raw_with(latents, &MemoryOptions::default())
    }

    /// [`decode_raw`](DcAe::decode_raw) in slices or tiles. Errors are those of
    /// [`decode_with`](DcAe::decode_with).
    pub fn decode_raw_with(
        &self,
        latents: Tensor<4>,
        memory: &MemoryOptions,
    ) -> Result<Tensor<4>, DcAeError> {
        memory.validate(self.compression())?;
        self.check_latents(latents.dims())?;
        let dtype = self.compute_dtype();
        let decode =
            |latents: Tensor<4>| self.decoder.forward(latents.cast(dtype)).cast(DType::F32);
        Ok(in_slices(latents, memory.slice, |latents| {
            match memory.tiling {
                Some(tiling) => tiling.decoding(self.compression()).apply(latents, decode),
                None => decode(latents),
            }
        }))
    }

    fn check_image(&self, shape: [usize; 4]) -> Result<(), DcAeError> {
        let [batch, channels, height, width] = shape;
        let expected = self.config.in_channels;
        if batch == 0 {
            return Err(DcAeError::Empty {
                operation: "encode",
                shape,
            });
        }
        if channels != expected {
            return Err(DcAeError::ImageChannels {
                found: channels,
                expected,
            });
        }
        let compression = self.compression();
        let fits = |pixels: usize| pixels > 0 && pixels.is_multiple_of(compression);
        if fits(height) && fits(width) {
            return Ok(());
        }
        let down = |pixels: usize| (pixels / compression).max(1) * compression;
        let up = |pixels: usize| pixels.div_ceil(compression).max(1) * compression;
        Err(DcAeError::ImageSize {
            height,
            width,
            compression,
            smaller: [down(height), down(width)],
            larger: [up(height), up(width)],
        })
    }

    fn check_latents(&self, shape: [usize; 4]) -> Result<(), DcAeError> {
        let [batch, channels, height, width] = shape;
        let expected = self.config.latent_channels;
        if batch * height * width == 0 {
            return Err(DcAeError::Empty {
                operation: "decode",
                shape,
            });
        }
        if channels != expected {
            return Err(DcAeError::LatentChannels {
                found: channels,
                expected,
            });
        }
        Ok(())
    }
}

/// Applies `network` to `slice` entries of the batch at a time.
fn in_slices(
    x: Tensor<4>,
    slice: Option<usize>,
    network: impl Fn(Tensor<4>) -> Tensor<4>,
) -> Tensor<4> {
    let [batch, ..] = x.dims();
    match slice {
        Some(slice) if slice < batch => {
            Tensor::cat(x.split(slice, 0).into_iter().map(network).collect(), 0)
        }
        _ => network(x),
    }
}
