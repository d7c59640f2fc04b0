//! Where a ControlNet joins the transformer.

use sana_linear_attn::ControlWiring;

use super::*;

/// The wiring that is asked for, or that the config says: another image, and the same either way.
#[test]
fn the_wiring_is_chosen_by_option_or_config() {
    let guided = request().guidance(4.5);
    let asked = |wiring| {
        let options = LoadOptions {
            control_wiring: wiring,
            ..with(&folder())
        };
        latents(&mut load_with(&sana_folder(), options), &guided)
    };
    let diffusers = asked(None);
    assert_eq!(asked(Some(ControlWiring::Diffusers)), diffusers);
    let original = asked(Some(ControlWiring::Original));
    assert_ne!(original, diffusers);
    assert!(original.iter().all(|value| value.is_finite()));

    let copied = copy_of(&folder());
    let config = copied.path().join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replacen('{', r#"{"control_wiring": "original", "#, 1);
    fs::write(&config, text).unwrap();
    let mut pipeline = load_with(&sana_folder(), with(copied.path()));
    assert_eq!(latents(&mut pipeline, &guided), original);
    let described = ControlNetFolder::open(copied.path()).unwrap();
    let described = described.describe(None).unwrap().to_string();
    assert!(described.contains("wiring      original"), "{described}");

    // Perturbed attention from the first block on runs with it.
    let perturbed = guided.perturbed_attention(1.0).perturbed_blocks([0]);
    assert_ne!(latents(&mut pipeline, &perturbed), original);
}
