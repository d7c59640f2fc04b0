//! Files of weights: which of a folder, what kind each is, their bytes, and writing them safely.

pub(super) mod container;
pub(crate) mod folder;
pub(super) mod pytorch;
pub(crate) mod read;
pub(crate) mod replace;
pub(super) mod storage;
