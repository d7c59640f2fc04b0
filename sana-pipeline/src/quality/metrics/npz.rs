//! Statistics as the usual tools store them: an `.npz` with `mu` and `sigma`.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use zip::read::ZipFile;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::error::MetricsError;
use super::statistics::{FeatureStatistics, LARGEST_FEATURES};
use crate::support::files::write_whole;

/// What an array begins with: magic and version, then two bytes with the length of its header.
const MAGIC: &[u8; 8] = b"\x93NUMPY\x01\x00";
/// Length of an array's header, at most. numpy's has 118.
const LARGEST_HEADER: usize = 1024;

impl FeatureStatistics {
    /// Reads an `.npz` as pytorch-fid, and the tools that follow it, write it: arrays `mu`
    /// `[features]` and `sigma` `[features, features]` in f64 or f32, compressed or not. Other
    /// arrays are ignored, but for a whole number `count`, the images that the statistics are of.
    ///
    /// # Errors
    /// [`MetricsError::Io`] when the file cannot be read, [`MetricsError::Npz`] when it holds
    /// something else. Nothing beyond [`LARGEST_FEATURES`] is unpacked.
    pub fn load(path: &Path) -> Result<Self, MetricsError> {
        let wrong = |reason: String| MetricsError::Npz {
            path: path.to_path_buf(),
            reason,
        };
        let file = File::open(path).map_err(|source| MetricsError::Io {
            path: path.to_path_buf(),
            source,
        })?;
        let mut archive =
            ZipArchive::new(BufReader::new(file)).map_err(|error| wrong(error.to_string()))?;
        let mean = array(&mut archive, "mu", 1).map_err(wrong)?;
        let covariance = array(&mut archive, "sigma", 2).map_err(wrong)?;
        let statistics = match Self::new(mean, covariance) {
            Err(MetricsError::Statistics { reason }) => return Err(wrong(reason)),
            statistics => statistics?,
        };
        Ok(match count(&mut archive) {
            Some(images) => statistics.with_count(images),
            None => statistics,
        })
    }

    /// Writes what [`load`](Self::load) reads, as `numpy.savez` does, in f64. The file appears whole
    /// or not at all.
    ///
    /// # Errors
    /// [`MetricsError::Io`] when it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), MetricsError> {
        let features = self.features();
        let bytes = |values: &[f64]| -> Vec<[u8; 8]> {
            values.iter().map(|value| value.to_le_bytes()).collect()
        };
        write_whole(path, |file| {
            let mut archive = ZipWriter::new(file);
            let shape = format!("{features},");
            add(&mut archive, "mu", ("<f8", &shape), bytes(self.mean()))?;
            let shape = format!("{features}, {features}");
            add(
                &mut archive,
                "sigma",
                ("<f8", &shape),
                bytes(self.covariance()),
            )?;
            if let Some(images) = self.count() {
                let images = (images as i64).to_le_bytes();
                add(&mut archive, "count", ("<i8", ""), [images])?;
            }
            archive.finish()?;
            Ok(())
        })
        .map_err(|source| MetricsError::Io {
            path: path.to_path_buf(),
            source,
        })
    }
}

type Archive = ZipArchive<BufReader<File>>;

/// An array whose values have not been read.
struct Array<'a> {
    /// Its type as numpy writes it, such as `<f8`.
    descr: String,
    shape: Vec<usize>,
    values: ZipFile<'a, BufReader<File>>,
}

impl<'a> Array<'a> {
    fn open(archive: &'a mut Archive, name: &str) -> Result<Self, String> {
        let failed = |error: io::Error| error.to_string();
        let mut file = archive
            .by_name(&format!("{name}.npy"))
            .map_err(|error| error.to_string())?;
        let mut start = [0; MAGIC.len() + 2];
        file.read_exact(&mut start).map_err(failed)?;
        let length = usize::from(u16::from_le_bytes([start[8], start[9]]));
        if !start.starts_with(MAGIC) || length > LARGEST_HEADER {
            return Err("it is not a numpy array of format 1.0".to_owned());
        }
        let mut header = vec![0; length];
        file.read_exact(&mut header).map_err(failed)?;
        let header = String::from_utf8_lossy(&header);
        let value = |key: &str, [open, close]: [char; 2]| {
            let (_, after) = header.split_once(&format!("'{key}':"))?;
            let after = after.trim_start().strip_prefix(open)?;
            Some(after.split_once(close)?.0)
        };
        let descr = value("descr", ['\''; 2]);
        let sides = value("shape", ['(', ')']);
        let (Some(descr), Some(sides)) = (descr, sides) else {
            return Err(format!("it is no plain array: {}", header.trim()));
        };
        let sides = sides
            .split(',')
            .map(str::trim)
            .filter(|side| !side.is_empty());
        let shape: Result<Vec<usize>, _> = sides.map(str::parse).collect();
        Ok(Self {
            descr: descr.to_owned(),
            shape: shape.map_err(|error| format!("a side of its shape: {error}"))?,
            values: file,
        })
    }

    /// `count` floats. Nothing is reserved that does not come.
    fn floats(self, count: usize) -> Result<Vec<f64>, String> {
        let size = match self.descr.as_str() {
            "<f8" => 8,
            "<f4" => 4,
            other => return Err(format!("it is of type {other}, not <f8 or <f4")),
        };
        let mut bytes = Vec::new();
        let length = (count * size) as u64;
        let found = self.values.take(length).read_to_end(&mut bytes);
        let found = found.map_err(|error| error.to_string())?;
        if found as u64 != length {
            return Err(format!("it ends after {found} of {length} bytes"));
        }
        Ok(match size {
            8 => elements(&bytes).map(f64::from_le_bytes).collect(),
            _ => elements(&bytes)
                .map(|bytes| f64::from(f32::from_le_bytes(bytes)))
                .collect(),
        })
    }
}

fn elements<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks::<N>().0.iter().copied()
}

/// The values of a float array of `rank` equal sides. Their order does not matter: a matrix is
/// symmetric, or refused later.
fn array(archive: &mut Archive, name: &str, rank: usize) -> Result<Vec<f64>, String> {
    let mut values = || {
        let array = Array::open(archive, name)?;
        let shape = &array.shape;
        let side = shape.first().copied().unwrap_or(0);
        let fits = shape.len() == rank && (1..=LARGEST_FEATURES).contains(&side);
        if !fits || shape.iter().any(|other| *other != side) {
            return Err(format!("it has the shape {shape:?}"));
        }
        array.floats(side.pow(rank as u32))
    };
    values().map_err(|reason: String| format!("{name}: {reason}"))
}

fn count(archive: &mut Archive) -> Option<u64> {
    let mut array = Array::open(archive, "count").ok()?;
    if array.descr != "<i8" || !array.shape.is_empty() {
        return None;
    }
    let mut bytes = [0; 8];
    array.values.read_exact(&mut bytes).ok()?;
    u64::try_from(i64::from_le_bytes(bytes)).ok()
}

/// Adds an array of eight-byte values.
fn add<W: Write + io::Seek>(
    archive: &mut ZipWriter<W>,
    name: &str,
    (descr, shape): (&str, &str),
    values: impl IntoIterator<Item = [u8; 8]>,
) -> io::Result<()> {
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    archive.start_file(format!("{name}.npy"), stored)?;
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    // Values begin at a multiple of 64 bytes, after a line break.
    let start = MAGIC.len() + 2;
    let length = (start + header.len() + 1).next_multiple_of(64) - start;
    header = format!("{header:<width$}\n", width = length - 1);
    archive.write_all(MAGIC)?;
    archive.write_all(&(length as u16).to_le_bytes())?;
    archive.write_all(header.as_bytes())?;
    let mut archive = io::BufWriter::with_capacity(1 << 16, archive);
    for value in values {
        archive.write_all(&value)?;
    }
    archive.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics() -> FeatureStatistics {
        let covariance = vec![2.0, 0.5, 0.5, 1.0];
        FeatureStatistics::new(vec![1.0, -0.5], covariance).unwrap()
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("statistics.npz");
        for saved in [statistics(), statistics().with_count(30_000)] {
            saved.save(&path).unwrap();
            assert_eq!(FeatureStatistics::load(&path).unwrap(), saved);
        }
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
        let nowhere = folder.path().join("none/statistics.npz");
        let error = statistics().save(&nowhere).unwrap_err();
        assert!(matches!(error, MetricsError::Io { .. }), "{error}");
        let error = FeatureStatistics::load(&nowhere).unwrap_err();
        assert!(matches!(error, MetricsError::Io { .. }), "{error}");
    }

    /// An archive of arrays, each a Python literal and the bytes after it.
    fn archive(path: &Path, arrays: &[(&str, &str, &[f64])]) {
        let mut archive = ZipWriter::new(File::create(path).unwrap());
        for (name, literal, values) in arrays {
            let name = format!("{name}.npy");
            archive
                .start_file(name, SimpleFileOptions::default())
                .unwrap();
            archive.write_all(b"\x93NUMPY\x01\x00").unwrap();
            let length = u16::try_from(literal.len()).unwrap();
            archive.write_all(&length.to_le_bytes()).unwrap();
            archive.write_all(literal.as_bytes()).unwrap();
            for value in *values {
                archive.write_all(&value.to_le_bytes()).unwrap();
            }
        }
        archive.finish().unwrap();
    }

    fn literal(descr: &str, shape: &str) -> String {
        format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n")
    }

    #[test]
    fn archives_of_something_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("statistics.npz");
        let good = literal("'<f8'", "(1,)");
        let mu = |literal: &str| {
            let arrays = [
                ("mu", literal, &[1.0][..]),
                ("sigma", &literal.replace("(1,)", "(1, 1)"), &[1.0][..]),
            ];
            archive(&path, &arrays);
            FeatureStatistics::load(&path)
        };
        assert_eq!(mu(&good).unwrap().mean(), [1.0]);
        let huge = "9".repeat(30);
        let deep = format!("{}{}", "(".repeat(400), ")".repeat(400));
        let many = format!("({})", "9999, ".repeat(40));
        let cases = [
            (literal("'<f8'", "(2,)"), "ends after 8 of 16"),
            (literal("'<f8'", "(0,)"), "[0]"),
            (literal("'<f8'", "()"), "[]"),
            (literal("'<f8'", "(9000,)"), "[9000]"),
            (literal("'<f8'", &format!("({huge},)")), "a side"),
            (literal("'<f8'", "(-1,)"), "a side"),
            (literal("'<f8'", "(1, 1, 1)"), "[1, 1, 1]"),
            (literal("'<f8'", &many), "mu: it has the shape"),
            (literal("'<f8'", &deep), "a side"),
            (literal("[('a', '<f8')]", "(1,)"), "no plain array"),
            (literal("'<i8'", "(1,)"), "<i8"),
            (literal("'>f8'", "(1,)"), ">f8"),
            (literal("'|O'", "(1,)"), "|O"),
            ("{'descr': '<f8'}".to_owned(), "mu"),
            ("nothing".to_owned(), "mu"),
            (" ".repeat(2000), "format 1.0"),
        ];
        for (literal, expected) in cases {
            let error = mu(&literal).unwrap_err();
            assert!(matches!(error, MetricsError::Npz { .. }), "{error}");
            let error = error.to_string();
            assert!(error.contains(expected), "{literal}: {error}");
            assert!(error.contains("statistics.npz"), "{error}");
        }

        archive(&path, &[("mu", &good, &[1.0])]);
        let error = FeatureStatistics::load(&path).unwrap_err();
        assert!(error.to_string().contains("sigma"), "{error}");
        let square = literal("'<f8'", "(2, 2)");
        archive(
            &path,
            &[("mu", &good, &[1.0]), ("sigma", &square, &[1.0; 4])],
        );
        let error = FeatureStatistics::load(&path).unwrap_err();
        assert!(error.to_string().contains("covariance of 4"), "{error}");
    }

    #[test]
    fn damaged_archives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("statistics.npz");
        statistics().save(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in (0..whole.len()).step_by(7) {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(FeatureStatistics::load(&path).is_err(), "{length} bytes");
        }
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 0xff;
            std::fs::write(&path, &bytes).unwrap();
            // Any answer, as long as there is one.
            let _ = FeatureStatistics::load(&path);
        }
    }
}
