//! What every room uses: files written safely, text of unknown origin, ordered JSON, numbers for people,
//! how sure a share is, a stable hash.

pub(crate) mod escape;
pub(crate) mod files;
#[cfg(feature = "scenes")]
pub(crate) mod fnv;
#[cfg(feature = "scenes")]
pub(crate) mod interval;
pub(crate) mod json;
pub(crate) mod units;
