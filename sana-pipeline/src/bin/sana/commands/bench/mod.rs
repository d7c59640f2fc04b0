//! `sana bench`: the speed of a model's components, with random weights.

mod args;
mod components;
mod image;
mod measurement;
mod models;
mod report;
mod timing;
mod work;

use std::io::Write;

use anyhow::{Context, Error, bail};
use burn::tensor::{DType, Device};
use sana_pipeline::image::LARGEST_SIDE;
use sana_pipeline::memory::available_bytes;

use self::args::{Component, Options};
use self::components::Bench;
use self::measurement::Measurement;
use self::models::Models;
use self::report::{Machine, Record};
use crate::args::Size;
use crate::device::{OpenDevice, catch};
use crate::terminal::{output, warning};

pub use self::args::BenchArgs;

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
        quantize: args.quantize.components(),
        bf16_gemm: args.bf16.gemm(),
        warmup: args.warmup,
        repeat: args.repeat,
    };
    for component in &args.component {
        check(*component, &models, &options)?;
    }
    let device = OpenDevice::open(args.device)?;
    device.check_dtype(args.dtype.into())?;
    let machine = Machine::of(&device);
    let mut out = output();
    if !args.json {
        report::write_head(&mut out, &machine, &models.name, &options)?;
    }
    for component in args.component {
        if device.name.is_cpu() {
            check_memory(component, &models, &options, &device.device)?;
        }
        for measurement in measure(component, &models, options, &device)? {
            let record = Record::new(&measurement, &models.name, &options, &machine);
            match args.json {
                true => record.write_json(&mut out)?,
                false => record.write_line(&mut out)?,
            }
            if !measurement.timing.finite {
                warning(format!(
                    "{} gave values that are not finite",
                    measurement.name
                ));
            }
        }
        out.flush()?;
    }
    Ok(())
}

/// Measures a component; what a driver or an allocator has to say against it is an error.
fn measure(
    component: Component,
    models: &Models,
    options: Options,
    device: &OpenDevice,
) -> anyhow::Result<Vec<Measurement>> {
    let name = component.name();
    let bench = Bench {
        models,
        options,
        device: &device.device,
        on_cpu: device.name.is_cpu(),
    };
    let measured = catch(|| bench.measure(component))
        .map_err(Error::msg)
        .flatten();
    device.device.memory_cleanup();
    measured.with_context(|| format!("cannot measure {name}"))
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
        "an image of {width}x{height} pixels does not fit {}: sides are multiples of {unit} up to \
         {LARGEST_SIDE}; try --size {}x{}",
        models.name,
        near(width),
        near(height)
    )
}

/// Checks what a component does not go with.
fn check(component: Component, models: &Models, options: &Options) -> anyhow::Result<()> {
    let text_limit = models.text.max_position_embeddings;
    match (component, options.tokens) {
        (Component::Text | Component::Image, Some(tokens)) if tokens > text_limit => bail!(
            "{tokens} tokens are too many for the text encoder, which takes {text_limit}: give \
             fewer with --tokens"
        ),
        (Component::Matmul, Some(side)) if side > LARGEST_MATRIX => bail!(
            "a matmul of {side}x{side} matrices is too large: give at most {LARGEST_MATRIX} with \
             --tokens"
        ),
        _ => Ok(()),
    }
}

/// Largest side of the matrices of `matmul`: three of them take 50 GB in f32.
const LARGEST_MATRIX: usize = 1 << 16;

/// Refuses a component whose weights do not fit into main memory, before the system ends the process.
fn check_memory(
    component: Component,
    models: &Models,
    options: &Options,
    device: &Device,
) -> anyhow::Result<()> {
    let element = DType::from(options.dtype).size() as u64;
    let needed = component.parameters(models, device) * element;
    match available_bytes() {
        Some(available) if needed > available => bail!(
            "the weights of {} take {} in {}, and {} of memory are free: choose a smaller \
             --variant, or a --dtype of 16 bits",
            component.name(),
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
    use crate::args::Dtype;

    #[test]
    fn sizes() {
        let models = Models::of("sana-1600m-2kpx").unwrap();
        let asked = |width, height| size(&models, Some(Size { width, height }));
        assert_eq!(size(&models, None).unwrap(), (2048, 2048));
        assert_eq!(asked(96, 16_384).unwrap(), (96, 16_384));
        for (width, height, expected) in [
            (100, 512, "--size 96x512"),
            (0, 31, "--size 32x32"),
            (1 << 40, 64, "--size 16384x64"),
        ] {
            let error = asked(width, height).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
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
            quantize: Default::default(),
            bf16_gemm: Default::default(),
            warmup: 0,
            repeat: 1,
        };
        let error = check(Component::Text, &models, &options).unwrap_err();
        assert!(error.to_string().contains("takes 8192"), "{error}");
        let error = check(Component::Matmul, &models, &options).unwrap_err();
        assert!(error.to_string().contains("at most 65536"), "{error}");
        check(Component::Attention, &models, &options).unwrap();
        // No machine has memory for this many of them, wherever the test runs.
        let large = Models {
            transformer: sana_linear_attn::SanaTransformerConfig {
                num_layers: 1 << 20,
                ..models.transformer.clone()
            },
            ..models
        };
        let error = check_memory(Component::Dit, &large, &options, &Device::flex()).unwrap_err();
        assert!(error.to_string().contains("--variant"), "{error}");
    }
}
