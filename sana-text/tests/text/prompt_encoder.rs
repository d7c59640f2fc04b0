//! Prompt embeddings against the reference pipeline.

use std::path::PathBuf;

use burn::tensor::{Tensor, TensorData};
use sana_linear_attn::Weights;
use sana_linear_attn::parity::{
    Fixture, assert_parity, built_in_fixture_path, device, fixture_path,
};
use sana_text::{
    Gemma2Config, Gemma2LoadOptions, GemmaTokenizer, Instruction, PromptEmbeds, PromptEncoder,
    PromptOptions, TextError,
};

use crate::ROOT;

/// How a file of `pipeline/sana` is found: [`fixture_path`] or [`built_in_fixture_path`].
type Find = fn(&str, &str) -> PathBuf;

fn file(find: Find, name: &str) -> PathBuf {
    find(ROOT, &format!("pipeline/sana/{name}"))
}

/// The encoder of the crate's own checkpoint, whatever `SANA_FIXTURES` names: how many tokens a
/// text has depends on the vocabulary.
fn encoder(options: PromptOptions) -> PromptEncoder {
    encoder_of(built_in_fixture_path, options)
}

fn encoder_of(find: Find, options: PromptOptions) -> PromptEncoder {
    let folder = |name| file(find, name);
    PromptEncoder::load(
        &folder("tokenizer"),
        &folder("text_encoder"),
        &Gemma2LoadOptions::default(),
        options,
        &device(),
    )
    .unwrap()
}

/// What the reference makes with the checkpoint, and the options it was made with.
fn reference(find: Find) -> (Fixture, PromptOptions) {
    let io = Fixture::at(&file(find, "io.safetensors"));
    let lines = std::fs::read(file(find, "complex_human_instruction.json")).unwrap();
    let lines: Vec<String> = serde_json::from_slice(&lines).unwrap();
    let options = PromptOptions {
        instruction: Some(Instruction::custom(lines)),
        max_tokens: io.shape("prompt_mask")[1],
    };
    (io, options)
}

fn kept(embeds: Tensor<3>, mask: Tensor<2>) -> Tensor<3> {
    embeds * mask.unsqueeze_dim::<3>(2)
}

/// Compares masks everywhere and embeddings where the mask is 1.
fn compare(name: &str, ours: PromptEmbeds, io: &Fixture) {
    let mask = io.tensor::<2>(&format!("{name}_mask"), &device());
    assert_eq!(
        ours.mask.clone().into_data(),
        mask.clone().into_data(),
        "{name} mask"
    );
    let host: Vec<f64> = ours
        .keep()
        .iter()
        .flatten()
        .map(|&keep| f64::from(u8::from(keep)))
        .collect();
    assert_eq!(
        host,
        io.values(&format!("{name}_mask")),
        "{name} mask on the host"
    );
    let expected = io.tensor::<3>(&format!("{name}_embeds"), &device());
    assert_parity(name, kept(ours.embeds, mask.clone()), kept(expected, mask));
}

#[test]
fn embeddings_equal_the_reference() {
    let (io, options) = reference(fixture_path);
    let prompts = io.metadata_list("prompts");
    let encoder = encoder_of(fixture_path, options);
    let positive = encoder.encode(&prompts).unwrap();
    assert_eq!(positive.dropped_tokens.len(), prompts.len());
    for (keep, dropped) in positive.keep().iter().zip(&positive.dropped_tokens) {
        // Of a prompt with padding behind it nothing was cut.
        assert!(keep.last() == Some(&true) || *dropped == 0, "{dropped}");
    }
    compare("prompt", positive, &io);
    let negative = vec![io.metadata("negative"); prompts.len()];
    compare("negative", encoder.encode_negative(&negative).unwrap(), &io);
}

#[test]
fn instruction_is_the_published_one() {
    let (_, options) = reference(built_in_fixture_path);
    let instruction = options.instruction.as_ref().unwrap();
    assert_eq!(Instruction::reference().lines(), instruction.lines());
    assert_eq!(*instruction, Instruction::reference());
    assert_eq!(options, PromptOptions::default());
}

#[test]
fn the_two_templates_give_different_ids() {
    let tokens = |instruction: Instruction| {
        let options = PromptOptions {
            instruction: Some(instruction),
            ..PromptOptions::default()
        };
        encoder(options)
            .prompts()
            .tokenize(&["a red circle"])
            .unwrap()
            .ids
    };
    assert_ne!(
        tokens(Instruction::reference()),
        tokens(Instruction::paper_repository())
    );
}

#[test]
fn selection_equals_a_full_run() {
    let options = PromptOptions {
        instruction: Some(Instruction::custom(["Describe: ", "an image of "])),
        max_tokens: 9,
    };
    let encoder = encoder(options);
    let texts = ["A red circle left of a blue square, on and on", "cat", ""];
    let tokens = encoder.prompts().tokenize(&texts).unwrap();
    let length = tokens.ids[0].len();
    let mask: Vec<f32> = tokens
        .mask
        .iter()
        .flatten()
        .map(|&keep| f32::from(u8::from(keep)))
        .collect();
    let mask = Tensor::<2>::from_data(TensorData::new(mask, [3, length]), &device());
    let hidden = encoder
        .model()
        .forward_ids(&tokens.ids, mask.clone())
        .unwrap();
    let pick = |column: &usize| hidden.clone().narrow(1, *column, 1);
    let hidden = Tensor::cat(tokens.kept_columns.iter().map(pick).collect(), 1);
    let pick = |column: &usize| mask.clone().narrow(1, *column, 1);
    let mask = Tensor::cat(tokens.kept_columns.iter().map(pick).collect(), 1);

    let embeds = encoder.encode(&texts).unwrap();
    assert_eq!(embeds.embeds.dims()[1], 9);
    assert!(embeds.dropped_tokens[0] > 0 && embeds.dropped_tokens[1..] == [0, 0]);
    assert_eq!(embeds.mask.clone().into_data(), mask.clone().into_data());
    let ours = kept(embeds.embeds, mask.clone());
    assert_parity("selection", ours, kept(hidden, mask));
}

#[test]
fn batch_of_one_equals_batch_of_many() {
    let encoder = encoder(PromptOptions::default());
    let texts = [
        "a red circle",
        "two green triangles above a blue square",
        "",
    ];
    let together = encoder.encode(&texts).unwrap();
    for (row, text) in texts.iter().enumerate() {
        let alone = encoder.encode(&[text]).unwrap();
        let mask = together.mask.clone().narrow(0, row, 1);
        assert_eq!(alone.mask.clone().into_data(), mask.clone().into_data());
        let same = kept(together.embeds.clone().narrow(0, row, 1), mask.clone());
        assert_parity(text, kept(alone.embeds, mask), same);
    }
}

#[test]
fn trim_cuts_common_padding_only() {
    let encoder = encoder(PromptOptions {
        instruction: None,
        max_tokens: 40,
    });
    let whole = encoder
        .encode(&["a red circle", "two green triangles above"])
        .unwrap();
    let longest = whole
        .keep()
        .iter()
        .map(|row| row.iter().filter(|k| **k).count())
        .max()
        .unwrap();
    let cut = whole.clone().trim();
    assert_eq!(
        cut.embeds.dims(),
        [2, longest, encoder.model().config().hidden_size]
    );
    assert_eq!(cut.mask.dims(), [2, longest]);
    assert_eq!(
        cut.embeds.clone().into_data(),
        whole.embeds.narrow(1, 0, longest).into_data()
    );
    assert_eq!(cut.clone().trim().embeds.dims(), cut.embeds.dims());

    let device = device();
    let holes = vec![
        vec![true, false, true, false],
        vec![true, false, false, false],
    ];
    let embeds = PromptEmbeds::new(Tensor::ones([2, 4, 3], &device), holes)
        .unwrap()
        .trim();
    assert_eq!(
        embeds.keep(),
        [vec![true, false, true], vec![true, false, false]]
    );
    let nothing = PromptEmbeds::new(Tensor::ones([1, 4, 3], &device), vec![vec![false; 4]]);
    assert_eq!(nothing.unwrap().trim().embeds.dims(), [1, 1, 3]);
}

#[test]
fn repeat_and_cat() {
    let encoder = encoder(PromptOptions {
        instruction: None,
        max_tokens: 30,
    });
    let pair = encoder
        .encode(&["a red circle", "two green triangles above"])
        .unwrap()
        .trim();
    let twice = pair.clone().repeat_each(2);
    assert_eq!(twice.embeds.dims()[0], 4);
    for (row, source) in [(0, 0), (1, 0), (2, 1), (3, 1)] {
        let row_data = |e: &PromptEmbeds, row| e.embeds.clone().narrow(0, row, 1).into_data();
        assert_eq!(row_data(&twice, row), row_data(&pair, source));
        assert_eq!(twice.keep()[row], pair.keep()[source]);
    }
    assert_eq!(twice.dropped_tokens.len(), 4);
    let mask: Vec<f32> = twice.mask.clone().into_data().try_into_vec().unwrap();
    let keep: Vec<f32> = twice
        .keep()
        .iter()
        .flatten()
        .map(|&k| f32::from(u8::from(k)))
        .collect();
    assert_eq!(mask, keep);

    let short = encoder.encode_negative(&[""]).unwrap().trim();
    let both = PromptEmbeds::cat(vec![short.clone(), pair.clone()]).unwrap();
    let [_, tokens, channels] = pair.embeds.dims();
    assert_eq!(both.embeds.dims(), [3, tokens, channels]);
    assert_eq!(both.mask.dims(), [3, tokens]);
    assert_eq!(both.keep()[0].iter().filter(|keep| **keep).count(), 1);
    assert_eq!(
        both.embeds.clone().narrow(0, 1, 2).into_data(),
        pair.embeds.clone().into_data()
    );
    assert_eq!(
        both.embeds.narrow(0, 0, 1).narrow(1, 0, 1).into_data(),
        short.embeds.into_data()
    );
}

#[test]
fn unusable_embeddings() {
    let device = device();
    let embeds = || Tensor::<3>::ones([2, 4, 3], &device);
    let error = PromptEmbeds::new(embeds(), vec![vec![true; 4]]).unwrap_err();
    assert!(
        error.to_string().contains("mask rows: expected 2, found 1"),
        "{error}"
    );
    let error = PromptEmbeds::new(embeds(), vec![vec![true; 4], vec![true; 3]]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("mask columns: expected 4, found 3"),
        "{error}"
    );
    let ours = PromptEmbeds::new(embeds(), vec![vec![true; 4]; 2]).unwrap();
    let wide = PromptEmbeds::new(Tensor::ones([1, 2, 5], &device), vec![vec![true; 2]]).unwrap();
    let error = PromptEmbeds::cat(vec![ours, wide]).unwrap_err();
    assert!(
        matches!(
            error,
            TextError::EmbedsShape {
                what: "channels",
                ..
            }
        ),
        "{error}"
    );
    assert!(matches!(
        PromptEmbeds::cat(Vec::new()),
        Err(TextError::EmptyBatch)
    ));
}

#[test]
fn checkpoint_in_memory() {
    let read = |name: &str| std::fs::read(file(built_in_fixture_path, name)).unwrap();
    let load = |tokenizer: &[u8], config: &[u8], weights: Vec<u8>| {
        PromptEncoder::from_bytes(
            tokenizer,
            config,
            Weights::from_bytes("the built-in checkpoint", weights)?,
            &Gemma2LoadOptions::default(),
            PromptOptions::default(),
            &device(),
        )
    };
    let (tokenizer, config) = (
        read("tokenizer/tokenizer.json"),
        read("text_encoder/config.json"),
    );
    let weights = read("text_encoder/model.safetensors");
    let in_memory = load(&tokenizer, &config, weights.clone()).unwrap();
    let mapped = encoder(PromptOptions::default());
    assert_eq!(
        in_memory
            .encode(&["a red circle"])
            .unwrap()
            .embeds
            .into_data(),
        mapped.encode(&["a red circle"]).unwrap().embeds.into_data()
    );
    for error in [
        load(&tokenizer[..99], &config, weights.clone()).unwrap_err(),
        load(&tokenizer, &config[..99], weights.clone()).unwrap_err(),
        load(&tokenizer, &config, weights[..999].to_vec()).unwrap_err(),
    ] {
        assert!(
            error.to_string().contains("the built-in checkpoint"),
            "{error}"
        );
    }
}

#[test]
fn tokenizer_larger_than_the_embedding_table() {
    let folder = file(built_in_fixture_path, "tokenizer");
    let tokenizer = GemmaTokenizer::from_folder(&folder).unwrap();
    let vocab_size = tokenizer.vocab_size() - 1;
    let config = Gemma2Config {
        vocab_size,
        hidden_size: 4,
        intermediate_size: 4,
        num_hidden_layers: 1,
        head_dim: 2,
        ..Gemma2Config::gemma_2_2b()
    };
    let model = config.init(&device()).unwrap();
    let error = PromptEncoder::new(tokenizer, model, PromptOptions::default()).unwrap_err();
    let expected = format!(
        "{} tokens but the text encoder only {vocab_size}",
        vocab_size + 1
    );
    assert!(error.to_string().contains(&expected), "{error}");
}

#[test]
fn no_prompts_and_missing_folders() {
    let encoder = encoder(PromptOptions::default());
    assert!(matches!(
        encoder.encode::<&str>(&[]),
        Err(TextError::EmptyBatch)
    ));
    assert!(matches!(
        encoder.encode_negative::<&str>(&[]),
        Err(TextError::EmptyBatch)
    ));
    let nowhere = std::path::Path::new("nowhere");
    let error = PromptEncoder::load(
        nowhere,
        nowhere,
        &Gemma2LoadOptions::default(),
        PromptOptions::default(),
        &device(),
    )
    .unwrap_err();
    assert!(
        error.to_string().contains("no tokenizer.json in nowhere"),
        "{error}"
    );
}
