//! Writing the weights of a network of another depth.

use std::io::Write;
use std::path::Path;

use burn::tensor::{DType, Device};
use serde_json::{Map, Value, json};

use super::plan::DepthPlan;
use super::tensors::{Tensors, in_block};
use crate::transformer::model::checked;
use crate::weights::{KeyMap, WeightError, Weights, parameter_shapes, replace_file, write_tensors};

/// Name of the weight files without extension.
const STEM: &str = "diffusion_pytorch_model";
/// Bytes of tensors in one file. As much is in memory at a time.
const SHARD_BYTES: usize = 2_000_000_000;

/// A tensor to write.
struct Planned {
    /// Its number in the network.
    index: usize,
    name: String,
    shape: Vec<usize>,
    bytes: usize,
}

impl DepthPlan {
    /// Writes the weights of the new network into an existing folder:
    /// `diffusion_pytorch_model.safetensors`, or shards of at most 2 GB with an index, which comes
    /// last. `weights` are those of the first network, in the published layout or the authors' own.
    /// Copies keep their dtype and their values bit for bit, unless `dtype` is given; new tensors
    /// have the dtype of the others. One file is in memory at a time, without what is mapped from
    /// the first network's. `progress(done, all)` counts bytes.
    ///
    /// # Errors
    /// When the weights are not those of the first network, or a file cannot be written.
    pub fn write(
        &self,
        weights: &Weights,
        folder: &Path,
        dtype: Option<DType>,
        device: &Device,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), WeightError> {
        self.write_in_shards(weights, folder, dtype, device, SHARD_BYTES, progress)
    }

    fn write_in_shards(
        &self,
        weights: &Weights,
        folder: &Path,
        dtype: Option<DType>,
        device: &Device,
        shard_bytes: usize,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), WeightError> {
        let source = self.source.init(device);
        let weights = checked(weights, &source)?;
        let mut tensors = Tensors::new(self, &weights, dtype);
        let shards = shards(self.planned(&tensors, device), shard_bytes);
        let sizes = shards.iter().flatten().map(|tensor| tensor.bytes);
        let all: usize = sizes.sum();
        let count = shards.len();
        let (mut done, mut map) = (0, Map::new());
        for (number, shard) in (1..).zip(shards) {
            let file = match count {
                1 => format!("{STEM}.safetensors"),
                _ => format!("{STEM}-{number:05}-of-{count:05}.safetensors"),
            };
            let mut made = Vec::with_capacity(shard.len());
            for tensor in shard {
                let data = tensors.make(tensor.index, &tensor.name, &tensor.shape)?;
                map.insert(tensor.name.clone(), Value::from(file.as_str()));
                made.push((tensor.name, data));
                done += tensor.bytes;
                progress(done as u64, all as u64);
            }
            write_tensors(&folder.join(file), made)?;
        }
        if count == 1 {
            return Ok(());
        }
        let index = json!({ "metadata": { "total_size": all }, "weight_map": map });
        let path = folder.join(format!("{STEM}.safetensors.index.json"));
        let written = replace_file(&path, |file| writeln!(file, "{index:#}"));
        written.map_err(|source| WeightError::Io { path, source })
    }

    /// All tensors: those outside the blocks, then each tensor of a block through all blocks, since
    /// a block may be made from the one before it.
    fn planned(&self, tensors: &Tensors<'_>, device: &Device) -> Vec<Planned> {
        let shapes = parameter_shapes(&self.config.init(device), KeyMap::default());
        let numbered = shapes.into_iter().enumerate();
        let mut planned: Vec<Planned> = numbered
            .map(|(index, (name, shape))| Planned {
                index,
                bytes: shape.iter().product::<usize>() * tensors.dtype_of(&name).size(),
                name,
                shape,
            })
            .collect();
        let place =
            |tensor: &Planned| in_block(&tensor.name).map(|(block, tail)| (tail.to_owned(), block));
        planned.sort_by_key(place);
        planned
    }
}

fn shards(tensors: Vec<Planned>, shard_bytes: usize) -> Vec<Vec<Planned>> {
    let mut shards: Vec<Vec<Planned>> = vec![Vec::new()];
    let mut filled = 0;
    for tensor in tensors {
        if filled > 0 && filled + tensor.bytes > shard_bytes {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += tensor.bytes;
        if let Some(shard) = shards.last_mut() {
            shard.push(tensor);
        }
    }
    shards
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use super::*;
    use crate::SanaTransformerConfig;
    use crate::parity::fixture_path;
    use crate::transformer::depth::{GrowthOptions, GrowthStrategy};

    /// Many files hold what one does.
    #[test]
    fn shards_are_the_same_weights() {
        let device = Device::flex();
        let source = fixture_path(env!("CARGO_MANIFEST_DIR"), "transformer/sana");
        let config = SanaTransformerConfig::from_file(&source.join("config.json")).unwrap();
        let weights = Weights::open_folder(&source, STEM, None).unwrap();
        let options = GrowthOptions::new(5).strategy(GrowthStrategy::Progressive);
        let plan = config.grow(&options).unwrap();
        let write = |shard_bytes| {
            let folder = tempfile::tempdir().unwrap();
            let mut last = (0, 0);
            plan.write_in_shards(
                &weights,
                folder.path(),
                None,
                &device,
                shard_bytes,
                &mut |done, all| last = (done, all),
            )
            .unwrap();
            let written = Weights::open_folder(folder.path(), STEM, None).unwrap();
            let total = written.total_bytes() as u64;
            assert_eq!(last, (total, total));
            plan.config().check(&written, &device).unwrap();
            (folder.path().read_dir().unwrap().count(), written, folder)
        };
        let (one, whole, _folder) = write(usize::MAX);
        let (many, parts, _other) = write(20_000);
        assert_eq!(one, 1);
        assert!(many > 3, "{many}");
        for name in whole.names() {
            assert_eq!(whole.bytes(name), parts.bytes(name), "{name}");
        }
    }
}
