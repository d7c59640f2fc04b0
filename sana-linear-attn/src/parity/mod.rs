//! Helpers for tests that compare with reference outputs (feature `parity`).
//!
//! They panic with a message: their only use is in tests.

mod files;
mod gguf;
mod original;

pub use files::{copy_folder, edit_tensor, edit_tensor_file};
pub use gguf::{GgufTensor, GgufValue, gemma2_gguf, gguf_file};
pub use original::{original_tensors, write_original};

use std::path::{Path, PathBuf};
use std::str::Chars;

use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors};

/// The folder of other reference outputs that the environment variable `SANA_FIXTURES` names, if
/// it is set.
///
/// # Panics
/// If there is no such folder: tests would pass without having seen what it was meant to hold.
pub fn dropped_in_fixtures() -> Option<PathBuf> {
    std::env::var_os("SANA_FIXTURES").map(|folder| existing(folder.into()))
}

fn existing(folder: PathBuf) -> PathBuf {
    assert!(
        folder.is_dir(),
        "no folder {folder:?}, which SANA_FIXTURES names (a relative name counts from the folder \
         of the crate under test)"
    );
    folder
}

/// A file or folder of the workspace's own reference outputs, whatever the environment says: for tests
/// that know what is in it. It is `tests/fixtures/NAME` of the crate, or of the crate next to it that
/// has it: each reference output is stored once.
///
/// # Panics
/// If it is absent.
pub fn built_in_fixture_path(crate_dir: &str, name: &str) -> PathBuf {
    let crate_dir = Path::new(crate_dir);
    let own = crate_dir.join("tests/fixtures").join(name);
    if own.exists() {
        return own;
    }
    let workspace = crate_dir.parent().and_then(|folder| folder.read_dir().ok());
    let crates = workspace.into_iter().flatten().flatten();
    crates
        .map(|entry| entry.path().join("tests/fixtures").join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("no fixture {}", own.display()))
}

/// A file or folder of reference outputs: the workspace's [own](built_in_fixture_path), or the same
/// name under the folder that the environment variable `SANA_FIXTURES` names, which comes first,
/// so that other reference outputs can be dropped in. Their shapes, configs and texts may be
/// others.
///
/// # Panics
/// If it is in neither place, or the folder that `SANA_FIXTURES` names is not there.
pub fn fixture_path(crate_dir: &str, name: &str) -> PathBuf {
    dropped_in_fixtures()
        .map(|folder| folder.join(name))
        .filter(|path| path.exists())
        .unwrap_or_else(|| built_in_fixture_path(crate_dir, name))
}

/// Where the weights of a fixture's folder are: there, or in the folder next to it that its file
/// `weights_of` names.
pub fn weights_folder(folder: &Path) -> PathBuf {
    match std::fs::read_to_string(folder.join("weights_of")) {
        Ok(name) => folder.with_file_name(name.trim()),
        Err(_) => folder.to_path_buf(),
    }
}

/// One file of reference outputs, read whole.
#[derive(Debug)]
pub struct Fixture {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Fixture {
    /// Reads a fixture; see [`fixture_path`] for where it is looked for.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn open(crate_dir: &str, name: &str) -> Self {
        Self::at(&fixture_path(crate_dir, name))
    }

    /// Reads the fixture at this path.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn at(path: &Path) -> Self {
        let bytes =
            std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self {
            path: path.to_path_buf(),
            bytes,
        }
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes)
            .unwrap_or_else(|error| panic!("{}: {error}", self.path.display()))
    }

    /// Where it was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of its tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .tensors()
            .names()
            .into_iter()
            .map(|name| name.to_owned())
            .collect();
        names.sort();
        names
    }

    /// Whether it has a tensor of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors().tensor(name).is_ok()
    }

    /// A value of the header's metadata.
    ///
    /// # Panics
    /// If it is absent.
    pub fn metadata(&self, key: &str) -> String {
        let (_, metadata) = SafeTensors::read_metadata(&self.bytes)
            .unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
        metadata
            .metadata()
            .as_ref()
            .and_then(|map| map.get(key))
            .unwrap_or_else(|| panic!("no metadata {key:?} in {}", self.path.display()))
            .clone()
    }

    /// A list of strings in the header's metadata, as Python prints it: `['one', "it's"]`.
    ///
    /// # Panics
    /// If it is absent or no such list.
    pub fn metadata_list(&self, key: &str) -> Vec<String> {
        let text = self.metadata(key);
        python_strings(&text)
            .unwrap_or_else(|| panic!("{key} = {text:?} in {}", self.path.display()))
    }

    /// Shape of a tensor.
    ///
    /// # Panics
    /// If it is absent.
    pub fn shape(&self, name: &str) -> Vec<usize> {
        self.view(name).0
    }

    fn view(&self, name: &str) -> (Vec<usize>, Vec<f64>) {
        let tensors = self.tensors();
        let view = tensors
            .tensor(name)
            .unwrap_or_else(|error| panic!("{name} of {}: {error}", self.path.display()));
        let data = view.data();
        let values = match view.dtype() {
            Dtype::F64 => chunks(data).map(f64::from_le_bytes).collect(),
            Dtype::F32 => chunks(data)
                .map(|b| f64::from(f32::from_le_bytes(b)))
                .collect(),
            Dtype::I64 => chunks(data).map(|b| i64::from_le_bytes(b) as f64).collect(),
            Dtype::BF16 => chunks(data)
                .map(|b| half::bf16::from_le_bytes(b).to_f64())
                .collect(),
            Dtype::F16 => chunks(data)
                .map(|b| half::f16::from_le_bytes(b).to_f64())
                .collect(),
            other => panic!("{name} of {}: dtype {other:?}", self.path.display()),
        };
        (view.shape().to_vec(), values)
    }

    /// Values of a tensor of any dtype, in row-major order.
    ///
    /// # Panics
    /// If it is absent.
    pub fn values(&self, name: &str) -> Vec<f64> {
        self.view(name).1
    }

    /// A tensor in f32 on a device.
    ///
    /// # Panics
    /// If it is absent or not of rank `D`.
    pub fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        let (shape, values) = self.view(name);
        assert_eq!(shape.len(), D, "rank of {name} in {}", self.path.display());
        let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
        Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
    }
}

fn chunks<const N: usize>(data: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    data.as_chunks::<N>().0.iter().copied()
}

/// The strings of a list that Python printed.
fn python_strings(text: &str) -> Option<Vec<String>> {
    let mut chars = text.trim().strip_prefix('[')?.strip_suffix(']')?.chars();
    let mut strings = Vec::new();
    while let Some(quote) = chars.next() {
        match quote {
            ',' | ' ' => continue,
            '\'' | '"' => {}
            _ => return None,
        }
        let mut string = String::new();
        loop {
            match chars.next()? {
                '\\' => string.push(unescaped(&mut chars)?),
                end if end == quote => break,
                other => string.push(other),
            }
        }
        strings.push(string);
    }
    Some(strings)
}

/// The character that an escape of Python's stands for, after its backslash.
fn unescaped(chars: &mut Chars<'_>) -> Option<char> {
    let digits = match chars.next()? {
        'n' => return Some('\n'),
        'r' => return Some('\r'),
        't' => return Some('\t'),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        itself => return Some(itself),
    };
    let code: String = chars.by_ref().take(digits).collect();
    char::from_u32(u32::from_str_radix(&code, 16).ok()?)
}

/// The device that parity tests run on, from the environment variable `SANA_TEST_DEVICE`: `flex`
/// (default) or `wgpu` (the software or hardware adapter that wgpu finds; for Mesa's llvmpipe).
///
/// # Panics
/// If the variable has another value, or the device's Cargo feature is off.
pub fn device() -> Device {
    match test_device().as_str() {
        #[cfg(feature = "flex")]
        "flex" => Device::flex(),
        #[cfg(feature = "wgpu")]
        "wgpu" => Device::wgpu(burn::tensor::DeviceKind::Cpu),
        #[cfg(feature = "cuda")]
        "cuda" => Device::cuda(0),
        other => panic!("SANA_TEST_DEVICE={other}: no such device, or its Cargo feature is off"),
    }
}

fn test_device() -> String {
    std::env::var("SANA_TEST_DEVICE").unwrap_or_else(|_| "flex".to_owned())
}

/// Bound of [`assert_parity`] as a share of the reference's largest magnitude. On the CPU in f32
/// only the order of sums differs from the reference: 1e-4. On wgpu the shader's exp, tanh and
/// division are not correctly rounded and sums are taken in another order: 2e-3. On CUDA f32
/// products run in TF32, with 10 bits of mantissa: 5e-3.
pub fn tolerance() -> f64 {
    match test_device().as_str() {
        "flex" => 1e-4,
        "wgpu" => 2e-3,
        _ => 5e-3,
    }
}

/// Asserts that a tensor equals the reference: equal shape, all values finite, and
/// `max |ours - reference| <= tolerance() * max |reference|`.
///
/// # Panics
/// If it does not.
pub fn assert_parity<const D: usize>(name: &str, ours: Tensor<D>, reference: Tensor<D>) {
    assert_eq!(ours.dims(), reference.dims(), "shape of {name}");
    assert_close(name, &values(ours), &values(reference), tolerance());
}

/// All values of a tensor in row-major order, in f32.
///
/// # Panics
/// If they cannot be read from the device.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.into_data().convert::<f32>();
    data.try_into_vec()
        .unwrap_or_else(|error| panic!("reading a tensor: {error:?}"))
}

/// The comparison of [`assert_parity`] on plain values with a bound of the caller's.
///
/// # Panics
/// If lengths differ, a value is not finite, or the largest difference exceeds
/// `bound * max |reference|`.
pub fn assert_close(name: &str, ours: &[f32], reference: &[f32], bound: f64) {
    assert_eq!(ours.len(), reference.len(), "length of {name}");
    assert!(
        ours.iter().all(|value| value.is_finite()),
        "{name} has values that are not finite"
    );
    let largest = reference
        .iter()
        .fold(0f64, |max, &value| max.max(f64::from(value).abs()));
    let (index, difference) = ours
        .iter()
        .zip(reference)
        .map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs())
        .enumerate()
        .fold(
            (0, 0f64),
            |worst, item| if item.1 > worst.1 { item } else { worst },
        );
    assert!(
        difference <= bound * largest,
        "{name}: differs by {difference:e} at element {index} (ours {}, reference {}), \
         allowed {:e} = {bound:e} x largest magnitude {largest:e}",
        ours.get(index).copied().unwrap_or_default(),
        reference.get(index).copied().unwrap_or_default(),
        bound * largest,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_as_python_prints_them() {
        let text = r#"['A Red circle ', "it's", 'it\'s "so"', 'a, b\n\xa0\\', '', 'ö \U0001f980']"#;
        let expected = [
            "A Red circle ",
            "it's",
            "it's \"so\"",
            "a, b\n\u{a0}\\",
            "",
            "ö 🦀",
        ];
        assert_eq!(python_strings(text).unwrap(), expected);
        assert!(python_strings("[]").unwrap().is_empty());
        for other in ["", "a", "['a'", "['a]", "[3]", r"['\xzz']"] {
            assert_eq!(python_strings(other), None, "{other}");
        }
    }

    #[test]
    #[should_panic(expected = "no folder \"tests/fixture\", which SANA_FIXTURES names")]
    fn a_mistyped_folder_is_named() {
        existing("tests/fixture".into());
    }

    #[test]
    #[should_panic(expected = "tests/fixtures/blocks/none.safetensors")]
    fn an_absent_fixture_is_named() {
        built_in_fixture_path(env!("CARGO_MANIFEST_DIR"), "blocks/none.safetensors");
    }
}
