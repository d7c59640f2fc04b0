//! `sana encode` and `sana decode`: an image through the autoencoder, and back.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::bail;
use burn::tensor::{DType, Tensor};
use clap::Args;
use sana_linear_attn::Weights;
use sana_linear_attn::weights::write_tensors;
use sana_pipeline::image;

use crate::args::{Color, ModelArgs, ResourceArgs};
use crate::files::{Files, paths};
use crate::model::Model;
use crate::terminal::output;

const ENCODE_EXAMPLES: &str = "\
Examples:
  sana encode photo.jpg
  sana encode photo.jpg --model Sana_1600M_1024px_BF16_diffusers --out photo.safetensors

The file has one tensor, `latents` [1, channels, height / 32, width / 32] in f32, scaled as the
diffusion model works on them. `sana decode` makes an image of them again.";

const DECODE_EXAMPLES: &str = "\
Examples:
  sana decode latents.safetensors
  sana decode photo.safetensors --model Sana_1600M_1024px_BF16_diffusers --out photo.png";

/// Name of the tensor in a file of latents.
const LATENTS: &str = "latents";

/// Encode an image into latents, and print what the autoencoder loses (PSNR)
#[derive(Debug, Args)]
#[command(after_help = ENCODE_EXAMPLES)]
pub struct EncodeArgs {
    /// Image, PNG, JPEG or WebP, with sides that are multiples of 32
    image: PathBuf,
    /// What transparent pixels are put on: RRGGBB, white or black [default: white]
    #[arg(long, value_name = "COLOR")]
    background: Option<Color>,
    /// File of the latents
    #[arg(
        short,
        long,
        value_name = "PATH",
        default_value = "latents.safetensors"
    )]
    out: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    pub resources: ResourceArgs,
}

/// Decode latents into images
#[derive(Debug, Args)]
#[command(after_help = DECODE_EXAMPLES)]
pub struct DecodeArgs {
    /// File of latents, as `sana encode` writes it
    latents: PathBuf,
    /// File of the image; for several latents NAME-0.png, NAME-1.png and so on
    #[arg(short, long, value_name = "PATH", default_value = "sana.png")]
    out: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    pub resources: ResourceArgs,
}

/// Runs `sana encode`.
pub fn run_encode(args: EncodeArgs) -> anyhow::Result<()> {
    let mut files = Files::default();
    files.reads(&args.image, "the image");
    args.model.add_files(&mut files);
    files.writes(&args.out, "--out", "the latents")?;
    image::check_writable(&args.out)?;
    let background = args.background.map_or([255; 3], |color| color.0);
    let image = image::load_over(&args.image, background)?;
    let mut model = Model::open(&args.model, &args.resources)?;
    let sides = <[u32; 2]>::from(image.dimensions());
    model
        .pipeline
        .check_encoding(sides.map(|side| side as usize))?;
    let latents = model.pipeline.encode_image(&image)?;
    let again = model.pipeline.decode(latents.clone())?;
    let [again] = again.as_slice() else {
        bail!("one image was decoded into {}", again.len());
    };
    let psnr = image::psnr(&image, again)?;

    model.print_notes();

    let shape = latents.dims();
    let tensors = vec![(LATENTS.to_owned(), latents.cast(DType::F32).into_data())];
    write_tensors(&args.out, tensors)?;
    let mut out = output();
    out.line(format_args!(
        "{} of {}x{} pixels gives latents {shape:?}",
        args.image.display(),
        image.width(),
        image.height()
    ))?;
    writeln!(out, "PSNR {psnr:.2} dB after decoding them again")?;
    out.line(format_args!("wrote {}", args.out.display()))?;
    Ok(())
}

/// Runs `sana decode`.
pub fn run_decode(args: DecodeArgs) -> anyhow::Result<()> {
    let (weights, count) = open_latents(&args.latents)?;
    let mut files = Files::default();
    files.reads(&args.latents, "the latents");
    args.model.add_files(&mut files);
    let paths = paths::images(&args.out, count, &mut files)?;
    let mut model = Model::open(&args.model, &args.resources)?;
    let latents: Tensor<4> = weights.tensor(LATENTS, DType::F32, &model.device.device)?;
    let mut out = output();
    // Each is kept even if a later one fails or the process is killed.
    model.pipeline.decode_each(latents, &mut |index, image| {
        image::save(&paths[index], image, &[])?;
        out.line(format_args!("wrote {}", paths[index].display()))?;
        Ok(())
    })?;
    model.print_notes();
    Ok(())
}

/// The file, and the number of images in it.
fn open_latents(path: &Path) -> anyhow::Result<(Weights, usize)> {
    let weights = Weights::open_file(path)?;
    let count = match weights.shape(LATENTS) {
        Some(&[count, channels, height, width]) if count * channels * height * width > 0 => count,
        Some(other) => bail!(
            "{}: `latents` has shape {other:?}, expected [batch, channels, height, width] with no 0",
            path.display()
        ),
        None => {
            let names: Vec<_> = weights.names().collect();
            bail!(
                "{} has no tensor `latents`, as `sana encode` writes it, but: {}",
                path.display(),
                names.join(", ")
            )
        }
    };
    Ok((weights, count))
}
