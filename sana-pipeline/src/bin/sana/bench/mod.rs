//! `sana bench`: how long the parts of a model take, with random weights.

mod models;
mod parts;
mod report;
mod timing;
mod work;

use std::io::Write;

use anyhow::{Context, Error, bail};
use burn::tensor::{DType, Device};
use clap::builder::{PossibleValuesParser, RangedU64ValueParser};
use clap::{Args, ValueEnum};
use sana_pipeline::memory::available_bytes;

use crate::args::{CpuArgs, Dtype, Size, positive};
use crate::device::{DeviceName, OpenDevice, catch};
use crate::terminal::output;

use models::Models;
use parts::{Bench, Measurement};
use report::{Machine, Record};

const EXAMPLES: &str = "\
Examples:
  sana bench --part dit,decode --variant sana-600m-512px
  sana bench --part attention --tokens 4096 --repeat 20 --json
  sana bench --part dit,encode,decode --variant sana-1600m-1024px --dtype bf16 --device cuda:0
  sana bench --part picture --variant sana-sprint-1.6b --steps 1 --dtype bf16 --device cuda:0

Weights are random and made in memory; speed does not depend on them. --json prints an object on a
line for each measurement. Other work on the machine makes the numbers worthless.";

/// Largest side of a picture in pixels, four times that of the largest released model.
const LARGEST_SIDE: usize = 16_384;

/// Measure how long the parts of a model take, with random weights
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    /// What to measure; several with commas
    #[arg(
        long,
        value_name = "PART",
        value_enum,
        value_delimiter = ',',
        required = true
    )]
    part: Vec<Part>,
    /// Sizes of the networks: a released model, or scenes, the built-in one
    #[arg(
        long,
        value_name = "NAME",
        default_value = "sana-600m-512px",
        value_parser = PossibleValuesParser::new(models::names())
    )]
    variant: String,
    /// Width and height of the picture in pixels, multiples of 32 [default: what the model is
    /// trained at]
    #[arg(long, value_name = "WxH")]
    size: Option<Size>,
    /// Pictures or prompts at a time
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true, value_parser = positive())]
    batch: usize,
    /// Tokens of attention [default: those of the size], of the text [default: 300], or rows and
    /// columns of the product of matmul [default: 2048, on a GPU 8192]
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=1 << 20)
    )]
    tokens: Option<usize>,
    /// Steps of a picture [default: 20, for Sana-Sprint 2]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = positive())]
    steps: Option<usize>,
    /// Runs that count
    #[arg(long, value_name = "N", default_value_t = 5, allow_negative_numbers = true, value_parser = positive())]
    repeat: usize,
    /// Runs before them that do not; a GPU compiles and tunes its kernels in the first
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        allow_negative_numbers = true,
        value_parser = RangedU64ValueParser::<usize>::new().range(0..=10_000)
    )]
    warmup: usize,
    /// Print a JSON object on a line for each measurement
    #[arg(long)]
    json: bool,
    /// Where to compute: flex (the CPU), cuda, rocm, metal, vulkan or wgpu, with :N for the N-th
    /// device as listed by `sana devices` [default: the first GPU that works, else flex]
    #[arg(short, long, value_name = "DEVICE", help_heading = "Model and device")]
    device: Option<DeviceName>,
    /// Type of weights and computation
    #[arg(
        long,
        value_name = "TYPE",
        value_enum,
        default_value = "f32",
        help_heading = "Model and device"
    )]
    dtype: Dtype,
    #[command(flatten)]
    pub cpu: CpuArgs,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// One run of the transformer, on two rows a picture where the model has classifier-free
    /// guidance; and apart from it the text's keys and values, which are made once for a picture
    Dit,
    /// Latents to a picture
    Decode,
    /// A picture to latents
    Encode,
    /// The layers of the text encoder, without looking up the tokens' embeddings
    Text,
    /// The transformer's linear attention alone, without its projections
    Attention,
    /// From embedded tokens to a decoded picture: text encoder, all steps with guidance, decoder
    Picture,
    /// The product of two square matrices: what the device can compute
    Matmul,
    /// 2^27 numbers times two: what its memory can move
    Stream,
}

/// How often and on what a part is run.
#[derive(Debug, Clone, Copy)]
struct Options {
    width: usize,
    height: usize,
    batch: usize,
    tokens: Option<usize>,
    steps: Option<usize>,
    dtype: Dtype,
    warmup: usize,
    repeat: usize,
}

/// Runs `sana bench`.
pub fn run(args: BenchArgs) -> anyhow::Result<()> {
    let models = Models::of(&args.variant)?;
    let (width, height) = size(&models, args.size)?;
    let options = Options {
        width,
        height,
        batch: args.batch,
        tokens: args.tokens,
        steps: args.steps,
        dtype: args.dtype,
        warmup: args.warmup,
        repeat: args.repeat,
    };
    for part in &args.part {
        check(*part, &models, &options)?;
    }
    let device = OpenDevice::open(args.device)?;
    device.check_dtype(args.dtype.into())?;
    let machine = Machine::of(&device);
    let mut out = output();
    if !args.json {
        report::write_head(&mut out, &machine, &models.name, &options)?;
    }
    for part in args.part {
        if device.name.is_cpu() {
            check_memory(part, &models, &options, &device.device)?;
        }
        for measurement in measure(part, &models, options, &device)? {
            let record = Record::new(&measurement, &models.name, &options, &machine);
            match args.json {
                true => record.write_json(&mut out)?,
                false => record.write_line(&mut out)?,
            }
            if !measurement.timing.finite {
                eprintln!(
                    "warning: {} gave values that are not finite",
                    measurement.name
                );
            }
        }
        out.flush()?;
    }
    Ok(())
}

/// Measures a part; what a driver or an allocator has to say against it is an error.
fn measure(
    part: Part,
    models: &Models,
    options: Options,
    device: &OpenDevice,
) -> anyhow::Result<Vec<Measurement>> {
    let name = part_name(part);
    let bench = Bench {
        models,
        options,
        device: &device.device,
        on_cpu: device.name.is_cpu(),
    };
    let measured = catch(|| bench.measure(part)).map_err(Error::msg).flatten();
    device.device.memory_cleanup();
    measured.with_context(|| format!("cannot measure {name}"))
}

fn part_name(part: Part) -> String {
    part.to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Width and height in pixels.
fn size(models: &Models, asked: Option<Size>) -> anyhow::Result<(usize, usize)> {
    let Some(Size { width, height }) = asked else {
        let side = models.training_size();
        return Ok((side, side));
    };
    let unit = models.pixels_per_token();
    let fits = |side: usize| (1..=LARGEST_SIDE).contains(&side) && side.is_multiple_of(unit);
    if fits(width) && fits(height) {
        return Ok((width, height));
    }
    let near = |side: usize| (side.min(LARGEST_SIDE) / unit).max(1) * unit;
    bail!(
        "a picture of {width}x{height} pixels does not fit {}: sides are multiples of {unit} up to \
         {LARGEST_SIDE}; try --size {}x{}",
        models.name,
        near(width),
        near(height)
    )
}

/// Checks what a part does not go with.
fn check(part: Part, models: &Models, options: &Options) -> anyhow::Result<()> {
    let text_limit = models.text.max_position_embeddings;
    match (part, options.tokens) {
        (Part::Text | Part::Picture, Some(tokens)) if tokens > text_limit => bail!(
            "{tokens} tokens are too many for the text encoder, which takes {text_limit}: give \
             fewer with --tokens"
        ),
        (Part::Matmul, Some(side)) if side > LARGEST_MATRIX => bail!(
            "a product of {side}x{side} matrices is too large: give at most {LARGEST_MATRIX} with \
             --tokens"
        ),
        _ => Ok(()),
    }
}

/// Largest side of the matrices of `matmul`: three of them take 50 GB in f32.
const LARGEST_MATRIX: usize = 1 << 16;

/// Refuses a part whose weights do not fit into main memory, before the system ends the process.
fn check_memory(
    part: Part,
    models: &Models,
    options: &Options,
    device: &Device,
) -> anyhow::Result<()> {
    let element = DType::from(options.dtype).size() as u64;
    let needed = models.parameters(part, device) * element;
    match available_bytes() {
        Some(available) if needed > available => bail!(
            "the weights of {} take {} in {}, and {} of memory are free: choose a smaller \
             --variant, or a --dtype of 16 bits",
            part_name(part),
            report::gigabytes(needed),
            options.dtype.name(),
            report::gigabytes(available)
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[cfg(all(feature = "flex", feature = "scenes-model"))]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let models = Models::of("sana-1600m-2kpx").unwrap();
        let asked = |width, height| size(&models, Some(Size { width, height }));
        assert_eq!(size(&models, None).unwrap(), (2048, 2048));
        assert_eq!(asked(96, 16_384).unwrap(), (96, 16_384));
        for (width, height, told) in [
            (100, 512, "--size 96x512"),
            (0, 31, "--size 32x32"),
            (1 << 40, 64, "--size 16384x64"),
        ] {
            let error = asked(width, height).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
            assert!(error.contains("multiples of 32"), "{error}");
        }
    }

    #[test]
    fn too_much_is_refused_before_it_is_made() {
        let models = Models::of("sana-1.5-4.8b").unwrap();
        let options = Options {
            width: 1024,
            height: 1024,
            batch: 1,
            tokens: Some(100_000),
            steps: None,
            dtype: Dtype::F32,
            warmup: 0,
            repeat: 1,
        };
        let error = check(Part::Text, &models, &options).unwrap_err();
        assert!(error.to_string().contains("takes 8192"), "{error}");
        let error = check(Part::Matmul, &models, &options).unwrap_err();
        assert!(error.to_string().contains("at most 65536"), "{error}");
        check(Part::Attention, &models, &options).unwrap();
        // No machine has memory for this many of them, wherever the test runs.
        let large = Models {
            transformer: sana_linear_attn::SanaTransformerConfig {
                num_layers: 1 << 20,
                ..models.transformer.clone()
            },
            ..models
        };
        let error = check_memory(Part::Dit, &large, &options, &Device::flex()).unwrap_err();
        assert!(error.to_string().contains("--variant"), "{error}");
    }
}
