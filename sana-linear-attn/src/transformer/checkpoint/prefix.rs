//! What programs that save a transformer put before every name.

use std::borrow::Cow;

use crate::weights::Weights;

/// The tensor by which the published layout is recognised.
const PUBLISHED: &str = "patch_embed.proj.weight";

/// Names of the objects that a transformer is saved inside of: by training scripts, `torch.compile`,
/// `DataParallel`, and user interfaces that keep a whole model in one file.
const WRAPPERS: [&str; 7] = [
    "state_dict",
    "state_dict_ema",
    "model",
    "module",
    "diffusion_model",
    "_orig_mod",
    "transformer",
];

/// The prefix of the tensor `mark`, if it consists of [`WRAPPERS`]; the shortest if there are
/// several.
pub(super) fn prefix_of(weights: &Weights, mark: &str) -> Option<String> {
    if weights.contains(mark) {
        return Some(String::new());
    }
    let prefixes = weights.names().filter_map(|name| name.strip_suffix(mark));
    prefixes
        .filter(|prefix| is_wrapper(prefix))
        .min_by_key(|prefix| prefix.len())
        .map(str::to_owned)
}

fn is_wrapper(prefix: &str) -> bool {
    prefix
        .strip_suffix('.')
        .is_some_and(|path| path.split('.').all(|part| WRAPPERS.contains(&part)))
}

/// The same weights without the prefix, if their names are those of the published layout.
pub(in crate::transformer) fn without_prefix(weights: &Weights) -> Cow<'_, Weights> {
    match prefix_of(weights, PUBLISHED) {
        Some(prefix) if !prefix.is_empty() => Cow::Owned(weights.without_prefix(&prefix)),
        _ => Cow::Borrowed(weights),
    }
}
