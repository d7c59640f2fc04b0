//! What a file is, by its first bytes, where it is not an image that can be read; and whether a JPEG
//! is whole.

/// What a file is that is no PNG, JPEG or WebP, and what to do about it.
pub(super) fn refusal(head: &[u8]) -> Option<String> {
    if head.is_empty() {
        return Some("the file is empty".to_owned());
    }
    if let Some(name) = other_format(head) {
        return Some(format!(
            "it is {name}, which is not read; convert it to PNG, JPEG or WebP"
        ));
    }
    if head.starts_with(b"version https://git-lfs") {
        let reason = "it is a Git LFS pointer and not the image itself: fetch it with git lfs pull";
        return Some(reason.to_owned());
    }
    let text = text_start(head);
    if text.starts_with(b"<!doctype html") || text.starts_with(b"<html") {
        let reason = "it is a web page and not an image: download the image itself";
        return Some(reason.to_owned());
    }
    None
}

fn other_format(head: &[u8]) -> Option<&'static str> {
    const STARTS: [(&[u8], &str); 15] = [
        (b"GIF8", "a GIF"),
        (b"II*\0", "a TIFF or a camera's raw file"),
        (b"MM\0*", "a TIFF or a camera's raw file"),
        (b"II+\0", "a TIFF"),
        (b"MM\0+", "a TIFF"),
        (b"BM", "a BMP"),
        (b"8BPS", "a Photoshop file"),
        (b"\xff\x0a", "a JPEG XL"),
        (b"\0\0\0\x0cJXL ", "a JPEG XL"),
        (b"\0\0\0\x0cjP  ", "a JPEG 2000"),
        (b"\x76\x2f\x31\x01", "an OpenEXR"),
        (b"\0\0\x01\0", "an icon (ICO)"),
        (b"qoif", "a QOI"),
        (b"%PDF", "a PDF"),
        (b"gimp xcf", "a GIMP file"),
    ];
    if head.get(4..8) == Some(b"ftyp") {
        return Some(iso_media(head));
    }
    let known = STARTS.iter().find(|(start, _)| head.starts_with(start));
    if let Some((_, name)) = known {
        return Some(name);
    }
    let text = text_start(head);
    let is_svg = text.starts_with(b"<svg")
        || (text.starts_with(b"<?xml") && text.windows(4).any(|tag| tag == b"<svg"));
    is_svg.then_some("an SVG")
}

/// The kind of a file of the ISO base media format, by its brands (ISO/IEC 23008-12).
fn iso_media(head: &[u8]) -> &'static str {
    let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let brands = &head[8..length.clamp(8, head.len())];
    let has = |wanted: &[&[u8]]| brands.chunks(4).any(|brand| wanted.contains(&brand));
    if has(&[b"avif", b"avis"]) {
        "an AVIF"
    } else if has(&[
        b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1",
    ]) {
        "a HEIC (HEIF)"
    } else {
        "a video or another file of the MP4 family"
    }
}

/// The beginning of a text, in lower case.
fn text_start(head: &[u8]) -> Vec<u8> {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    head.trim_ascii_start()[..]
        .iter()
        .take(1024)
        .map(u8::to_ascii_lowercase)
        .collect()
}

/// Whether a JPEG has its end marker (ITU-T T.81, annex B). Decoders fill in grey for what is
/// missing.
pub(super) fn jpeg_is_whole(bytes: &[u8]) -> bool {
    const RESTARTS: std::ops::RangeInclusive<u8> = 0xd0..=0xd7;
    let mut at = 2;
    loop {
        // The next marker; what is before it is the data of a scan, or padding.
        let Some(found) = bytes
            .get(at..)
            .and_then(|rest| rest.iter().position(|byte| *byte == 0xff))
        else {
            return false;
        };
        at += found + 1;
        match bytes.get(at) {
            None => return false,
            // A byte 0xff of data, or one of padding before a marker.
            Some(0x00) => at += 1,
            Some(0xff) => {}
            Some(0xd9) => return true,
            // Markers without a segment.
            Some(0x01) => at += 1,
            Some(marker) if RESTARTS.contains(marker) => at += 1,
            Some(_) => {
                let Some(&[high, low]) = bytes.get(at + 1..at + 3) else {
                    return false;
                };
                at += 1 + usize::from(u16::from_be_bytes([high, low])).max(2);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_that_are_not_read_are_named() {
        let brand = |major: &[u8], compatible: &[u8]| {
            [b"\0\0\0\x14ftyp", major, b"\0\0\0\0", compatible].concat()
        };
        for (head, name) in [
            (brand(b"heic", b"mif1"), "HEIC"),
            (brand(b"mif1", b"heic"), "HEIC"),
            (brand(b"avif", b"mif1"), "AVIF"),
            (brand(b"mif1", b"avif"), "AVIF"),
            (brand(b"isom", b"mp41"), "video"),
            (b"GIF89a".to_vec(), "GIF"),
            (b"II*\0\x08\0\0\0".to_vec(), "TIFF"),
            (b"BM6\0\0\0".to_vec(), "BMP"),
            (b"\xff\x0a\xfa".to_vec(), "JPEG XL"),
            (b"\n<svg xmlns='...'>".to_vec(), "SVG"),
            (b"<?xml version=\"1.0\"?>\n<SVG>".to_vec(), "SVG"),
        ] {
            let reason = refusal(&head).expect(name);
            assert!(reason.contains(name), "{name}: {reason}");
            assert!(reason.contains("convert it to PNG, JPEG or WebP"));
        }
        let page = refusal(b"<!DOCTYPE html><html>").unwrap();
        assert!(page.contains("web page"), "{page}");
        let pointer = refusal(b"version https://git-lfs.github.com/spec/v1\n").unwrap();
        assert!(pointer.contains("Git LFS"), "{pointer}");
        assert_eq!(refusal(b"").as_deref(), Some("the file is empty"));
        assert_eq!(refusal(b"\x89PNG\r\n\x1a\n"), None);
        assert_eq!(
            refusal(b"\0\0\0\x14ftyp").map(|reason| reason.len() > 9),
            Some(true)
        );
    }

    #[test]
    fn jpegs_end_with_their_marker() {
        let mut file = Vec::new();
        let pixels = image::RgbImage::from_fn(40, 30, |x, y| [(x * y) as u8, x as u8, 9].into());
        let format = image::ImageFormat::Jpeg;
        pixels
            .write_to(&mut std::io::Cursor::new(&mut file), format)
            .unwrap();
        assert!(jpeg_is_whole(&file));
        for length in 2..file.len() {
            assert!(!jpeg_is_whole(&file[..length]), "{length} bytes");
        }
        file.extend_from_slice(b"what cameras append");
        assert!(jpeg_is_whole(&file));
    }
}
