//! Where images go.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use sana_pipeline::image::{FileFormat, check_writable};

use super::Files;

/// The file of the image without --out.
pub const FILE: &str = "sana.png";

/// The files of `count` images: `sana.png` for one, `sana-0.png`, `sana-1.png` and so on for
/// several. All of them can be written, and no other file of the run is there.
///
/// # Errors
/// When the name has not the ending of an image format, or a file cannot be written.
pub fn images(out: &Path, count: usize, files: &mut Files) -> anyhow::Result<Vec<PathBuf>> {
    FileFormat::of(out)?;
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
    suffixed(out, &format!("-{index}"))
}

/// The name with `suffix` before its ending.
pub fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_stem().unwrap_or(OsStr::new("sana")).to_owned();
    name.push(suffix);
    if let Some(ending) = path.extension() {
        name.push(".");
        name.push(ending);
    }
    path.with_file_name(name)
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
        let several = ["a.b-0.PNG", "a.b-1.PNG"].map(|name| folder.path().join(name));
        assert_eq!(images(&out, 2, &mut Files::default()).unwrap(), several);
        for wrong in ["a.gif", "a", ".png", ""] {
            let error = images(&folder.path().join(wrong), 1, &mut Files::default())
                .unwrap_err()
                .to_string();
            assert!(error.contains("must end in .png, .jpg"), "{error}");
        }
        let jpeg = folder.path().join("a.jpeg");
        let several = ["a-0.jpeg", "a-1.jpeg"].map(|name| folder.path().join(name));
        assert_eq!(images(&jpeg, 2, &mut Files::default()).unwrap(), several);
    }
}
