//! The small networks that are trained on the two scene languages.

mod scenes;
mod sprites;

pub use scenes::{
    MAX_PROMPT_TOKENS, SCENES_VOCAB, scenes_autoencoder, scenes_text_encoder, scenes_tokenizer,
    scenes_transformer,
};
pub use sprites::{
    SPRITES_PROMPT_TOKENS, SPRITES_VOCAB, sprites_autoencoder, sprites_text_encoder,
    sprites_transformer,
};
