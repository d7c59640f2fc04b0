use sana_linear_attn::Weights;
use sana_pipeline::image::{RgbImage, load, psnr, save_png};

use crate::support::Workplace;

/// An image with colours and edges.
fn draw(here: &Workplace, name: &str) -> RgbImage {
    let image = RgbImage::from_fn(96, 64, |x, y| {
        let inside = (20..60).contains(&x) && (10..40).contains(&y);
        image::Rgb([if inside { 220 } else { 30 }, (2 * y) as u8, (x * 2) as u8])
    });
    save_png(&here.path(name), &image, &[]).unwrap();
    image
}

#[test]
fn through_the_autoencoder_and_back() {
    let here = Workplace::new();
    let original = draw(&here, "in.png");
    let said = here.sana_on_fixture(&["encode", "in.png"]).quiet_success();
    assert!(said.contains("[1, 32, 2, 3]"), "{said}");
    assert!(said.contains("wrote latents.safetensors"), "{said}");
    let latents = Weights::open_file(&here.path("latents.safetensors")).unwrap();
    assert_eq!(latents.shape("latents"), Some(&[1, 32, 2, 3][..]));

    let said_again = here
        .sana_on_fixture(&["decode", "latents.safetensors"])
        .quiet_success();
    assert_eq!(said_again, "wrote sana.png\n");
    let again = load(&here.path("sana.png")).unwrap();
    let expected = format!("PSNR {:.2} dB", psnr(&original, &again).unwrap());
    assert!(said.contains(&expected), "{expected} in {said}");
    assert_eq!(here.files(), ["in.png", "latents.safetensors", "sana.png"]);
}

#[test]
fn names_of_ones_own() {
    let here = Workplace::new();
    draw(&here, "in.png");
    here.sana_on_fixture(&["encode", "in.png", "--out", "a.safetensors"])
        .quiet_success();
    here.sana_on_fixture(&["decode", "a.safetensors", "--out", "b.png"])
        .quiet_success();
    assert_eq!(here.files(), ["a.safetensors", "b.png", "in.png"]);
}

#[test]
fn images_that_cannot_be_encoded() {
    let here = Workplace::new();
    here.sana_on_fixture(&["encode", "none.png"])
        .fails(1, &["cannot read", "none.png"]);
    std::fs::write(here.path("text.png"), "not an image").unwrap();
    here.sana_on_fixture(&["encode", "text.png"])
        .fails(1, &["image", "text.png"]);
    draw(&here, "cut.png");
    let bytes = std::fs::read(here.path("cut.png")).unwrap();
    std::fs::write(here.path("cut.png"), &bytes[..bytes.len() / 2]).unwrap();
    here.sana_on_fixture(&["encode", "cut.png"])
        .fails(1, &["image", "cut.png"]);
    let odd = RgbImage::new(100, 64);
    save_png(&here.path("odd.png"), &odd, &[]).unwrap();
    here.sana_on_fixture(&["encode", "odd.png"])
        .fails(1, &["64x100", "32", "64x96"]);
    assert_eq!(here.files(), ["cut.png", "odd.png", "text.png"]);
}

#[test]
fn files_that_are_no_latents() {
    let here = Workplace::new();
    here.sana_on_fixture(&["decode", "none.safetensors"])
        .fails(1, &["none.safetensors"]);
    std::fs::write(here.path("text.safetensors"), "hello").unwrap();
    here.sana_on_fixture(&["decode", "text.safetensors"])
        .fails(1, &["text.safetensors is not a valid safetensors file"]);
    let weights = crate::support::checkpoint().join("vae/diffusion_pytorch_model.safetensors");
    here.sana_on_fixture(&["decode", weights.to_str().unwrap()])
        .fails(1, &["no tensor `latents`", "decoder.conv_in"]);
    let write = |shape: &[usize]| {
        let values = vec![0.0f32; shape.iter().product()];
        let data = burn::tensor::TensorData::new(values, shape.to_vec());
        let tensors = vec![("latents".to_owned(), data)];
        sana_linear_attn::weights::write_tensors(&here.path("a.safetensors"), tensors).unwrap();
    };
    write(&[32, 2, 3]);
    here.sana_on_fixture(&["decode", "a.safetensors"])
        .fails(1, &["[32, 2, 3]", "[batch, channels, height, width]"]);
    write(&[1, 7, 2, 3]);
    here.sana_on_fixture(&["decode", "a.safetensors"])
        .fails(1, &["7 channels", "32"]);
    write(&[0, 32, 2, 3]);
    here.sana_on_fixture(&["decode", "a.safetensors"])
        .fails(1, &["[0, 32, 2, 3]"]);
    assert_eq!(here.files(), ["a.safetensors", "text.safetensors"]);
}
