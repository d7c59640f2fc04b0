//! Inputs and options that must be refused.

use burn::tensor::{DType, Tensor};
use sana_dcae::{DcAeError, MemoryOptions, Tiling};
use sana_linear_attn::parity::{device, values};

use crate::{tiny_config, waves};

#[test]
fn image_size_not_divisible() {
    let device = device();
    let autoencoder = tiny_config().init(&device);
    let error = autoencoder
        .encode(waves([1, 3, 10, 8], &device))
        .expect_err("10 is no multiple");
    match &error {
        DcAeError::ImageSize {
            height,
            width,
            compression,
            smaller,
            larger,
        } => {
            assert_eq!((*height, *width, *compression), (10, 8, 4));
            assert_eq!((*smaller, *larger), ([8, 8], [12, 8]));
        }
        other => panic!("{other}"),
    }
    assert_eq!(
        error.to_string(),
        "image of 10x8 pixels (height x width): both sides must be multiples of the compression \
         ratio 4; the nearest sizes that work are 8x8 and 12x8"
    );
    let error = autoencoder
        .encode_raw(waves([1, 3, 3, 8], &device))
        .expect_err("3 is too small");
    assert!(
        matches!(
            error,
            DcAeError::ImageSize {
                smaller: [4, 8],
                larger: [4, 8],
                ..
            }
        ),
        "{error}"
    );
    let empty = Tensor::zeros([1, 3, 0, 8], &device);
    let error = autoencoder.encode(empty).expect_err("0 is too small");
    assert!(
        matches!(
            error,
            DcAeError::ImageSize {
                height: 0,
                smaller: [4, 8],
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn wrong_channel_counts() {
    let device = device();
    let autoencoder = tiny_config().init(&device);
    let error = autoencoder
        .encode(waves([1, 4, 8, 8], &device))
        .expect_err("RGBA");
    assert!(
        matches!(
            error,
            DcAeError::ImageChannels {
                found: 4,
                expected: 3
            }
        ),
        "{error}"
    );
    let error = autoencoder
        .decode(waves([1, 3, 2, 2], &device))
        .expect_err("an image");
    assert!(
        matches!(
            error,
            DcAeError::LatentChannels {
                found: 3,
                expected: 4
            }
        ),
        "{error}"
    );
}

#[test]
fn nothing_to_do() {
    let device = device();
    let autoencoder = tiny_config().init(&device);
    let error = autoencoder
        .encode(Tensor::zeros([0, 3, 8, 8], &device))
        .expect_err("no image");
    assert!(
        matches!(
            error,
            DcAeError::Empty {
                operation: "encode",
                ..
            }
        ),
        "{error}"
    );
    for shape in [[0, 4, 2, 2], [1, 4, 0, 2], [1, 4, 2, 0]] {
        let error = autoencoder
            .decode(Tensor::zeros(shape, &device))
            .expect_err("no latent");
        assert!(
            matches!(
                error,
                DcAeError::Empty {
                    operation: "decode",
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[test]
fn impossible_tiles() {
    let device = device();
    let autoencoder = tiny_config().init(&device);
    let image = waves([1, 3, 8, 8], &device);
    for (tiling, axis) in [
        (Tiling::square(0, 0), "height"),
        (Tiling::square(8, 0), "height"),
        (Tiling::square(10, 8), "height"),
        (
            Tiling {
                tile: [8, 8],
                stride: [4, 6],
            },
            "width",
        ),
        (
            Tiling {
                tile: [8, 8],
                stride: [8, 12],
            },
            "width",
        ),
    ] {
        let memory = MemoryOptions::default().with_tiling(tiling);
        for error in [
            autoencoder
                .encode_with(image.clone(), &memory)
                .expect_err("invalid tiles"),
            autoencoder
                .decode_with(waves([1, 4, 2, 2], &device), &memory)
                .expect_err("tiles"),
        ] {
            let DcAeError::InvalidTiling {
                axis: found,
                compression: 4,
                ..
            } = error
            else {
                panic!("{tiling:?}: {error}");
            };
            assert_eq!(found, axis, "{tiling:?}");
        }
    }
}

#[test]
fn slices_of_nothing() {
    let device = device();
    let autoencoder = tiny_config().init(&device);
    let memory = MemoryOptions::default().with_slice(0);
    let error = autoencoder
        .encode_with(waves([1, 3, 8, 8], &device), &memory)
        .expect_err("slice");
    assert!(matches!(error, DcAeError::InvalidSlice), "{error}");
    let error = autoencoder
        .decode_with(waves([1, 4, 2, 2], &device), &memory)
        .expect_err("slice");
    assert!(matches!(error, DcAeError::InvalidSlice), "{error}");
}

/// A half-precision image or latent is taken as it comes.
#[test]
fn inputs_of_another_dtype_are_cast() {
    let device = device();
    let autoencoder = tiny_config().init(&device);
    if !device.supports_dtype(DType::F16) {
        return;
    }
    let image = waves([1, 3, 8, 12], &device).cast(DType::F16);
    let latents = autoencoder.encode(image.clone()).expect("a valid image");
    assert_eq!(latents.dtype(), DType::F32);
    let same = autoencoder
        .encode(image.cast(DType::F32))
        .expect("a valid image");
    assert_eq!(values(latents.clone()), values(same));
    let decoded = autoencoder
        .decode(latents.cast(DType::F16))
        .expect("valid latents");
    assert_eq!(decoded.dtype(), DType::F32);
}
