/// Which networks stay in memory from one stage to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MemoryPolicy {
    /// [`OneStageAtATime`](Self::OneStageAtATime) for a request that does not fit into memory with
    /// all components by the [estimate](crate::SanaPipeline::memory_estimate), [`KeepAll`](Self::KeepAll)
    /// otherwise. Only the CPU backend's memory is known: on other devices everything is kept,
    /// unless there is a [limit](crate::LoadOptions::memory_limit).
    #[default]
    Auto,
    /// All of them: the next image starts at once.
    KeepAll,
    /// Only that of the stage that runs: the text encoder is dropped before the transformer is
    /// loaded, and the transformer before the autoencoder.
    OneStageAtATime,
}
