//! Everything that can be wrong with a checkpoint folder, a config or an input.

use std::path::PathBuf;

use sana_linear_attn::WeightError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DcAeError {
    /// A config file could not be read.
    #[error("cannot read autoencoder config {}", path.display())]
    ReadConfig {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A config file could not be written.
    #[error("cannot write autoencoder config {}", path.display())]
    WriteConfig {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A config file was read but its content cannot be used.
    #[error("autoencoder config {}: {source}", path.display())]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it: [`DcAeError::ParseConfig`], [`DcAeError::StageCount`] or
        /// [`DcAeError::ConfigValue`].
        source: Box<DcAeError>,
    },
    /// A config is not JSON, or a key has the wrong type or a value this crate does not know.
    #[error("not an autoencoder config: {source}")]
    ParseConfig {
        /// Where and why parsing stopped.
        #[from]
        source: serde_json::Error,
    },
    /// A per-stage list of a config has another length than the list of stage widths.
    #[error("{key} has {found} entries, expected one for each of the {expected} stages")]
    StageCount {
        /// The config key of the list.
        key: &'static str,
        /// Its length.
        found: usize,
        /// The number of stages.
        expected: usize,
    },
    /// A value of a config, or a combination of values, that no network can be built from.
    #[error("{key} is {found}, expected {expected}")]
    ConfigValue {
        /// The config key, with the stage where there is one.
        key: String,
        /// The value.
        found: String,
        /// What is possible there.
        expected: String,
    },
    /// An image whose sides are zero or no multiples of the compression ratio.
    #[error(
        "image of {height}x{width} pixels (height x width): both sides must be multiples of the \
         compression ratio {compression}; the nearest sizes that work are {}x{} and {}x{}",
        smaller[0], smaller[1], larger[0], larger[1]
    )]
    ImageSize {
        /// Height in pixels.
        height: usize,
        /// Width in pixels.
        width: usize,
        /// Pixels per latent along each axis.
        compression: usize,
        /// `[height, width]`, each side rounded down (but not to zero).
        smaller: [usize; 2],
        /// `[height, width]`, each side rounded up.
        larger: [usize; 2],
    },
    /// An image with another number of channels than the model's.
    #[error("image has {found} channels, the autoencoder expects {expected}")]
    ImageChannels {
        /// Channels of the image.
        found: usize,
        /// Channels of the model.
        expected: usize,
    },
    /// Latents with another number of channels than the model's.
    #[error("latents have {found} channels, the autoencoder expects {expected}")]
    LatentChannels {
        /// Channels of the latents.
        found: usize,
        /// Channels of the model.
        expected: usize,
    },
    /// Latents or a batch without any element.
    #[error("nothing to {operation}: the input has shape {shape:?}")]
    Empty {
        /// `"encode"` or `"decode"`.
        operation: &'static str,
        /// Shape of the input.
        shape: [usize; 4],
    },
    /// Tiles that cannot be laid over an image.
    #[error(
        "tiles of {tile} pixels every {stride} pixels along the {axis}: both must be multiples of \
         the compression ratio {compression}, at least {compression}, and the stride at most the \
         tile size"
    )]
    InvalidTiling {
        /// `"height"` or `"width"`.
        axis: &'static str,
        /// Tile size in pixels.
        tile: usize,
        /// Tile stride in pixels.
        stride: usize,
        /// Pixels per latent along each axis.
        compression: usize,
    },
    /// A batch is to be cut into slices of no images.
    #[error("slices of 0 images: a slice holds at least one")]
    InvalidSlice,
    /// The weights are missing, damaged or do not fit the config.
    #[error(transparent)]
    Weights(#[from] WeightError),
}
