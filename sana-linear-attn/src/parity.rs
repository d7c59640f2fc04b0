//! Helpers for tests that compare with reference outputs (feature `parity`).
//!
//! They panic with a message: their only use is in tests.

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors};

/// A file or folder of reference outputs: `tests/fixtures/NAME` of the crate, or the same name
/// under the folder that the environment variable `SANA_FIXTURES` names, which comes first, so
/// that other reference outputs can be dropped in.
///
/// # Panics
/// If it is in neither place.
pub fn fixture_path(crate_dir: &str, name: &str) -> PathBuf {
    let built_in = Path::new(crate_dir).join("tests/fixtures").join(name);
    let candidates: Vec<PathBuf> = std::env::var_os("SANA_FIXTURES")
        .map(|folder| Path::new(&folder).join(name))
        .into_iter()
        .chain([built_in])
        .collect();
    candidates
        .iter()
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("no fixture {name}: looked at {candidates:?}"))
        .clone()
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
        let path = fixture_path(crate_dir, name);
        let bytes =
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path, bytes }
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
