//! Texts with keywords in EXIF: a JSON object in ASCII, so that no reader has to guess an encoding. It is
//! the comment of the user (tag 0x9286), or where that is the text of AUTOMATIC1111's web UI, the note of
//! the maker (tag 0x927c).

use std::io::Cursor;

use exif::experimental::Writer;
use exif::{Context, Field, In, Reader, Tag, Value};
use serde::{Deserialize, Serialize};

use super::parameters::PARAMETERS;
use crate::support::json::InOrder;

/// Bytes of all texts of an image together, unpacked.
pub(super) const LARGEST_TEXTS: usize = 4 << 20;

/// What a comment of this character code begins with.
const ASCII: &[u8; 8] = b"ASCII\0\0\0";
const UNICODE: &[u8; 8] = b"UNICODE\0";

/// What the note of the maker begins with where it is ours.
const MAKER: &[u8; 5] = b"sana\0";

/// The keyword of a comment that is no object of texts: another program wrote it.
const COMMENT: &str = "UserComment";

/// The texts of a keyword: several where it occurs several times.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Several(Vec<String>),
}

/// EXIF that holds the texts, without the `Exif` that JPEG has before it. `parameters` becomes the
/// comment as the web UI writes it: in UTF-16, most significant byte first.
pub(super) fn with_texts(texts: &[(&str, &str)], parameters: Option<&str>) -> Vec<u8> {
    let own = json(texts);
    let (note, comment) = match parameters {
        Some(parameters) => {
            let units = parameters.encode_utf16().flat_map(u16::to_be_bytes);
            let comment: Vec<u8> = UNICODE.iter().copied().chain(units).collect();
            (Some([MAKER.as_slice(), &own].concat()), comment)
        }
        None => (None, [ASCII.as_slice(), &own].concat()),
    };
    let field = |tag, value| Field {
        tag,
        ifd_num: In::PRIMARY,
        value: Value::Undefined(value, 0),
    };
    let note = note.map(|note| field(Tag::MakerNote, note));
    let comment = field(Tag::UserComment, comment);
    let mut writer = Writer::new();
    note.iter().for_each(|note| writer.push_field(note));
    writer.push_field(&comment);
    let mut file = Cursor::new(Vec::new());
    // It is written to memory: that cannot fail.
    let _ = writer.write(&mut file, true);
    file.into_inner()
}

/// Texts as a JSON object in ASCII.
fn json(texts: &[(&str, &str)]) -> Vec<u8> {
    let mut object: Vec<(String, Vec<String>)> = Vec::new();
    for (keyword, text) in texts {
        match object.iter_mut().find(|(known, _)| known == keyword) {
            Some((_, all)) => all.push((*text).to_owned()),
            None => object.push(((*keyword).to_owned(), vec![(*text).to_owned()])),
        }
    }
    let object = object.into_iter().map(|(keyword, mut texts)| {
        let texts = match texts.len() {
            1 => Texts::One(texts.remove(0)),
            _ => Texts::Several(texts),
        };
        (keyword, texts)
    });
    // Strings are written to memory: that cannot fail.
    let json = serde_json::to_string(&InOrder(object.collect())).unwrap_or_default();
    let mut ascii = Vec::new();
    for c in json.chars() {
        if c.is_ascii() {
            ascii.push(c as u8);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            ascii.extend(format!("\\u{unit:04x}").bytes());
        }
    }
    ascii
}

/// The texts of a JSON object.
fn object(json: &str) -> Option<Vec<(String, String)>> {
    let InOrder(object) = serde_json::from_str(json).ok()?;
    let texts = object.into_iter().flat_map(|(keyword, texts)| {
        let texts = match texts {
            Texts::One(text) => vec![text],
            Texts::Several(texts) => texts,
        };
        texts.into_iter().map(move |text| (keyword.clone(), text))
    });
    Some(texts.collect())
}

/// The texts in EXIF; none where it cannot be read, as pixels are read all the same then.
pub(super) fn texts(mut metadata: Vec<u8>) -> Vec<(String, String)> {
    // Some programs write into WebP what belongs to JPEG.
    if metadata.starts_with(b"Exif\0\0") {
        metadata.drain(..6);
    }
    let mut reader = Reader::new();
    reader.continue_on_error(true);
    let read = reader.read_raw(metadata);
    let Ok(read) = read.or_else(|error| error.distill_partial_result(|_| {})) else {
        return Vec::new();
    };
    let bytes = |tag: Tag| {
        let tag = Tag(Context::Exif, tag.number());
        match read.get_field(tag, In::PRIMARY).map(|field| &field.value) {
            Some(Value::Undefined(bytes, _)) => Some(bytes.as_slice()),
            _ => None,
        }
    };
    let note = bytes(Tag::MakerNote).and_then(|note| note.strip_prefix(MAKER));
    let note = note.filter(|note| note.len() <= LARGEST_TEXTS);
    let own = note.and_then(|note| object(str::from_utf8(note).ok()?));
    let comment = bytes(Tag::UserComment).and_then(decoded);
    let comment = comment.filter(|comment| !comment.is_empty());
    match (own, comment) {
        (Some(mut texts), comment) => {
            texts.extend(comment.map(|comment| (PARAMETERS.to_owned(), comment)));
            texts
        }
        (None, Some(comment)) => match object(&comment) {
            Some(texts) if !texts.is_empty() => texts,
            _ => vec![(COMMENT.to_owned(), comment)],
        },
        (None, None) => Vec::new(),
    }
}

/// The text of a comment, by its character code.
fn decoded(comment: &[u8]) -> Option<String> {
    let (code, text) = comment.split_first_chunk::<8>()?;
    if text.len() > LARGEST_TEXTS {
        return None;
    }
    let text = match code {
        UNICODE => {
            let units = |order: fn([u8; 2]) -> u16| -> Vec<u16> {
                let units = text.chunks_exact(2);
                units.map(|unit| order([unit[0], unit[1]])).collect()
            };
            // Its order of bytes is not said: that of the text with more of ASCII.
            let [little, big] = [units(u16::from_le_bytes), units(u16::from_be_bytes)];
            let ascii = |units: &[u16]| units.iter().filter(|unit| **unit < 128).count();
            let units = match ascii(&little) >= ascii(&big) {
                true => little,
                false => big,
            };
            String::from_utf16_lossy(&units)
        }
        _ => String::from_utf8_lossy(text).into_owned(),
    };
    Some(text.trim_end_matches(['\0', ' ']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EXIF as other programs write it: this comment, after other tags.
    fn foreign(comment: &[u8]) -> Vec<u8> {
        let fields = [
            (Tag::ImageDescription, Value::Ascii(vec![b"a cat".to_vec()])),
            (Tag::Orientation, Value::Short(vec![6])),
            (Tag::UserComment, Value::Undefined(comment.to_vec(), 0)),
        ];
        let fields = fields.map(|(tag, value)| Field {
            tag,
            ifd_num: In::PRIMARY,
            value,
        });
        let mut writer = Writer::new();
        fields.iter().for_each(|field| writer.push_field(field));
        let mut file = Cursor::new(Vec::new());
        writer.write(&mut file, false).unwrap();
        file.into_inner()
    }

    #[test]
    fn texts_survive() {
        let texts_in = [
            ("prompt", "ein grüner Kreis, 红色方块 🙂\n\"two\" lines"),
            ("lora", "one:1"),
            ("seed", "7"),
            ("lora", "two:0.5"),
            ("empty", ""),
        ];
        let file = with_texts(&texts_in, None);
        let code = file.windows(8).position(|code| code == ASCII).unwrap();
        assert!(file[code..].is_ascii());
        let expected = [0, 1, 3, 2, 4].map(|index| {
            let (keyword, text) = texts_in[index];
            (keyword.to_owned(), text.to_owned())
        });
        assert_eq!(texts(file.clone()), expected);
        assert_eq!(texts([b"Exif\0\0", file.as_slice()].concat()), expected);

        // The comment as piexif.helper.UserComment.dump writes it, by which the web UI does.
        let parameters = "ein grüner Kreis 🙂\nSteps: 20, Sampler: Euler, Seed: 7";
        let file = with_texts(&texts_in, Some(parameters));
        let units = parameters.encode_utf16().flat_map(u16::to_be_bytes);
        let comment: Vec<u8> = b"UNICODE\0".iter().copied().chain(units).collect();
        let found = file.windows(comment.len()).any(|part| part == comment);
        assert!(found, "{file:?}");
        let parameters = (PARAMETERS.to_owned(), parameters.to_owned());
        let expected: Vec<_> = expected.into_iter().chain([parameters.clone()]).collect();
        assert_eq!(texts(file), expected);
        assert_eq!(texts(with_texts(&[], Some(&parameters.1))), [parameters]);
    }

    #[test]
    fn comments_of_other_programs() {
        let read = |comment: &[u8]| texts(foreign(comment));
        let comment = |text: &str| vec![(COMMENT.to_owned(), text.to_owned())];
        assert_eq!(read(b"ASCII\0\0\0a cat\0"), comment("a cat"));
        assert_eq!(read(b"\0\0\0\0\0\0\0\0a cat"), comment("a cat"));
        for order in [u16::to_le_bytes, u16::to_be_bytes] {
            let units = "ein grüner Kreis".encode_utf16().flat_map(order);
            let units: Vec<u8> = UNICODE.iter().copied().chain(units).collect();
            assert_eq!(read(&units), comment("ein grüner Kreis"));
        }
        assert_eq!(read(b"ASCII\0\0\0{}"), comment("{}"));
        assert_eq!(read(b"ASCII\0\0\0{\"a\": 1}"), comment("{\"a\": 1}"));
        assert_eq!(read(b"ASCII\0\0\0"), []);
        assert_eq!(read(b"ASCII"), []);
    }

    #[test]
    fn exif_that_cannot_be_read() {
        let whole = with_texts(&[("prompt", "a cat")], Some("a cat"));
        for length in 0..whole.len() {
            texts(whole[..length].to_vec());
        }
        for index in 0..60 {
            for value in [0, 1, 0x7f, 0xff] {
                let mut file = whole.clone();
                file[index] = value;
                texts(file);
            }
        }
        assert_eq!(texts(b"no EXIF at all".to_vec()), []);
    }
}
