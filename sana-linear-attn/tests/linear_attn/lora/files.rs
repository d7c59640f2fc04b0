//! What is in LoRA files, and what is refused.

use super::*;

#[test]
fn prefixes_and_adapter_names() {
    let plain = factors(1.0);
    let expected = with(&[scaled(lora(&plain), 1.0, LoraMode::Merged)]);
    let renamed: Tensors = plain
        .into_iter()
        .map(|(name, data)| {
            let name = name.replace("lora_A.", "lora_A.default.");
            (format!("transformer.{name}"), data)
        })
        .collect();
    let renamed = lora(&renamed);
    let mut targets = TARGETS.map(|(layer, _)| layer);
    targets.sort_unstable();
    assert_eq!(renamed.targets().collect::<Vec<_>>(), targets);
    let ours = with(&[scaled(renamed, 1.0, LoraMode::Merged)]);
    assert_eq!(output(&ours), output(&expected));
}

#[test]
fn everything_that_does_not_fit_is_one_error() {
    let mut tensors = factors(1.0);
    let mut add = |name: &str, shape: &[usize]| tensors.push((name.to_owned(), tensor(shape, 0.0)));
    add("transformer_blocks.3.attn1.to_q.lora_A.weight", &[2, 40]);
    add("transformer_blocks.3.attn1.to_q.lora_B.weight", &[40, 2]);
    add("patch_embed.proj.lora_A.weight", &[2, 12, 1, 1]);
    add("patch_embed.proj.lora_B.weight", &[40, 2, 1, 1]);
    add("transformer_blocks.0.attn1.to_q.lora_A.weight", &[2, 40]);
    add(
        "transformer.transformer_blocks.0.attn1.to_k.lora_B.weight",
        &[40, 2],
    );
    add("transformer_blocks.0.attn1.to_v.alpha", &[1]);
    add("transformer_blocks.0.attn2.to_q.lora_A.weight", &[2, 41]);
    add("transformer_blocks.0.attn2.to_q.lora_B.weight", &[40, 3]);
    add("transformer_blocks.0.attn2.to_k.lora_A.weight", &[0, 40]);
    add("transformer_blocks.0.attn2.to_k.lora_B.weight", &[40, 0]);
    add("transformer_blocks.0.attn2.to_v.lora_A.weight", &[40]);
    add("transformer_blocks.0.attn2.to_v.lora_B.weight", &[40, 1]);
    add("proj_out.alpha", &[2]);
    add("proj_out.lora_B.bias", &[12]);
    add("proj_out.other.weight", &[12]);
    add("base_model.model.proj_out.lora_A.weight", &[3, 40]);
    let found = mismatch(&lora(&tensors));
    assert_eq!(
        found.absent,
        ["patch_embed.proj", "transformer_blocks.3.attn1.to_q"]
    );
    assert_eq!(
        found.missing,
        [
            "transformer.transformer_blocks.0.attn1.to_k.lora_A.weight",
            "transformer_blocks.0.attn1.to_q.lora_B.weight",
            "transformer_blocks.0.attn1.to_v.lora_A.weight",
            "transformer_blocks.0.attn1.to_v.lora_B.weight",
        ]
    );
    // Of the two names of one factor the first in order of the alphabet is read.
    assert_eq!(
        found.unexpected,
        [
            "proj_out.lora_A.weight",
            "proj_out.lora_B.bias",
            "proj_out.other.weight",
        ]
    );
    let name = |name: &str| format!("transformer_blocks.0.attn2.{name}.weight");
    assert_eq!(
        found.misshapen,
        [
            ("proj_out.alpha".to_owned(), vec![], vec![2]),
            (name("to_k.lora_A"), vec![1, 40], vec![0, 40]),
            (name("to_k.lora_B"), vec![40, 1], vec![40, 0]),
            (name("to_q.lora_A"), vec![2, 40], vec![2, 41]),
            (name("to_q.lora_B"), vec![40, 2], vec![40, 3]),
            (name("to_v.lora_A"), vec![1, 40], vec![40]),
        ]
    );
}

#[test]
fn hostile_files() {
    let open = |bytes: Vec<u8>| {
        Weights::from_bytes("test.safetensors", bytes)
            .map_err(LoraError::from)
            .and_then(Lora::from_weights)
    };
    let whole = bytes(&factors(1.0), &[]);
    let cut = open(whole[..whole.len() - 1].to_vec()).unwrap_err();
    assert!(matches!(
        cut,
        LoraError::Weights(WeightError::Corrupt { .. })
    ));
    let header = b"{}      "; // padded to eight bytes
    let empty = [&(header.len() as u64).to_le_bytes()[..], header].concat();
    let empty = open(empty).unwrap_err();
    assert!(matches!(empty, LoraError::Empty { .. }), "{empty}");
    for metadata in [
        ("lora_alpha", "many"),
        ("lora_alpha", "inf"),
        ("lora_adapter_metadata", "[]"),
        ("lora_adapter_metadata", r#"{"alpha_pattern": {"none": 3}}"#),
    ] {
        let error = open(bytes(&factors(1.0), &[metadata])).unwrap_err();
        assert!(matches!(error, LoraError::Settings { .. }), "{error}");
    }
    let none = Lora::open("no/such.safetensors".as_ref()).unwrap_err();
    assert!(none.to_string().contains("no/such.safetensors"), "{none}");

    let mut integers = factors(1.0);
    integers[0].1 = TensorData::new(vec![1i64; RANK * 40], [RANK, 40]);
    let error = lora(&integers).check(&config(), &device()).unwrap_err();
    assert!(
        matches!(error, LoraError::Weights(WeightError::Dtype { .. })),
        "{error}"
    );
    for scale in [f64::NAN, f64::INFINITY] {
        let error = ScaledLora::new(lora(&factors(1.0)), scale, LoraMode::Unmerged).unwrap_err();
        assert!(matches!(error, LoraError::Scale { .. }), "{error}");
    }
}

/// As with a checkpoint's own weights, the step that it spoils shows it.
#[test]
fn nan_is_loaded() {
    let mut tensors = factors(1.0);
    tensors[0].1 = TensorData::new(vec![f32::NAN; RANK * 40], [RANK, 40]);
    for mode in MODES {
        let ours = with(&[scaled(lora(&tensors), 1.0, mode)]);
        assert!(output(&ours).iter().any(|v| v.is_nan()), "{mode:?}");
    }
}

/// The same factors by the names of other trainers.
#[test]
fn names_of_other_trainers() {
    let plain = factors(1.0);
    let expected = output(&with(&[scaled(lora(&plain), 1.0, LoraMode::Merged)]));
    for (prefix, underscores) in [
        ("transformer.", false),
        ("diffusion_model.", false),
        ("lora_transformer_", true),
        ("lora_unet_", true),
        ("lycoris_", true),
    ] {
        let mut renamed: Tensors = Vec::new();
        for (name, data) in &plain {
            let (layer, word) = name.split_once(".lora_").unwrap();
            let layer = match underscores {
                true => format!("{prefix}{}", layer.replace('.', "_")),
                false => format!("{prefix}{layer}"),
            };
            let down = word.starts_with('A');
            let word = if down {
                "lora_down.weight"
            } else {
                "lora_up.weight"
            };
            renamed.push(named(&layer, word, data));
            if down {
                renamed.push(alpha(&layer, RANK as f32));
            }
        }
        renamed.push((
            "lora_te_model_layers_0_q_proj.lora_down.weight".to_owned(),
            tensor(&[2, 3], 0.0),
        ));
        let renamed = lora(&renamed);
        assert_eq!(renamed.text_encoder_tensors(), 1);
        for mode in MODES {
            let ours = with(&[scaled(renamed.clone(), 1.0, mode)]);
            assert_close(prefix, &output(&ours), &expected, tolerance());
        }
    }
}

#[test]
fn a_folder_of_peft() {
    let plain = factors(1.0);
    let folder = tempfile::tempdir().unwrap();
    let renamed: Tensors = plain
        .iter()
        .map(|(name, data)| (format!("base_model.model.{name}"), data.clone()))
        .collect();
    let file = folder.path().join("adapter_model.safetensors");
    std::fs::write(file, bytes(&renamed, &[])).unwrap();
    std::fs::write(
        folder.path().join("adapter_config.json"),
        r#"{"peft_type": "LORA", "r": 3, "lora_alpha": 6, "rank_pattern": {},
            "alpha_pattern": {"proj_out": 3}}"#,
    )
    .unwrap();
    let mut changes = deltas(&plain, 2.0);
    let last = deltas(&plain, 1.0).remove("proj_out.weight").unwrap();
    changes.insert("proj_out.weight".to_owned(), last);
    let ours = with(&[scaled(
        Lora::open(folder.path()).unwrap(),
        1.0,
        LoraMode::Merged,
    )]);
    assert_same("folder", &ours, &changed_by(&[changes]));
    let empty = tempfile::tempdir().unwrap();
    let error = Lora::open(empty.path()).unwrap_err().to_string();
    assert!(error.contains("adapter_model.safetensors"), "{error}");
}

#[test]
fn other_kinds_are_named() {
    let open = |name: &str| {
        let tensors = [(name.to_owned(), tensor(&[2, 2], 0.0))];
        let weights = Weights::from_bytes("test.safetensors", bytes(&tensors, &[])).unwrap();
        Lora::from_weights(weights).unwrap_err().to_string()
    };
    for (name, kind) in [
        ("proj_out.lora_mid.weight", "LoCon with a Tucker core"),
        ("proj_out.hada_t1", "LoHa with a Tucker core"),
        ("proj_out.lokr_t2", "LoKr with a Tucker core"),
        ("proj_out.oft_blocks", "OFT"),
        ("proj_out.diff", "difference of whole weights"),
        ("text_encoder.layers.0.lora_A.weight", "only a text encoder"),
    ] {
        let text = open(name);
        assert!(text.contains(kind), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }
}
