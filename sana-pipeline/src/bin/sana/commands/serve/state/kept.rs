//! Images that are fetched by their address for a while.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use rand::rand_core::TryRng;
use rand::rngs::SysRng;

use crate::commands::serve::error::ApiError;
use crate::commands::serve::images::Format;

/// Images in memory, the oldest of which give way.
#[derive(Debug)]
pub struct Kept {
    images: Mutex<VecDeque<KeptImage>>,
    bytes: usize,
    time: Duration,
}

#[derive(Debug, Clone)]
struct KeptImage {
    name: String,
    until: Instant,
    format: Format,
    file: Bytes,
}

impl Kept {
    /// Images of so many bytes together, each for this time.
    pub fn new(bytes: usize, time: Duration) -> Self {
        Self {
            images: Mutex::default(),
            bytes,
            time,
        }
    }

    /// Keeps an image under a name that cannot be guessed.
    pub fn keep(&self, file: Bytes, format: Format) -> Result<String, ApiError> {
        let mut random = [0; 16];
        SysRng
            .try_fill_bytes(&mut random)
            .map_err(|error| ApiError::internal(format!("no random numbers: {error}")))?;
        let name = format!(
            "{:032x}.{}",
            u128::from_be_bytes(random),
            format.extension()
        );
        let now = Instant::now();
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        images.retain(|image| image.until > now);
        images.push_back(KeptImage {
            name: name.clone(),
            until: now + self.time,
            format,
            file,
        });
        let mut bytes: usize = images.iter().map(|image| image.file.len()).sum();
        while bytes > self.bytes && images.len() > 1 {
            bytes -= images.pop_front().map_or(0, |image| image.file.len());
        }
        Ok(name)
    }

    /// The image with a name.
    pub fn get(&self, name: &str) -> Option<(Format, Bytes)> {
        let now = Instant::now();
        let images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        let image = images
            .iter()
            .find(|image| image.name == name && image.until > now)?;
        Some((image.format, image.file.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_give_way() {
        let kept = Kept::new(10, Duration::from_secs(60));
        let keep = |byte: u8, bytes| {
            kept.keep(Bytes::from(vec![byte; bytes]), Format::Png)
                .unwrap()
        };
        let [one, two, three] = [keep(1, 4), keep(2, 6), keep(3, 4)];
        assert_eq!(kept.get(&one), None);
        assert_eq!(kept.get(&two).unwrap().1[..], [2; 6]);
        assert_eq!(kept.get(&three).unwrap().0, Format::Png);
        // One alone is kept whatever its size.
        let large = keep(4, 100);
        assert!(kept.get(&large).is_some() && kept.get(&three).is_none());
        assert_eq!(large.len(), 36);
        assert_ne!(keep(4, 1), keep(4, 1));
    }

    #[test]
    fn for_a_while() {
        let kept = Kept::new(10, Duration::ZERO);
        let name = kept.keep(Bytes::from_static(b"a"), Format::Png).unwrap();
        assert_eq!(kept.get(&name), None);
    }
}
