//! Where the blocks of a network of another depth come from.

use burn::tensor::Device;
use sana_linear_attn::transformer::depth::{
    BlockSource, GrowthError, GrowthOptions, GrowthStrategy,
};
use sana_linear_attn::weights::parameter_shapes;
use sana_linear_attn::{KeyMap, SanaTransformerConfig};

fn blocks(count: usize) -> SanaTransformerConfig {
    SanaTransformerConfig {
        num_layers: count,
        ..SanaTransformerConfig::default()
    }
}

fn grown(count: usize, options: GrowthOptions) -> Vec<BlockSource> {
    blocks(count).grow(&options).unwrap().blocks().to_vec()
}

fn copies<const N: usize>(of: [usize; N]) -> Vec<BlockSource> {
    of.map(BlockSource::Copy).to_vec()
}

#[test]
fn layer_map_of_each_strategy() {
    use BlockSource::{Between, Copy, Identity, Previous};

    let options = |strategy| GrowthOptions::new(8).strategy(strategy);
    let partial = [copies([0, 1]), vec![Identity; 6]].concat();
    assert_eq!(grown(4, options(GrowthStrategy::Partial)), partial);
    let all = options(GrowthStrategy::Partial).keep(4);
    assert_eq!(
        grown(4, all),
        [copies([0, 1, 2, 3]), vec![Identity; 4]].concat()
    );
    // Of two blocks or one, one is kept.
    assert_eq!(grown(2, GrowthOptions::new(2)), [Copy(0), Identity]);
    assert_eq!(grown(1, GrowthOptions::new(2)), [Copy(0), Identity]);

    let cyclic = options(GrowthStrategy::Cyclic);
    assert_eq!(grown(3, cyclic), copies([0, 1, 2, 0, 1, 2, 0, 1]));
    assert_eq!(grown(3, cyclic.keep(2)), copies([0, 1, 0, 1, 0, 1, 0, 1]));
    let block = options(GrowthStrategy::Block);
    assert_eq!(grown(4, block), copies([0, 0, 1, 1, 2, 2, 3, 3]));
    let progressive = [copies([0, 1, 2]), vec![Previous; 5]].concat();
    assert_eq!(grown(3, options(GrowthStrategy::Progressive)), progressive);

    let between = |lower: usize, fraction| Between {
        lower,
        upper: lower + 1,
        fraction,
    };
    let interpolation = GrowthOptions::new(6).strategy(GrowthStrategy::Interpolation);
    let expected = [
        Copy(0),
        between(0, 4.0 / 6.0),
        between(1, 2.0 / 6.0),
        Copy(2),
        between(2, 4.0 / 6.0),
        Copy(3), // behind the last one there is nothing to be between
    ];
    assert_eq!(grown(4, interpolation), expected);
}

fn count(config: &SanaTransformerConfig) -> usize {
    let shapes = parameter_shapes(&config.init(&Device::flex()), KeyMap::default());
    shapes
        .iter()
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum()
}

/// 20 blocks to 60: the first 18 are kept, and what results is SANA-1.5 4.8B.
#[test]
fn sana_1_5_grows_from_the_smaller_one() {
    let large = SanaTransformerConfig::sana_1_5_4800m();
    for small in [
        SanaTransformerConfig::sana_1600m_1024px(),
        SanaTransformerConfig::sana_1_5_1600m(),
    ] {
        let plan = small.grow(&GrowthOptions::new(60)).unwrap();
        assert_eq!(plan.config(), &large);
        assert_eq!(count(plan.config()), 4_721_825_952);
        assert_eq!(plan.copies(), 18);
        assert_eq!(plan.adds_qk_norm(), small.qk_norm.is_none());
        // Back again: the kept ones are the smaller model but for its last two blocks.
        let kept = plan.config().keep_blocks(&(0..20).collect::<Vec<_>>());
        let small = SanaTransformerConfig::sana_1_5_1600m();
        assert_eq!(kept.unwrap().config(), &small);
    }
}

#[test]
fn depths_that_are_refused() {
    let message = |options: GrowthOptions| {
        let error = blocks(4).grow(&options).unwrap_err();
        (error.to_string(), error)
    };
    let (text, error) = message(GrowthOptions::new(9).keep(5));
    assert!(matches!(error, GrowthError::Keep { keep: 5, blocks: 4 }));
    assert!(text.contains("1 to 4"), "{text}");
    assert!(matches!(
        message(GrowthOptions::new(9).keep(0)).1,
        GrowthError::Keep { keep: 0, .. }
    ));
    let (text, error) = message(GrowthOptions::new(2));
    assert!(matches!(error, GrowthError::Layers { layers: 2, keep: 2 }));
    assert!(text.contains("at least 3"), "{text}");
    let (text, error) = message(GrowthOptions::new(9).strategy(GrowthStrategy::Block));
    assert!(matches!(
        error,
        GrowthError::Multiple { layers: 9, keep: 4 }
    ));
    assert!(text.contains("such as 12"), "{text}");
    let (text, error) = message(GrowthOptions::new(2000));
    assert!(matches!(error, GrowthError::Config(_)), "{text}");

    let keep = |kept: &[usize]| blocks(4).keep_blocks(kept).unwrap_err();
    assert!(matches!(keep(&[]), GrowthError::Keep { keep: 0, .. }));
    let text = keep(&[0, 1, 2, 3, 4]).to_string();
    assert!(
        text.contains("5 blocks") && text.contains("1 to 4"),
        "{text}"
    );
    for kept in [&[0, 4][..], &[1, 0], &[1, 1]] {
        let error = keep(kept);
        assert!(matches!(error, GrowthError::Blocks { .. }), "{error}");
    }
}
