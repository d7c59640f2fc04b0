//! The name of a repository.

use super::error::HubError;

/// The branch where no revision is given.
const MAIN: &str = "main";

/// A repository of the Hub at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubRepo {
    id: String,
    revision: String,
}

impl HubRepo {
    /// A repository by its name, `owner/name`, at its main branch.
    ///
    /// # Errors
    /// [`HubError::Name`] when the text is no such name.
    pub fn new(id: &str) -> Result<Self, HubError> {
        let word = |text: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            text.starts_with(|c: char| c.is_ascii_alphanumeric())
                && text.chars().all(plain)
                && text.len() <= 96
                // Folders of the cache have `--` in place of `/`.
                && !text.contains("--")
                && !text.contains("..")
        };
        match id.split_once('/') {
            Some((owner, name)) if word(owner) && word(name) => Ok(Self {
                id: id.to_owned(),
                revision: MAIN.to_owned(),
            }),
            _ => Err(HubError::Name {
                text: id.to_owned(),
            }),
        }
    }

    /// At a branch, tag or commit.
    ///
    /// # Errors
    /// [`HubError::Revision`] when the text cannot be one.
    pub fn revision(mut self, revision: &str) -> Result<Self, HubError> {
        let word = |text: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
            !text.is_empty() && !text.starts_with('.') && text.chars().all(plain)
        };
        if revision.len() > 200 || !revision.split('/').all(word) {
            return Err(HubError::Revision {
                text: revision.to_owned(),
            });
        }
        self.revision = revision.to_owned();
        Ok(self)
    }

    /// `owner/name`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The branch, tag or commit.
    pub fn revision_name(&self) -> &str {
        &self.revision
    }

    /// With its slashes escaped.
    pub(super) fn revision_in_url(&self) -> String {
        self.revision.replace('/', "%2F")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_revisions() {
        let repo = HubRepo::new("Efficient-Large-Model/Sana_600M_512px_diffusers").unwrap();
        assert_eq!(repo.revision_name(), "main");
        for wrong in [
            "",
            "name",
            "a/b/c",
            "/a",
            "a/",
            "../a",
            "a/..",
            "a/b..c",
            "a/b--c",
            "a b/c",
            "a/b?c",
            "-a/b",
            "https://huggingface.co/a/b",
        ] {
            let error = HubRepo::new(wrong).unwrap_err();
            assert!(matches!(error, HubError::Name { .. }), "{wrong}");
            assert!(error.to_string().contains("owner/name"), "{error}");
        }
        for right in ["main", "v1.0", "refs/pr/3", "0123456789abcdef"] {
            let repo = repo.clone().revision(right).unwrap();
            assert_eq!(repo.revision_name(), right);
        }
        let in_url = repo.clone().revision("refs/pr/3").unwrap();
        assert_eq!(in_url.revision_in_url(), "refs%2Fpr%2F3");
        for wrong in ["", "..", "a/../b", "/a", "a/", "a b", "a?b", "a%2e"] {
            let error = repo.clone().revision(wrong).unwrap_err();
            assert!(matches!(error, HubError::Revision { .. }), "{wrong}");
        }
    }
}
