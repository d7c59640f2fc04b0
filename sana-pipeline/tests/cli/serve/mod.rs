//! `sana serve`, over its socket.

mod load;
mod openai;
mod page;
mod queue;
mod refused;
mod server;
mod web_ui;

use std::io::Write;
use std::net::Shutdown;
use std::path::Path;
use std::process::Command;
use std::thread;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sana_pipeline::image::{self, GrayImage, RgbImage};
use serde_json::{Value, json};

use self::server::{Answer, Server};
use crate::support::Workplace;

const GENERATIONS: &str = "/v1/images/generations";

fn decoded(text: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(text.as_str().unwrap()).unwrap()
}

fn image(bytes: &[u8]) -> RgbImage {
    image::decode(Path::new("answer"), bytes).unwrap()
}

/// A request that two steps are enough for.
fn quick(prompt: &str) -> Value {
    json!({ "prompt": prompt, "size": "96x64", "num_inference_steps": 2, "seed": 3 })
}

fn with(mut request: Value, fields: Value) -> Value {
    request
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    request
}

/// A request that runs until it is cancelled.
fn endless() -> Value {
    with(
        quick("a red circle"),
        json!({ "num_inference_steps": 10_000 }),
    )
}

const ENDLESS: [&str; 2] = ["--max-steps", "10000"];

/// PNGs of 96x64 pixels: an image, and one that is transparent in its left half.
fn uploads() -> (RgbImage, Vec<u8>, Vec<u8>) {
    let pixels = RgbImage::from_fn(96, 64, |x, y| ::image::Rgb([2 * x as u8, 3 * y as u8, 90]));
    let mask = ::image::RgbaImage::from_fn(96, 64, |x, _| {
        ::image::Rgba([0, 0, 0, if x < 48 { 0 } else { 255 }])
    });
    let png = |image: ::image::DynamicImage| {
        let mut file = std::io::Cursor::new(Vec::new());
        image
            .write_to(&mut file, ::image::ImageFormat::Png)
            .unwrap();
        file.into_inner()
    };
    (pixels.clone(), png(pixels.into()), png(mask.into()))
}
