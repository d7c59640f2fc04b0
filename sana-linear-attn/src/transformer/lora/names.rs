//! Names of the tensors in LoRA files of different trainers.

/// Which tensor of an adapter it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// `A`, `[rank, in]`.
    Down,
    /// `B`, `[out, rank]`.
    Up,
    Alpha,
    /// DoRA's length of each row, or column, of the weight.
    Magnitude,
    HadaW1A,
    HadaW1B,
    HadaW2A,
    HadaW2B,
    LokrW1,
    LokrW1A,
    LokrW1B,
    LokrW2,
    LokrW2A,
    LokrW2B,
}

/// The word of a name, and whether `.weight` follows it.
const ROLES: &[(&str, Role, bool)] = &[
    ("lora_A", Role::Down, true),
    ("lora_down", Role::Down, true),
    ("lora_B", Role::Up, true),
    ("lora_up", Role::Up, true),
    ("alpha", Role::Alpha, false),
    ("lora_magnitude_vector", Role::Magnitude, false),
    ("lora_magnitude_vector", Role::Magnitude, true),
    (DORA_SCALE, Role::Magnitude, false),
    ("hada_w1_a", Role::HadaW1A, false),
    ("hada_w1_b", Role::HadaW1B, false),
    ("hada_w2_a", Role::HadaW2A, false),
    ("hada_w2_b", Role::HadaW2B, false),
    ("lokr_w1", Role::LokrW1, false),
    ("lokr_w1_a", Role::LokrW1A, false),
    ("lokr_w1_b", Role::LokrW1B, false),
    ("lokr_w2", Role::LokrW2, false),
    ("lokr_w2_a", Role::LokrW2A, false),
    ("lokr_w2_b", Role::LokrW2B, false),
];

/// LyCORIS's name of DoRA's magnitudes, whose shape says along which axis they are.
pub(super) const DORA_SCALE: &str = "dora_scale";

/// Words of adapters that are not supported, and what these are called.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("lora_mid", "a LoCon with a Tucker core"),
    ("hada_t1", "a LoHa with a Tucker core"),
    ("hada_t2", "a LoHa with a Tucker core"),
    ("lokr_t1", "a LoKr with a Tucker core"),
    ("lokr_t2", "a LoKr with a Tucker core"),
    ("lora_embedding_A", "a LoRA of an embedding"),
    ("lora_embedding_B", "a LoRA of an embedding"),
    ("oft_blocks", "an OFT"),
    ("oft_diag", "an OFT"),
    ("oft_r", "an OFT"),
    ("oft_R", "an OFT"),
    ("boft_R", "a BOFT"),
    ("boft_s", "a BOFT"),
    ("ia3_l", "an IA3"),
    ("vera_lambda_b", "a VeRA"),
    ("vera_lambda_d", "a VeRA"),
    ("diff", "a difference of whole weights"),
    ("diff_b", "a difference of whole weights"),
    ("w_norm", "a change of norms"),
    ("b_norm", "a change of norms"),
];

/// What the name of a tensor says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    /// A tensor of an adapter, and the layer that it changes: with dots, or with underscores only.
    Adapter { layer: String, role: Role },
    /// It changes a text encoder.
    TextEncoder,
    /// It belongs to an adapter of a kind that is not supported.
    Unsupported(&'static str),
    /// It belongs to no adapter.
    Unknown,
}

pub(super) fn parse(name: &str) -> Name {
    // Older files of diffusers.
    let name = name
        .replace(".lora.down.", ".lora_down.")
        .replace(".lora.up.", ".lora_up.");
    let parts: Vec<&str> = name.split('.').collect();
    let (parts, weight) = match parts.as_slice() {
        [parts @ .., "weight"] => (parts, true),
        parts => (parts, false),
    };
    let role = |word: &str| {
        let mut roles = ROLES.iter();
        let role = roles.find(|(known, _, with_weight)| *known == word && *with_weight == weight);
        role.map(|(_, role, _)| *role)
    };
    let (layer, role) = match parts {
        [layer @ .., word] if role(word).is_some() => (layer, role(word)),
        // PEFT's name of the adapter.
        [layer @ .., word, _adapter] if weight && role(word).is_some() => (layer, role(word)),
        [layer @ .., word, "default"] if role(word).is_some() => (layer, role(word)),
        _ => (parts, None),
    };
    let Some(role) = role else {
        let kinds = UNSUPPORTED.iter();
        let mut kinds =
            kinds.filter(|(word, _)| parts.iter().rev().take(2).any(|part| part == word));
        return kinds
            .next()
            .map_or(Name::Unknown, |(_, kind)| Name::Unsupported(kind));
    };
    let layer = layer.join(".");
    let layer = layer.strip_prefix("base_model.model.").unwrap_or(&layer);
    if is_text_encoder(layer) {
        return Name::TextEncoder;
    }
    match plain_layer(layer) {
        "" => Name::Unknown,
        layer => Name::Adapter {
            layer: layer.to_owned(),
            role,
        },
    }
}

fn is_text_encoder(layer: &str) -> bool {
    const PREFIXES: &[&str] = &[
        "text_encoder",
        "text_model.",
        "model.layers.",
        "lora_te_",
        "lora_te1_",
        "lora_te2_",
        "lora_text_encoder",
        "lycoris_text_encoder",
    ];
    PREFIXES.iter().any(|prefix| layer.starts_with(prefix))
}

/// The name without what wrappers and trainers put before it.
fn plain_layer(mut layer: &str) -> &str {
    const WRAPPERS: &[&str] = &[
        "base_model.model.",
        "model.diffusion_model.",
        "diffusion_model.",
        "transformer.",
        "unet.",
        "module.",
        "_orig_mod.",
    ];
    while let Some(rest) = WRAPPERS
        .iter()
        .find_map(|prefix| layer.strip_prefix(prefix))
    {
        layer = rest;
    }
    if layer.contains('.') {
        return layer;
    }
    let Some(rest) = ["lora_unet_", "lora_", "lycoris_"]
        .iter()
        .find_map(|prefix| layer.strip_prefix(prefix))
    else {
        return layer;
    };
    match rest.strip_prefix("transformer_") {
        Some(inner) if !inner.starts_with("blocks_") => inner,
        _ => rest,
    }
}

/// The name that the counterpart of a tensor has in the same file.
pub(super) fn counterpart(present: Option<&str>, layer: &str, wanted: Role) -> String {
    let word = |role: Role| {
        let mut roles = ROLES.iter();
        roles.find(|(_, known, _)| *known == role)
    };
    let &(wanted_word, _, weight) = word(wanted).unwrap_or(&ROLES[0]);
    if let Some(present) = present {
        for [one, other] in [["lora_A", "lora_B"], ["lora_down", "lora_up"]] {
            match wanted {
                Role::Up if present.contains(one) => return present.replace(one, other),
                Role::Down if present.contains(other) => return present.replace(other, one),
                _ => {}
            }
        }
        for (known, ..) in ROLES.iter().rev() {
            if let Some(before) = present.strip_suffix(&format!(".{known}")) {
                return format!("{before}.{wanted_word}");
            }
        }
    }
    let end = if weight { ".weight" } else { "" };
    format!("{layer}.{wanted_word}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(layer: &str, role: Role) -> Name {
        let layer = layer.to_owned();
        Name::Adapter { layer, role }
    }

    #[test]
    fn names_in_use() {
        let layer = "transformer_blocks.0.attn1.to_q";
        for prefix in [
            "",
            "transformer.",
            "base_model.model.",
            "base_model.model.transformer.",
            "diffusion_model.",
        ] {
            for (suffix, role) in [
                ("lora_A.weight", Role::Down),
                ("lora_A.default.weight", Role::Down),
                ("lora_A.style.weight", Role::Down),
                ("lora_down.weight", Role::Down),
                ("lora.down.weight", Role::Down),
                ("lora_up.weight", Role::Up),
                ("alpha", Role::Alpha),
                ("lora_magnitude_vector", Role::Magnitude),
                ("lora_magnitude_vector.weight", Role::Magnitude),
                ("lora_magnitude_vector.default.weight", Role::Magnitude),
                ("lora_magnitude_vector.default", Role::Magnitude),
                ("dora_scale", Role::Magnitude),
                ("hada_w1_a", Role::HadaW1A),
                ("lokr_w2_b.default", Role::LokrW2B),
            ] {
                let name = format!("{prefix}{layer}.{suffix}");
                assert_eq!(parse(&name), adapter(layer, role), "{name}");
            }
        }
        let layer = "transformer_blocks_0_attn1_to_out_0";
        for prefix in ["lora_transformer_", "lora_unet_", "lora_", "lycoris_"] {
            let name = format!("{prefix}{layer}.lora_down.weight");
            assert_eq!(parse(&name), adapter(layer, Role::Down), "{name}");
        }
        for other in ["proj_out.weight", "lora_A.weight", "a.lora_A.bias", ""] {
            assert_eq!(parse(other), Name::Unknown, "{other}");
        }
        for text in [
            "text_encoder.model.layers.0.q_proj.lora_A.weight",
            "lora_te1_model_layers_0_q_proj.lora_down.weight",
            "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight",
        ] {
            assert_eq!(parse(text), Name::TextEncoder, "{text}");
        }
        let tucker = parse("a.b.hada_t1");
        assert_eq!(tucker, Name::Unsupported("a LoHa with a Tucker core"));
    }
}
