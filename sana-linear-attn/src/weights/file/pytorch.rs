//! Checkpoints that PyTorch saved (`.pth`, `.pt`, `.bin`). The reader interprets the pickle as data:
//! it makes tensors and containers of them, and calls nothing that the file names.

use std::path::Path;

use pytorch_reader::{DType, PytorchError, PytorchReader, Tensor};
use safetensors::tensor::Dtype;

use crate::weights::error::WeightError;
use crate::weights::file::container::Container;
use crate::weights::file::storage::Storage;

/// Dictionaries of a training state that hold the model, the first that is there.
const NESTED: [&str; 2] = ["state_dict.", "state_dict_ema."];

pub(crate) struct PytorchTensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: usize,
    pub storage: Storage,
}

/// The tensors of a file of `file_bytes`, none of which is read yet.
pub(crate) fn tensors(path: &Path, file_bytes: usize) -> Result<Vec<PytorchTensor>, WeightError> {
    let unreadable = |reason: String| WeightError::OtherFile {
        path: path.to_path_buf(),
        found: format!("a PyTorch file that cannot be read ({reason})"),
        advice: "only tensors in dictionaries are read; load it with PyTorch and save its \
                 state_dict with safetensors.torch.save_file"
            .to_owned(),
    };
    let reader = match PytorchReader::new(path) {
        Ok(reader) => reader,
        Err(PytorchError::Io(source)) if source.raw_os_error().is_some() => {
            return Err(WeightError::Io {
                path: path.to_path_buf(),
                source,
            });
        }
        Err(error) if names_pytorch(path) => return Err(unreadable(error.to_string())),
        Err(_) => return Err(not_pytorch(path)),
    };
    let mut tensors: Vec<Tensor> = reader.into_tensors().into_values().collect();
    if tensors.is_empty() {
        return Err(not_pytorch(path));
    }
    let nested = NESTED
        .into_iter()
        .find(|key| tensors.iter().any(|tensor| tensor.name.starts_with(key)));
    if let Some(key) = nested {
        tensors.retain_mut(|tensor| match tensor.name.strip_prefix(key) {
            Some(name) => {
                tensor.name = name.to_owned();
                true
            }
            None => false,
        });
    }
    tensors
        .into_iter()
        .map(|tensor| {
            let bytes = tensor.byte_len();
            // A view may repeat its elements without end.
            if bytes > file_bytes {
                let name = &tensor.name;
                let reason = format!("tensor {name:?} of {bytes} bytes in a file of {file_bytes}");
                return Err(WeightError::Corrupt {
                    path: path.to_path_buf(),
                    reason,
                });
            }
            let (name, dtype, shape, read) = tensor.into_parts();
            Ok(PytorchTensor {
                name,
                dtype: dtype_of(dtype),
                shape,
                bytes,
                storage: Storage::unread(read),
            })
        })
        .collect()
}

/// Whether a file says by its name that it is of PyTorch.
fn names_pytorch(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    ["pth", "pt", "bin", "ckpt"]
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}

fn not_pytorch(path: &Path) -> WeightError {
    let start = crate::weights::file::read::read_start(path, 16).unwrap_or_default();
    Container::of(&start)
        .unwrap_or(Container::Pickle)
        .error(path)
}

fn dtype_of(dtype: DType) -> Dtype {
    match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::I8 => Dtype::I8,
        DType::U64 => Dtype::U64,
        DType::U32 => Dtype::U32,
        DType::U16 => Dtype::U16,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
    }
}
