//! What every room uses: files written safely, text of unknown origin, ordered JSON, numbers for people.

pub(crate) mod escape;
pub(crate) mod files;
pub(crate) mod json;
pub(crate) mod units;
