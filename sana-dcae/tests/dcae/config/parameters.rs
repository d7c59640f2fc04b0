//! Parameter counts of the presets.

use super::*;

#[test]
fn parameter_counts_of_the_presets() {
    for (name, config) in presets() {
        let model = config.init(&device());
        assert_eq!(
            model.encoder.num_params(),
            count::encoder(&config),
            "{name} encoder"
        );
        let decoder = count::decoder(&config) + count::running_statistics(&config);
        assert_eq!(model.decoder.num_params(), decoder, "{name} decoder");
    }
    let [sana, _, lite, imagenet, _, f64c128, _, f128c512, _] =
        presets().map(|(_, config)| (count::encoder(&config), count::decoder(&config)));
    assert_eq!(sana, (153_027_104, 159_223_171));
    assert_eq!(lite, (153_027_104, 268_154_124));
    assert_eq!(imagenet, (123_172_384, 200_184_076));
    assert_eq!(f64c128, (264_550_528, 412_345_612));
    assert_eq!(f128c512, (415_661_056, 705_021_196));
}

#[test]
fn counting_parameters_allocates_none() {
    let model = DcAeConfig::f128c512_in().init(&device());
    assert!(model.num_params() > 1_000_000_000);
    assert!(!model.decoder.conv_in.weight.is_initialized());
    assert!(!model.encoder.conv_out.weight.is_initialized());
}
