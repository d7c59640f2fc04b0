//! XMP, the metadata of ISO 16684-1: the mark that a model made an image, and its place in a JPEG.

/// The keyword of XMP among the texts of an image, which is that of its chunk in a PNG (XMP
/// specification, part 3).
pub const XMP: &str = "XML:com.adobe.xmp";

/// What the segment of XMP in a JPEG begins with.
const JPEG_START: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
/// Bytes of XMP in a JPEG, at most: its segment has a length of 16 bits.
pub(super) const LARGEST_JPEG: usize = u16::MAX as usize - 2 - JPEG_START.len();

/// The vocabulary of where images come from (IPTC NewsCodes).
const SOURCE_TYPES: &str = "http://cv.iptc.org/newscodes/digitalsourcetype/";

/// Where an image comes from, by the IPTC's vocabulary of digital source types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DigitalSourceType {
    /// `trainedAlgorithmicMedia`: a model made it.
    TrainedAlgorithmicMedia,
    /// `compositeWithTrainedAlgorithmicMedia`: a model made a part of it, as in inpainting.
    CompositeWithTrainedAlgorithmicMedia,
}

impl DigitalSourceType {
    /// Its name in the vocabulary.
    pub fn name(self) -> &'static str {
        match self {
            Self::TrainedAlgorithmicMedia => "trainedAlgorithmicMedia",
            Self::CompositeWithTrainedAlgorithmicMedia => "compositeWithTrainedAlgorithmicMedia",
        }
    }

    /// XMP that says so, and nothing else: the text of the keyword [`XMP`].
    pub fn xmp(self) -> String {
        format!(
            "<?xpacket begin=\"\u{feff}\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>\n\
             <x:xmpmeta xmlns:x=\"adobe:ns:meta/\">\n\
             <rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\n\
             <rdf:Description rdf:about=\"\" \
             xmlns:Iptc4xmpExt=\"http://iptc.org/std/Iptc4xmpExt/2008-02-29/\" \
             Iptc4xmpExt:DigitalSourceType=\"{SOURCE_TYPES}{}\"/>\n\
             </rdf:RDF>\n</x:xmpmeta>\n<?xpacket end=\"w\"?>",
            self.name()
        )
    }
}

/// The digital source type that XMP names, whoever wrote it: a name of the IPTC's vocabulary.
pub fn source_type(xmp: &str) -> Option<&str> {
    let (_, name) = xmp.split_once(SOURCE_TYPES)?;
    let end = name.find(|c: char| !c.is_ascii_alphanumeric());
    let name = &name[..end.unwrap_or(name.len())];
    (!name.is_empty()).then_some(name)
}

/// A JPEG with XMP, behind the segments that must come first.
pub(super) fn in_jpeg(file: &[u8], xmp: &str) -> Vec<u8> {
    const APP0: u8 = 0xe0;
    const APP1: u8 = 0xe1;
    let mut at = 2;
    while let Some(&[0xff, APP0 | APP1, high, low]) = file.get(at..at + 4) {
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
    }
    let at = at.min(file.len());
    let length = (2 + JPEG_START.len() + xmp.len()) as u16;
    let head = [&[0xff, APP1][..], &length.to_be_bytes(), JPEG_START].concat();
    [&file[..at], &head, xmp.as_bytes(), &file[at..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_types_are_found() {
        for kind in [
            DigitalSourceType::TrainedAlgorithmicMedia,
            DigitalSourceType::CompositeWithTrainedAlgorithmicMedia,
        ] {
            assert_eq!(source_type(&kind.xmp()), Some(kind.name()));
        }
        let element =
            format!("<a:DigitalSourceType>{SOURCE_TYPES}humanEdits</a:DigitalSourceType>");
        assert_eq!(source_type(&element), Some("humanEdits"));
        assert_eq!(source_type(SOURCE_TYPES), None);
        assert_eq!(source_type("<x:xmpmeta/>"), None);
    }
}
