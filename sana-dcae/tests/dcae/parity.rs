//! The whole autoencoder against reference outputs, raw latents.

use burn::tensor::Device;
use sana_dcae::{DcAe, MemoryOptions, Tiling};
use sana_linear_attn::parity::{Fixture, assert_parity, built_in_fixture_path, device, tolerance};

use crate::{CRATE, LAYOUTS, load};

/// A file of reference outputs and the autoencoder next to it, which they were made with.
fn reference(layout: &str, file: &str, device: &Device) -> (DcAe, Fixture) {
    let fixture = Fixture::open(CRATE, &format!("dcae/{layout}/{file}"));
    let folder = fixture.path().parent().expect("files are in folders");
    let autoencoder =
        DcAe::load(folder, None, None, device).unwrap_or_else(|error| panic!("{layout}: {error}"));
    (autoencoder, fixture)
}

#[test]
fn encode_and_decode() {
    let device = device();
    for layout in LAYOUTS {
        let (autoencoder, fixture) = reference(layout, "io.safetensors", &device);
        let tensor = |name| fixture.tensor::<4>(name, &device);

        let latent = autoencoder
            .encode_raw(tensor("image"))
            .expect("the fixture's image");
        assert_parity(&format!("{layout} latent"), latent, tensor("latent"));
        for (input, output) in [("latent", "decoded"), ("noise_latent", "noise_decoded")] {
            let decoded = autoencoder
                .decode_raw(tensor(input))
                .expect("the fixture's latent");
            assert_parity(&format!("{layout} {output}"), decoded, tensor(output));
        }
    }
}

#[test]
fn scaled_latents_are_raw_ones_times_the_factor() {
    let device = device();
    for layout in LAYOUTS {
        let (autoencoder, fixture) = reference(layout, "io.safetensors", &device);
        let tensor = |name| fixture.tensor::<4>(name, &device);
        let factor = autoencoder.scaling_factor();

        let scaled = autoencoder
            .encode(tensor("image"))
            .expect("the fixture's image");
        assert_parity(
            &format!("{layout} scaled latent"),
            scaled,
            tensor("latent") * factor,
        );
        let decoded = autoencoder
            .decode(tensor("noise_latent") * factor)
            .expect("a latent");
        assert_parity(
            &format!("{layout} decoded"),
            decoded,
            tensor("noise_decoded"),
        );
    }
}

#[test]
fn tiles() {
    let device = device();
    let (autoencoder, fixture) = reference("f32_sana", "tiled.safetensors", &device);
    assert_eq!(fixture.metadata("unit"), "pixels");
    let pixels = |key: &str| fixture.metadata(key).parse().expect("a number");
    let tiling = Tiling::square(pixels("tile_min"), pixels("tile_stride"));
    let memory = MemoryOptions::default().with_tiling(tiling);

    let image = fixture.tensor("image", &device);
    let latent = autoencoder
        .encode_raw_with(image, &memory)
        .expect("the fixture's image");
    assert_parity("tiled latent", latent, fixture.tensor("latent", &device));
    let noise = fixture.tensor("noise_latent", &device);
    let decoded = autoencoder
        .decode_raw_with(noise, &memory)
        .expect("the fixture's latent");
    assert_parity(
        "tiled decoded",
        decoded,
        fixture.tensor("noise_decoded", &device),
    );
}

/// The comparison can fail: a weight that is off by a thousandth is seen, or by as much more as
/// the device's bound is wider.
#[test]
#[should_panic(expected = "differs by")]
fn a_perturbed_weight_is_noticed() {
    let device = device();
    let mut autoencoder = load("f32_sana", &device);
    let fixture = Fixture::at(&built_in_fixture_path(
        CRATE,
        "dcae/f32_sana/io.safetensors",
    ));
    let weight = autoencoder.decoder.conv_in.weight.val() * (1.0 + 10.0 * tolerance());
    autoencoder.decoder.conv_in.weight = burn::module::Param::from_tensor(weight);
    let decoded = autoencoder
        .decode_raw(fixture.tensor("noise_latent", &device))
        .expect("the fixture's latent");
    assert_parity(
        "perturbed",
        decoded,
        fixture.tensor("noise_decoded", &device),
    );
}
