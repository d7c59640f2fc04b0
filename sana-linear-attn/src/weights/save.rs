//! Writing of safetensors files.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor, TensorData};
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::error::WeightError;
use super::names::{KeyMap, ModulePath};
use crate::weights::file::replace::replace_file;

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
    let plan = tensors.iter().map(|(name, data)| PlannedTensor {
        name: name.clone(),
        dtype: data.dtype(),
        shape: data.shape().to_vec(),
    });
    let data: BTreeMap<&str, &TensorData> = tensors
        .iter()
        .map(|(name, data)| (name.as_str(), data))
        .collect();
    let plan = plan.collect();
    write_planned(path, plan, |name| Ok(Cow::Borrowed(data[name])))
}

/// A tensor that is to be written.
pub(crate) struct PlannedTensor {
    pub name: String,
    pub dtype: DType,
    pub shape: Vec<usize>,
}

/// Writes tensors to one safetensors file, whole or not at all. `data` is asked for one after the
/// other, so that they need not be in memory together.
///
/// # Errors
/// When the file cannot be written, or that of `data`.
pub(crate) fn write_planned<'a>(
    path: &Path,
    plan: Vec<PlannedTensor>,
    mut data: impl FnMut(&str) -> Result<Cow<'a, TensorData>, WeightError>,
) -> Result<(), WeightError> {
    let io = |source| WeightError::Io {
        path: path.to_path_buf(),
        source,
    };
    let mut tensors = Vec::with_capacity(plan.len());
    for tensor in plan {
        let dtype = match tensor.dtype {
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            DType::I64 => Dtype::I64,
            DType::U8 => Dtype::U8,
            DType::I8 => Dtype::I8,
            other => {
                return Err(WeightError::Dtype {
                    name: tensor.name,
                    origin: path.display().to_string(),
                    found: format!("{other:?}").to_lowercase(),
                });
            }
        };
        tensors.push((dtype, tensor));
    }
    // By descending alignment, then by name, as the safetensors library orders them.
    tensors.sort_by(|(dtype, tensor), (other, others)| {
        other.cmp(dtype).then(tensor.name.cmp(&others.name))
    });
    let header = header(&tensors).map_err(|error| io(std::io::Error::other(error)))?;
    let mut failed = None;
    let written = replace_file(path, |file| {
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for (_, tensor) in &tensors {
            match data(&tensor.name) {
                Ok(data) => {
                    let planned = tensor.shape.iter().product::<usize>() * tensor.dtype.size();
                    if data.as_bytes().len() != planned {
                        let reason = format!("{} has not the planned size", tensor.name);
                        return Err(std::io::Error::other(reason));
                    }
                    file.write_all(data.as_bytes())?;
                }
                Err(error) => {
                    failed = Some(error);
                    return Err(std::io::ErrorKind::InvalidData.into());
                }
            }
        }
        file.flush()
    });
    match failed {
        Some(error) => Err(error),
        None => written.map_err(io),
    }
}

/// The JSON in front of the tensors, padded to a multiple of 8 bytes.
fn header(tensors: &[(Dtype, PlannedTensor)]) -> Result<Vec<u8>, SafeTensorError> {
    let mut end = 0;
    let infos = tensors.iter().map(|(dtype, tensor)| {
        let start = end;
        end += tensor.shape.iter().product::<usize>() * tensor.dtype.size();
        let info = TensorInfo {
            dtype: *dtype,
            shape: tensor.shape.clone(),
            data_offsets: (start, end),
        };
        (tensor.name.clone(), info)
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
