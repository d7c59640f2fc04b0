//! Which program gave a result.

/// Version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit that it was built from, where the build was given it.
pub const COMMIT: Option<&str> = option_env!("SANA_COMMIT");
