//! Writing of safetensors files.

use std::io::{BufWriter, Write};
use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor, TensorData};
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, Metadata, TensorInfo, TensorView};

use super::error::WeightError;
use super::names::{KeyMap, ModulePath};
use super::replace::replace_file;

/// Options of [`save_module`].
#[derive(Debug, Clone, Copy, Default)]
pub struct SaveOptions {
    /// Dtype on disk; the parameters' own when `None`.
    pub dtype: Option<DType>,
    /// Renaming of parameters, the same as for loading.
    pub key_map: KeyMap,
    /// Prefix of every name on disk.
    pub prefix: &'static str,
}

/// Writes every parameter of a module to one safetensors file with the checkpoint's names. The
/// file appears whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn save_module<M: Module>(
    module: &M,
    path: &Path,
    options: &SaveOptions,
) -> Result<(), WeightError> {
    let mut collector = Collector {
        path: ModulePath::default(),
        options,
        tensors: Vec::new(),
    };
    module.visit(&mut collector);
    write_tensors(path, collector.tensors)
}

/// Writes named tensors to one safetensors file, whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn write_tensors(path: &Path, tensors: Vec<(String, TensorData)>) -> Result<(), WeightError> {
    let io = |source| WeightError::Io {
        path: path.to_path_buf(),
        source,
    };
    let mut views = Vec::with_capacity(tensors.len());
    for (name, data) in &tensors {
        let dtype = match data.dtype() {
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            DType::I64 => Dtype::I64,
            DType::U8 => Dtype::U8,
            other => {
                return Err(WeightError::Dtype {
                    name: name.clone(),
                    origin: path.display().to_string(),
                    found: format!("{other:?}").to_lowercase(),
                });
            }
        };
        let view = TensorView::new(dtype, data.shape().to_vec(), data.as_bytes())
            .map_err(|error| io(std::io::Error::other(error)))?;
        views.push((name.as_str(), view));
    }
    // By descending alignment, then by name, as the safetensors library orders them.
    views.sort_by(|(name, view), (other, others)| {
        others.dtype().cmp(&view.dtype()).then(name.cmp(other))
    });
    let header = header(&views).map_err(|error| io(std::io::Error::other(error)))?;
    replace_file(path, |file| {
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for (_, view) in &views {
            file.write_all(view.data())?;
        }
        file.flush()
    })
    .map_err(io)
}

/// The JSON in front of the tensors, padded to a multiple of 8 bytes.
fn header(views: &[(&str, TensorView<'_>)]) -> Result<Vec<u8>, SafeTensorError> {
    let mut end = 0;
    let infos = views.iter().map(|(name, view)| {
        let start = end;
        end += view.data().len();
        let info = TensorInfo {
            dtype: view.dtype(),
            shape: view.shape().to_vec(),
            data_offsets: (start, end),
        };
        ((*name).to_owned(), info)
    });
    let infos = infos.collect();
    let format = [("format".to_owned(), "pt".to_owned())].into();
    let mut header = serde_json::to_vec(&Metadata::new(Some(format), infos)?)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

struct Collector<'a> {
    path: ModulePath,
    options: &'a SaveOptions,
    tensors: Vec<(String, TensorData)>,
}

impl ModuleVisitor for Collector<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = format!(
            "{}{}",
            self.options.prefix,
            self.options.key_map.to_checkpoint(&self.path.join())
        );
        let data = param.val().into_data();
        let data = match self.options.dtype {
            Some(dtype) => data.convert_dtype(dtype),
            None => data,
        };
        self.tensors.push((name, data));
    }
}
