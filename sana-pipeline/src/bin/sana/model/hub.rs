//! Checkpoints of the Hugging Face Hub, by name.

use std::path::Path;

use sana_pipeline::Checkpoint;

/// A checkpoint, and what it is called.
pub struct Found {
    pub checkpoint: Checkpoint,
    pub name: String,
    /// Of one from the Hub.
    pub commit: Option<String>,
}

/// The name of a repository that a path reads as: `owner/name`, unless something is there.
pub fn repository(model: &Path) -> Option<&str> {
    let text = model.to_str()?;
    let (owner, name) = text.split_once('/')?;
    let word = |text: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(plain)
    };
    (word(owner) && word(name) && !model.exists()).then_some(text)
}

/// The checkpoint of a repository, downloaded unless it is in the cache.
#[cfg(feature = "hub")]
pub fn checkpoint(
    name: &str,
    revision: Option<&str>,
    variant: Option<&str>,
    verify: bool,
) -> anyhow::Result<Found> {
    let snapshot = snapshot(name, revision, variant, verify)?;
    Ok(Found {
        checkpoint: snapshot.open()?,
        name: name.to_owned(),
        commit: Some(snapshot.commit),
    })
}

/// The folder of a repository's checkpoint in the cache, downloaded unless it is there.
#[cfg(feature = "hub")]
pub fn snapshot(
    name: &str,
    revision: Option<&str>,
    variant: Option<&str>,
    verify: bool,
) -> anyhow::Result<sana_pipeline::hub::Snapshot> {
    use anyhow::Context;
    use indicatif::DecimalBytes;
    use sana_pipeline::hub::{self, HubOptions, HubRepo};

    use crate::terminal::{Progress, note};

    let mut repo = HubRepo::new(name)?;
    if let Some(revision) = revision {
        repo = repo.revision(revision)?;
    }
    let options = HubOptions {
        verify,
        ..HubOptions::from_env()?
    };
    let mut bar: Option<Progress> = None;
    let snapshot = hub::fetch(&repo, variant, &options, &mut |progress| {
        bar.get_or_insert_with(|| Progress::bytes("downloading"))
            .advance(progress.done, progress.total);
    });
    let snapshot = match snapshot {
        Err(error) if is_unknown(&error) => Err(error).with_context(|| {
            format!(
                "no folder {name}, so it is taken as the name of a model on the Hugging Face Hub"
            )
        })?,
        snapshot => snapshot?,
    };
    drop(bar);
    if snapshot.downloaded > 0 {
        note(format!(
            "downloaded {} of {name} to {}",
            DecimalBytes(snapshot.downloaded),
            snapshot.folder.display()
        ));
    }
    Ok(snapshot)
}

/// Whether nothing is known of a repository: perhaps a folder was meant.
#[cfg(feature = "hub")]
fn is_unknown(error: &sana_pipeline::hub::HubError) -> bool {
    use sana_pipeline::hub::HubError;

    match error {
        HubError::NoSuchRepo { .. } | HubError::Denied { .. } | HubError::Unreachable { .. } => {
            true
        }
        HubError::Offline { files, .. } => files.is_empty(),
        _ => false,
    }
}

#[cfg(not(feature = "hub"))]
pub fn checkpoint(
    name: &str,
    _revision: Option<&str>,
    _variant: Option<&str>,
    _verify: bool,
) -> anyhow::Result<Found> {
    anyhow::bail!(
        "no folder {name}, so it is taken as the name of a model; to download it from the Hugging Face Hub, build with --features hub"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_repositories() {
        let name = "Efficient-Large-Model/Sana_600M_512px_diffusers";
        assert_eq!(repository(Path::new(name)), Some(name));
        // Tests run in the folder of the crate, where this one is.
        assert!(Path::new("src/bin").is_dir());
        for other in [
            "src/bin", "name", "", "a/b/c", "./a", "../a", "/a", "a/", "a/..", "a b/c", r"a\b",
        ] {
            assert_eq!(repository(Path::new(other)), None, "{other}");
        }
    }
}
