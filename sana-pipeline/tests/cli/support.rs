//! Running the command in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sana_linear_attn::parity::{built_in_fixture_path, copy_folder};
use sana_pipeline::image::{RgbImage, load, read_text};
use tempfile::TempDir;

/// A working folder and the checkpoint that commands run on.
pub struct Workplace {
    folder: TempDir,
}

/// What a command left behind.
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// The checkpoint of the crate's own fixtures: 3 blocks, 48 text channels.
pub fn checkpoint() -> PathBuf {
    built_in_fixture_path(env!("CARGO_MANIFEST_DIR"), "pipeline/sana")
}

/// The Sprint checkpoint of the crate's own fixtures.
pub fn sprint_checkpoint() -> PathBuf {
    built_in_fixture_path(env!("CARGO_MANIFEST_DIR"), "pipeline/sprint")
}

/// The LoRA of the crate's own fixtures, for [`checkpoint`].
pub fn lora() -> String {
    let file = "pipeline/lora/pytorch_lora_weights.safetensors";
    let path = built_in_fixture_path(env!("CARGO_MANIFEST_DIR"), file);
    path.into_os_string().into_string().unwrap()
}

impl Workplace {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `sana` with these arguments in this folder, not yet started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sana"));
        command.args(arguments).current_dir(self.folder.path());
        command
    }

    /// Runs `sana` with these arguments in this folder.
    pub fn sana(&self, arguments: &[&str]) -> Outcome {
        Outcome::from(self.command(arguments).output().unwrap())
    }

    /// Runs `sana` with `--model CHECKPOINT --device flex` added.
    pub fn sana_on(&self, checkpoint: &Path, arguments: &[&str]) -> Outcome {
        let model = ["--model", checkpoint.to_str().unwrap(), "--device", "flex"];
        self.sana(&[arguments, &model].concat())
    }

    /// Runs `sana` on the checkpoint of the fixtures.
    pub fn sana_on_fixture(&self, arguments: &[&str]) -> Outcome {
        self.sana_on(&checkpoint(), arguments)
    }

    /// `sana generate PROMPT` on the fixtures' checkpoint, 96x64 in 2 steps.
    pub fn generate(&self, arguments: &[&str]) -> Outcome {
        let usual = [
            "generate",
            "a red circle",
            "--size",
            "96x64",
            "--steps",
            "2",
        ];
        self.sana_on_fixture(&[&usual, arguments].concat())
    }

    /// The image of this name.
    #[track_caller]
    pub fn image(&self, name: &str) -> RgbImage {
        load(&self.path(name)).unwrap()
    }

    /// What an image records under this key.
    #[track_caller]
    pub fn text(&self, name: &str, key: &str) -> Option<String> {
        let text = read_text(&self.path(name)).unwrap();
        let found = text.into_iter().find(|(found, _)| found == key);
        found.map(|(_, value)| value)
    }

    /// The content of the file of this name.
    #[track_caller]
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// The names of the files in the folder, sorted.
    pub fn files(&self) -> Vec<String> {
        self.files_in("")
    }

    /// The names of the files in a folder of this folder, sorted.
    #[track_caller]
    pub fn files_in(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A copy of the fixtures' checkpoint in this folder, to be damaged.
    pub fn copied_checkpoint(&self, name: &str) -> PathBuf {
        let target = self.path(name);
        copy_folder(&checkpoint(), &target);
        target
    }
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Outcome {
    /// Asserts success and that nothing was said on stderr; returns stdout.
    #[track_caller]
    pub fn quiet_success(self) -> String {
        assert_eq!(
            (self.code, self.stderr.as_str()),
            (Some(0), ""),
            "{}",
            self.stdout
        );
        self.stdout
    }

    /// Asserts that the command failed with one error that says all of `expected`, and without a
    /// panic.
    #[track_caller]
    pub fn fails(&self, code: i32, expected: &[&str]) {
        let stderr = &self.stderr;
        assert_eq!(self.code, Some(code), "{stderr}");
        assert!(stderr.starts_with("error: "), "{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        for part in expected {
            assert!(stderr.contains(part), "no {part:?} in: {stderr}");
        }
    }
}

/// Two things, drawn here, as `docs/tools/sprites/fetch` lays them out.
pub fn write_sprites(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    let disc = image::RgbaImage::from_fn(40, 40, |x, y| {
        let inside = (x as f32 - 19.5).hypot(y as f32 - 19.5) < 18.0;
        image::Rgba([220, 30, 40, if inside { 255 } else { 0 }])
    });
    disc.save(folder.join("disc.png")).unwrap();
    let bar = image::RgbaImage::from_pixel(40, 16, image::Rgba([60, 20, 160, 255]));
    bar.save(folder.join("bar.png")).unwrap();
    let list = r#"[{"file": "disc.png", "name": "disc", "article": "a", "plural": "discs"},
        {"file": "bar.png", "name": "bar", "article": "a", "plural": "bars"}]"#;
    std::fs::write(folder.join("sprites.json"), list).unwrap();
}
