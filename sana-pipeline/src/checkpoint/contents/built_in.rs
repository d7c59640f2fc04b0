//! The files of the checkpoint that is built into the program.

macro_rules! files {
    ($($file:literal),+ $(,)?) => {
        &[$((
            $file,
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/scenes/", $file)),
        )),+]
    };
}

static FILES: &[(&str, &[u8])] = files![
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "vae/latent_rgb.json",
];

/// The bytes of a file, by its path relative to the checkpoint.
pub(crate) fn file(name: &str) -> Option<&'static [u8]> {
    FILES
        .iter()
        .find(|(file, _)| *file == name)
        .map(|(_, bytes)| *bytes)
}

/// The files of a folder of the checkpoint, by their names in it.
pub(crate) fn files_of(folder: &str) -> impl Iterator<Item = (&'static str, &'static [u8])> {
    FILES.iter().filter_map(move |(file, bytes)| {
        let name = file.strip_prefix(folder)?.strip_prefix('/')?;
        Some((name, *bytes))
    })
}
