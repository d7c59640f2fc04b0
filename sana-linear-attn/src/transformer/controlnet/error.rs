/// Why a ControlNet cannot steer a transformer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlNetError {
    /// The two differ in a size that they have to share.
    #[error(
        "the ControlNet has {found} {what}, the transformer {expected}: it was made for another one"
    )]
    Differs {
        /// What is counted, such as `latent channels`.
        what: &'static str,
        /// The ControlNet's number.
        found: usize,
        /// The transformer's number.
        expected: usize,
    },
    /// It has as many blocks as the transformer or more, or none at all.
    #[error(
        "a ControlNet of {found} blocks for a transformer of {blocks}: it has fewer than the \
         transformer, and at least 1"
    )]
    Blocks {
        /// Blocks of the ControlNet.
        found: usize,
        /// Blocks of the transformer.
        blocks: usize,
    },
    /// The transformer embeds its guidance scale, which a ControlNet cannot.
    #[error(
        "this transformer (Sana-Sprint) has the guidance scale as an input, for which a ControlNet \
         has no embedding: use a checkpoint of Sana or SANA-1.5, or no ControlNet"
    )]
    EmbeddedGuidance,
}
