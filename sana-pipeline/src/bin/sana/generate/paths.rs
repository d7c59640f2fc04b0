//! Where images go.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::bail;
use sana_pipeline::image::check_writable;

use crate::files::Files;

/// The files of `count` images: `sana.png` for one, `sana-0.png`, `sana-1.png` and so on for
/// several. All of them can be written, and no other file of the run is there.
///
/// # Errors
/// When the name does not end in `.png`, or a file cannot be written.
pub fn images(out: &Path, count: usize, files: &mut Files) -> anyhow::Result<Vec<PathBuf>> {
    if !out
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("png"))
    {
        bail!(
            "images are written as PNG, so the name must end in .png: {}",
            out.display()
        );
    }
    let paths = match count {
        1 => vec![out.to_owned()],
        _ => (0..count).map(|index| numbered(out, index)).collect(),
    };
    for path in &paths {
        files.writes(path, "--out", "an image")?;
    }
    for path in &paths {
        check_writable(path)?;
    }
    Ok(paths)
}

fn numbered(out: &Path, index: usize) -> PathBuf {
    let mut name = out.file_stem().unwrap_or(OsStr::new("sana")).to_owned();
    name.push(format!("-{index}.png"));
    out.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("a.b.PNG");
        assert_eq!(
            images(&out, 1, &mut Files::default()).unwrap(),
            std::slice::from_ref(&out)
        );
        let several = ["a.b-0.png", "a.b-1.png"].map(|name| folder.path().join(name));
        assert_eq!(images(&out, 2, &mut Files::default()).unwrap(), several);
        for wrong in ["a.jpg", "a", ".png", ""] {
            let error = images(&folder.path().join(wrong), 1, &mut Files::default())
                .unwrap_err()
                .to_string();
            assert!(error.contains("must end in .png"), "{error}");
        }
    }
}
