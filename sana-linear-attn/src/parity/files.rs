use std::path::Path;
use std::{fs, io};

use safetensors::tensor::{Dtype, SafeTensors};

/// Copies a folder with everything in it.
///
/// # Panics
/// If something cannot be read or written.
pub fn copy_folder(from: &Path, to: &Path) {
    let copied = copy(from, to);
    copied.unwrap_or_else(|error| panic!("cannot copy {}: {error}", from.display()));
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in from.read_dir()? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            // Not `fs::copy`: the permissions of a read-only file would come along.
            fs::write(target, fs::read(entry.path())?)?;
        }
    }
    Ok(())
}

/// Replaces every element of an f32 tensor in the bytes of a safetensors file by what `change` makes
/// of its index and its value.
///
/// # Panics
/// If there is no such tensor.
pub fn edit_tensor(bytes: &mut [u8], tensor: &str, change: impl Fn(usize, f32) -> f32) {
    let (header, metadata) = SafeTensors::read_metadata(bytes).expect("a safetensors file");
    let info = metadata.info(tensor);
    let info = info.unwrap_or_else(|| panic!("no tensor {tensor}"));
    assert_eq!(info.dtype, Dtype::F32, "{tensor}");
    let (start, end) = info.data_offsets;
    // The length of the header comes before it, in eight bytes.
    let (elements, _) = bytes[8 + header..][start..end].as_chunks_mut::<4>();
    for (index, element) in elements.iter_mut().enumerate() {
        *element = change(index, f32::from_le_bytes(*element)).to_le_bytes();
    }
}

/// [`edit_tensor`] on a file.
///
/// # Panics
/// If the file cannot be read or written, or there is no such tensor.
pub fn edit_tensor_file(path: &Path, tensor: &str, change: impl Fn(usize, f32) -> f32) {
    let edited = fs::read(path).and_then(|mut bytes| {
        edit_tensor(&mut bytes, tensor, change);
        fs::write(path, bytes)
    });
    edited.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
