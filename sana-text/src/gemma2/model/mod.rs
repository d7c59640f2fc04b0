//! The whole stack.

mod quantized;

use std::path::Path;
use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use sana_linear_attn::layers::{AnyLinear, LinearLayers};
use sana_linear_attn::precision::{Bf16Gemm, compute_dtype};
use sana_linear_attn::quantization::Quantization;
use sana_linear_attn::weights::{check_module, load_quantized};
use sana_linear_attn::{KeyMap, LoadOptions, Weights};

use super::config::Gemma2Config;
use super::gguf;
use super::init::MatrixInit;
use super::layer::Gemma2Layer;
use super::mask::AttentionMasks;
use super::norm::GemmaRmsNorm;
use super::rope::Rope;
use crate::embedding::{EmbeddingTable, TokenEmbedding, round_to};
use crate::error::TextError;

/// Where the embedding table of a loaded model lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EmbeddingPlacement {
    /// In the mapped file; rows are looked up on the host and only those uploaded.
    #[default]
    Host,
    /// On the device, as the parameter `embed_tokens.weight`, which trains and is saved.
    Device,
}

/// How to load a Gemma-2 checkpoint.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Gemma2LoadOptions {
    /// Dtype of the weights in memory; that of the file's embedding table when `None`. The model
    /// computes in f32 on the CPU backend and in this dtype elsewhere, where f16 has little range
    /// for the residual stream of the released encoder: choose f32 or bf16.
    pub dtype: Option<DType>,
    /// Variant of the weight files, such as `fp16`; the plain names when `None`.
    pub variant: Option<String>,
    /// Where the embedding table goes.
    pub embedding: EmbeddingPlacement,
    /// The form that the linear layers get, one after the other, unless they are quantized in the file
    /// already.
    pub quantize: Option<Quantization>,
}

/// The Gemma-2 decoder stack up to and including its final norm.
///
/// Fields bear the checkpoint's names. With [`EmbeddingPlacement::Host`] the embedding table is no
/// parameter, and saving the module writes a checkpoint without it;
/// [`into_trainable`](Self::into_trainable) makes it one.
#[derive(Module, Debug)]
pub struct Gemma2Model {
    /// The embedding table, when it is a parameter.
    pub embed_tokens: Option<TokenEmbedding>,
    /// The layers.
    pub layers: Vec<Gemma2Layer>,
    /// After the last layer.
    pub norm: GemmaRmsNorm,
    #[module(skip)]
    table: Option<EmbeddingTable>,
    #[module(skip)]
    config: Gemma2Config,
    #[module(skip)]
    compute: Option<DType>,
}

impl Gemma2Config {
    /// A new model with its embedding table as a parameter. Matrices are normal with standard
    /// deviation `initializer_range` and lazy: nothing is allocated before it is read or loaded.
    /// The backend draws them; [`init_seeded`](Self::init_seeded) draws the same on every backend.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn init(&self, device: &Device) -> Result<Gemma2Model, TextError> {
        self.build(
            MatrixInit::lazy(self.initializer_range, device),
            device,
            true,
        )
    }

    /// A new model in f32 with its embedding table as a parameter and weights drawn on the host
    /// from `seed`: matrices normal with standard deviation `initializer_range`, norms at scale 1.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn init_seeded(&self, seed: u64, device: &Device) -> Result<Gemma2Model, TextError> {
        self.build(
            MatrixInit::seeded(seed, self.initializer_range, device),
            device,
            true,
        )
    }

    fn build(
        &self,
        mut init: MatrixInit<'_>,
        device: &Device,
        with_embedding: bool,
    ) -> Result<Gemma2Model, TextError> {
        self.validate()?;
        let embed_tokens = with_embedding.then(|| TokenEmbedding {
            weight: init.matrix(self.vocab_size, self.hidden_size),
        });
        Ok(Gemma2Model {
            embed_tokens,
            layers: (0..self.num_hidden_layers)
                .map(|_| Gemma2Layer::new(self, &mut init))
                .collect(),
            norm: GemmaRmsNorm::new(self.hidden_size, self.rms_norm_eps, device),
            table: None,
            config: self.clone(),
            compute: None,
        })
    }
}

impl LinearLayers for Gemma2Model {
    fn set_bf16_gemm(&mut self, gemm: Bf16Gemm) {
        self.layers.set_bf16_gemm(gemm);
    }
}

impl Gemma2Model {
    /// Loads `config.json` and the weights of a folder: `model.safetensors`, shards with an index,
    /// or a variant of either. Names may bear the prefix `model.`; a language head is ignored.
    ///
    /// # Errors
    /// When a file is missing, the config is not usable, or the weights do not fit it.
    pub fn load(
        folder: &Path,
        options: &Gemma2LoadOptions,
        device: &Device,
    ) -> Result<Self, TextError> {
        let config = Gemma2Config::from_file(&folder.join("config.json"))?;
        let weights = Weights::open_folder(folder, "model", options.variant.as_deref())?;
        Self::from_weights(&config, weights, options, device)
    }

    /// Loads a model from weights that are already open, of transformers or of a GGUF file of llama.cpp.
    /// `options.variant` has no effect.
    ///
    /// # Errors
    /// When the config is not usable, the weights do not fit it, or the dtype is not supported.
    pub fn from_weights(
        config: &Gemma2Config,
        weights: Weights,
        options: &Gemma2LoadOptions,
        device: &Device,
    ) -> Result<Self, TextError> {
        if let Some(found) = options.dtype.filter(|dtype| !is_supported(*dtype)) {
            return Err(TextError::Dtype { found });
        }
        let weights = Arc::new(gguf::published(&weights, config)?.unwrap_or(weights));
        // Checked before the layers are uploaded, whichever way the rows are then read.
        let table = EmbeddingTable::new(weights.clone(), config)?;
        let on_device = options.embedding == EmbeddingPlacement::Device;
        let init = MatrixInit::lazy(config.initializer_range, device);
        let load_options = LoadOptions {
            // One dtype for all, even if the file mixes them: a matmul needs equal ones.
            dtype: options.dtype.or(Some(table.dtype())),
            key_map: KeyMap::default(),
            strip_prefix: "model.",
            ignore: if on_device {
                &["lm_head."]
            } else {
                &["lm_head.", "embed_tokens."]
            },
        };
        let model = config.build(init, device, on_device)?;
        let choose = |_: &str| options.quantize;
        let mut model = load_quantized(
            model,
            &weights,
            &load_options,
            linear_layers,
            &choose,
            device,
        )?;
        model.table = (!on_device).then_some(table);
        Ok(model)
    }

    /// Checks by the headers alone that [`from_weights`](Self::from_weights) can load weights. The
    /// device is asked for nothing but the shapes of parameters.
    ///
    /// # Errors
    /// As [`from_weights`](Self::from_weights).
    pub fn check_weights(
        config: &Gemma2Config,
        weights: &Weights,
        device: &Device,
    ) -> Result<(), TextError> {
        let renamed = gguf::published(weights, config)?;
        let weights = renamed.as_ref().unwrap_or(weights);
        EmbeddingTable::new(Arc::new(weights.clone()), config)?;
        let init = MatrixInit::lazy(config.initializer_range, device);
        let options = LoadOptions {
            strip_prefix: "model.",
            ignore: &["lm_head.", "embed_tokens."],
            ..LoadOptions::default()
        };
        let model = config.build(init, device, false)?;
        Ok(check_module(&model, weights, &options)?)
    }

    /// Shape and options.
    pub fn config(&self) -> &Gemma2Config {
        &self.config
    }

    /// Dtype of the weights in memory.
    pub fn dtype(&self) -> DType {
        self.norm.weight.val().dtype()
    }

    /// Dtype of activations and arithmetic: that of
    /// [`with_compute_dtype`](Self::with_compute_dtype), or else what [`compute_dtype`] names for
    /// the weights where they are: f32 on the CPU backend, the weights' own elsewhere.
    pub fn compute_dtype(&self) -> DType {
        self.compute
            .unwrap_or_else(|| compute_dtype(self.dtype(), &self.device()))
    }

    /// Chooses how linear layers multiply f32 rows by bf16 weights on the CPU.
    pub fn with_bf16_gemm(mut self, gemm: Bf16Gemm) -> Self {
        self.set_bf16_gemm(gemm);
        self
    }

    /// Computes in this dtype, f32, f16 or bf16, whatever the weights are.
    pub fn with_compute_dtype(mut self, dtype: DType) -> Self {
        self.compute = Some(dtype);
        self
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.norm.weight.val().device()
    }

    /// The model with its embedding table as a parameter on the device, for training.
    ///
    /// # Errors
    /// [`TextError::NoEmbedding`] when it has no table at all.
    pub fn into_trainable(mut self) -> Result<Self, TextError> {
        if self.embed_tokens.is_some() {
            return Ok(self);
        }
        let table = self.table.take().ok_or(TextError::NoEmbedding)?;
        let all: Vec<u32> = (0..table.vocab_size() as u32).collect();
        let data = TensorData::new(table.rows(&all)?, [table.vocab_size(), table.hidden_size()]);
        let weight = Tensor::from_data(data, (&self.device(), self.dtype()));
        self.embed_tokens = Some(TokenEmbedding {
            weight: Param::from_tensor(weight),
        });
        Ok(self)
    }

    /// The embeddings of a batch of ids times `sqrt(hidden_size)`: the rows rounded to the dtype of
    /// the weights, both to that of the computation as in the reference.
    ///
    /// # Shapes
    /// - `ids`: `batch` rows of `tokens` ids each
    /// - output `[batch, tokens, channels]`
    ///
    /// # Errors
    /// When the batch is empty or ragged, an id has no row, or the model has no table.
    pub fn embed<R: AsRef<[u32]>>(&self, ids: &[R]) -> Result<Tensor<3>, TextError> {
        let tokens = ids.first().map_or(0, |row| row.as_ref().len());
        if tokens == 0 {
            return Err(TextError::EmptyBatch);
        }
        if let Some(row) = ids.iter().position(|row| row.as_ref().len() != tokens) {
            let found = ids[row].as_ref().len();
            return Err(TextError::RaggedBatch {
                row,
                expected: tokens,
                found,
            });
        }
        let flat: Vec<u32> = ids.iter().flat_map(|row| row.as_ref()).copied().collect();
        let vocab_size = self.config.vocab_size;
        if let Some(&id) = flat.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(TextError::TokenOutOfRange { id, vocab_size });
        }

        let (device, stored, dtype) = (self.device(), self.dtype(), self.compute_dtype());
        let channels = self.config.hidden_size;
        let scale = round_to(dtype, (channels as f32).sqrt());
        let shape = [ids.len(), tokens, channels];
        if let Some(embedding) = &self.embed_tokens {
            let flat: Vec<i32> = flat.into_iter().map(|id| id as i32).collect();
            let ids = Tensor::<1, Int>::from_data(TensorData::from(flat.as_slice()), &device);
            let rows = embedding.forward(ids).cast(dtype);
            return Ok((rows * scale).reshape(shape));
        }
        let table = self.table.as_ref().ok_or(TextError::NoEmbedding)?;
        let rows = table
            .rows(&flat)?
            .into_iter()
            .map(|value| round_to(dtype, round_to(stored, value)) * scale);
        let data = TensorData::new(rows.collect::<Vec<f32>>(), shape);
        Ok(Tensor::from_data(data, (&device, dtype)))
    }

    /// The last hidden state, after the final norm. Rows of padding hold no meaning.
    ///
    /// # Shapes
    /// - `embeddings` and output `[batch, tokens, channels]`, of the dtype of the computation; see
    ///   [`embed`](Self::embed)
    /// - `mask` `[batch, tokens]`: 1 for a token, 0 for padding; both on the model's device, which
    ///   is an autodiff device in training
    pub fn forward(&self, embeddings: Tensor<3>, mask: Tensor<2>) -> Tensor<3> {
        self.run(embeddings, mask, |_| ())
    }

    /// The last hidden state of a batch of ids; see [`embed`](Self::embed) and
    /// [`forward`](Self::forward).
    ///
    /// # Errors
    /// As [`embed`](Self::embed).
    pub fn forward_ids<R: AsRef<[u32]>>(
        &self,
        ids: &[R],
        mask: Tensor<2>,
    ) -> Result<Tensor<3>, TextError> {
        Ok(self.forward(self.embed(ids)?, mask))
    }

    /// The embeddings, the output of every layer but the last, and the last hidden state after the
    /// final norm: `num_hidden_layers + 1` tensors, as the reference lists them.
    ///
    /// # Shapes
    /// - as [`forward`](Self::forward)
    pub fn hidden_states(&self, embeddings: Tensor<3>, mask: Tensor<2>) -> Vec<Tensor<3>> {
        let mut states = Vec::with_capacity(self.layers.len() + 1);
        let last = self.run(embeddings, mask, |input| states.push(input.clone()));
        states.push(last);
        states
    }

    /// Runs the layers and the final norm, showing each layer's input.
    fn run(
        &self,
        embeddings: Tensor<3>,
        mask: Tensor<2>,
        mut observe: impl FnMut(&Tensor<3>),
    ) -> Tensor<3> {
        let [_, tokens, _] = embeddings.dims();
        let config = &self.config;
        let rope = Rope::new(
            config.rope_theta(),
            config.head_dim,
            tokens,
            &embeddings.device(),
        );
        let masks = AttentionMasks::new(mask, config.sliding_window);
        let mut x = embeddings;
        for (index, layer) in self.layers.iter().enumerate() {
            observe(&x);
            x = layer.forward(x, &rope, masks.of(config.layer_type(index)));
        }
        self.norm.forward(x)
    }
}

/// The linear layers, by the names of the checkpoint without prefix.
pub(super) fn linear_layers(model: &mut Gemma2Model) -> Vec<(String, AnyLinear<'_>)> {
    let layers = model.layers.iter_mut().enumerate();
    let layers = layers.flat_map(|(index, layer)| {
        let (attention, mlp) = (&mut layer.self_attn, &mut layer.mlp);
        [
            ("self_attn.q_proj", &mut attention.q_proj),
            ("self_attn.k_proj", &mut attention.k_proj),
            ("self_attn.v_proj", &mut attention.v_proj),
            ("self_attn.o_proj", &mut attention.o_proj),
            ("mlp.gate_proj", &mut mlp.gate_proj),
            ("mlp.up_proj", &mut mlp.up_proj),
            ("mlp.down_proj", &mut mlp.down_proj),
        ]
        .map(|(name, layer)| (format!("layers.{index}.{name}"), AnyLinear::Linear(layer)))
    });
    layers.collect()
}

fn is_supported(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::BF16 | DType::F16)
}
