//! Options of `sana bench`.

use clap::builder::{PossibleValuesParser, RangedU64ValueParser};
use clap::{Args, ValueEnum};

use super::models;
use sana_linear_attn::precision::Bf16Gemm;
use sana_pipeline::checkpoint::QuantizeComponents;

use crate::args::{Bf16Args, CpuArgs, Dtype, QuantizeArgs, Size, positive};
use crate::device::DeviceName;

const EXAMPLES: &str = "\
Examples:
  sana bench --component dit,decode --variant sana-600m-512px
  sana bench --component attention --tokens 4096 --repeat 20 --json
  sana bench --component dit,encode,decode --variant sana-1600m-1024px --dtype bf16 --device cuda:0
  sana bench --component image --variant sana-sprint-1.6b --steps 1 --dtype bf16 --device cuda:0

Weights are random and made in memory; speed does not depend on them. --json prints an object on a
line for each measurement. Other work on the machine makes the numbers worthless.";

/// Measure the speed of a model's components, with random weights
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    /// What to measure; several with commas
    #[arg(
        long,
        value_name = "NAME",
        value_enum,
        value_delimiter = ',',
        required = true
    )]
    pub component: Vec<Component>,
    /// Sizes of the networks: a released model, or scenes, the built-in one
    #[arg(
        long,
        value_name = "NAME",
        default_value = "sana-600m-512px",
        value_parser = PossibleValuesParser::new(models::names())
    )]
    pub variant: String,
    /// Width and height of the image in pixels, multiples of 32 [default: what the model is
    /// trained at]
    #[arg(long, value_name = "WxH")]
    pub size: Option<Size>,
    /// Images or prompts at a time
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true, value_parser = positive())]
    pub batch: usize,
    /// Tokens of attention [default: those of the size], of the text [default: 300], or rows and
    /// columns of the matrices of matmul [default: 2048, on a GPU 8192]
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=1 << 20)
    )]
    pub tokens: Option<usize>,
    /// Steps of an image [default: 20, for Sana-Sprint 2]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = positive())]
    pub steps: Option<usize>,
    /// Timed runs
    #[arg(long, value_name = "N", default_value_t = 5, allow_negative_numbers = true, value_parser = positive())]
    pub repeat: usize,
    /// Untimed runs before them; a GPU compiles and tunes its kernels in the first
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        allow_negative_numbers = true,
        value_parser = RangedU64ValueParser::<usize>::new().range(0..=10_000)
    )]
    pub warmup: usize,
    /// Print a JSON object on a line for each measurement
    #[arg(long)]
    pub json: bool,
    /// Where to compute: flex (the CPU), cuda, rocm, metal, vulkan or wgpu, with :N for the N-th
    /// device as listed by `sana devices` [default: the first GPU that works, else flex]
    #[arg(short, long, value_name = "DEVICE", help_heading = "Model and device")]
    pub device: Option<DeviceName>,
    /// Type of weights and computation
    #[arg(
        long,
        value_name = "TYPE",
        value_enum,
        default_value = "f32",
        help_heading = "Model and device"
    )]
    pub dtype: Dtype,
    #[command(flatten)]
    pub cpu: CpuArgs,
    #[command(flatten)]
    pub quantize: QuantizeArgs,
    #[command(flatten)]
    pub bf16: Bf16Args,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Component {
    /// One forward pass of the transformer, on two rows an image where the model has classifier-free
    /// guidance; and separately the text's keys and values, which are computed once for an image
    Dit,
    /// From latents to an image
    Decode,
    /// From an image to latents
    Encode,
    /// The layers of the text encoder, without looking up the tokens' embeddings
    Text,
    /// The transformer's linear attention alone, without its projections
    Attention,
    /// From embedded tokens to a decoded image: text encoder, all steps with guidance, decoder
    Image,
    /// A matmul of two square matrices: what the device can compute
    Matmul,
    /// 2^27 numbers times two: what its memory can move
    Stream,
}

/// How often and on what a component is run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub width: usize,
    pub height: usize,
    pub batch: usize,
    pub tokens: Option<usize>,
    pub steps: Option<usize>,
    pub dtype: Dtype,
    pub quantize: QuantizeComponents,
    pub bf16_gemm: Bf16Gemm,
    pub warmup: usize,
    pub repeat: usize,
}

impl Component {
    /// Its name on the command line.
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}
