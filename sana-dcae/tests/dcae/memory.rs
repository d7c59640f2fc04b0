//! Batches, slices and tiles against the whole.

use burn::tensor::Tensor;
use sana_dcae::{MemoryOptions, Tiling};
use sana_linear_attn::parity::{assert_parity, device, values};

use crate::{LAYOUTS, load, tiny_config, waves};

#[test]
fn a_batch_of_one_equals_its_part_of_a_batch_of_many() {
    let device = device();
    for layout in LAYOUTS {
        let autoencoder = load(layout, &device);
        let side = autoencoder.compression();
        let image = waves([3, 3, side, 2 * side], &device);
        let latents = autoencoder.encode(image.clone()).expect("a valid image");
        let decoded = autoencoder.decode(latents.clone()).expect("valid latents");
        for index in 0..3 {
            let one = autoencoder
                .encode(image.clone().narrow(0, index, 1))
                .expect("a valid image");
            assert_parity("latent", one, latents.clone().narrow(0, index, 1));
            let one = autoencoder
                .decode(latents.clone().narrow(0, index, 1))
                .expect("a latent");
            assert_parity("decoded", one, decoded.clone().narrow(0, index, 1));
        }
    }
}

#[test]
fn slices_equal_the_whole_batch() {
    let device = device();
    let autoencoder = load("f32_sana", &device);
    let side = autoencoder.compression();
    let image = waves([5, 3, 2 * side, side], &device);
    let latents = autoencoder.encode(image.clone()).expect("a valid image");
    let decoded = autoencoder.decode(latents.clone()).expect("valid latents");
    for images in [1, 2, 5, 7] {
        let memory = MemoryOptions::default().with_slice(images);
        let sliced = autoencoder
            .encode_with(image.clone(), &memory)
            .expect("a valid image");
        assert_parity("latents in slices", sliced, latents.clone());
        let sliced = autoencoder
            .decode_with(latents.clone(), &memory)
            .expect("valid latents");
        assert_parity("images in slices", sliced, decoded.clone());
    }
}

#[test]
fn one_tile_over_all_is_the_untiled_result() {
    let device = device();
    let autoencoder = tiny_config().init(&device);
    let image = waves([2, 3, 12, 20], &device);
    let latents = autoencoder.encode(image.clone()).expect("a valid image");
    let decoded = autoencoder.decode(latents.clone()).expect("valid latents");
    for tiling in [
        Tiling {
            tile: [12, 20],
            stride: [8, 16],
        },
        Tiling::square(20, 4),
        Tiling::for_compression(autoencoder.compression()),
    ] {
        let memory = MemoryOptions::default().with_tiling(tiling);
        let tiled = autoencoder
            .encode_with(image.clone(), &memory)
            .expect("a valid image");
        assert_eq!(values(tiled), values(latents.clone()), "{tiling:?}");
        let tiled = autoencoder
            .decode_with(latents.clone(), &memory)
            .expect("valid latents");
        assert_eq!(values(tiled), values(decoded.clone()), "{tiling:?}");
    }
}

/// Tiles that do not divide the image, oblong, with slices: the shape stays, and where nothing
/// overlaps, a tile is what it would be alone.
#[test]
fn tiles_keep_shapes_and_do_not_leak() {
    let device = device();
    let autoencoder = load("f32_sana", &device);
    let (side, channels) = (
        autoencoder.compression(),
        autoencoder.config().latent_channels,
    );
    let pixels = |sides: [usize; 2]| sides.map(|sides| sides * side);
    let image = waves([3, 3, 7 * side, 5 * side], &device);
    let tiling = Tiling {
        tile: pixels([4, 2]),
        stride: pixels([3, 2]),
    };
    let memory = MemoryOptions::default().with_slice(2).with_tiling(tiling);
    let latents = autoencoder
        .encode_with(image.clone(), &memory)
        .expect("a valid image");
    assert_eq!(latents.dims(), [3, channels, 7, 5]);

    let alone = image.narrow(2, 0, 4 * side).narrow(3, 2 * side, 2 * side);
    let alone = autoencoder.encode(alone).expect("a tile is a valid image");
    let rows = |x: Tensor<4>| x.narrow(2, 0, 3);
    assert_parity(
        "a tile of the first row",
        rows(latents.clone()).narrow(3, 2, 2),
        rows(alone),
    );

    let decoded = autoencoder
        .decode_with(latents, &memory)
        .expect("valid latents");
    assert_eq!(decoded.dims(), [3, 3, 7 * side, 5 * side]);
}
