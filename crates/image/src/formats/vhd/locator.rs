//! What the parent of a differencing disk is called.
//!
//! VHD 1.0, Parent Locator Entries: `W2ru` and `W2ku` are Unicode path names, relative and absolute; `Wi2r` and
//! `Wi2k` are deprecated and in the code page of the system; `MacX` is a file URL in UTF-8; `Mac ` is a Macintosh
//! alias, of which no name can be had. The header has the parent's name besides, as UTF-16 in big-endian order. The
//! paths of locators are little-endian in what Windows writes, but neither order is sure in real files.

use super::header::Header;
use crate::{ErrorKind, FileRange, Result};

/// Platform codes, the most telling first.
const PLATFORMS: [(&[u8; 4], Coding); 5] = [
    (b"W2ru", Coding::Utf16Little),
    (b"W2ku", Coding::Utf16Little),
    (b"Wi2r", Coding::Bytes),
    (b"Wi2k", Coding::Bytes),
    (b"MacX", Coding::Url),
];

/// How a name is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    /// UTF-16, little-endian unless the bytes say otherwise.
    Utf16Little,
    /// UTF-16, big-endian unless the bytes say otherwise.
    Utf16Big,
    /// The code page of the system that wrote it; only ASCII is sure.
    Bytes,
    /// `file://…` with percent signs.
    Url,
}

/// All names of the parent, the most telling first, without repetitions.
pub(super) fn parent_names(range: &FileRange, header: &Header) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    let mut add = |name: Option<String>| {
        if let Some(name) = name
            && !names.contains(&name)
        {
            names.push(name);
        }
    };
    for (platform, coding) in PLATFORMS {
        for entry in header.locators.iter().filter(|l| l.platform == *platform) {
            match range.read_vec(entry.offset, entry.len) {
                Ok(bytes) => add(decode(&bytes, coding)),
                // A locator past the end of the file names nothing; another may.
                Err(error) if error.kind() == ErrorKind::Truncated => {}
                Err(error) => return Err(error),
            }
        }
    }
    add(decode(&header.parent_name, Coding::Utf16Big));
    Ok(names)
}

/// The text up to the first zero; `None` when there is none.
fn decode(bytes: &[u8], coding: Coding) -> Option<String> {
    let text = match coding {
        Coding::Utf16Little => utf16(bytes, false),
        Coding::Utf16Big => utf16(bytes, true),
        Coding::Bytes => String::from_utf8_lossy(bytes).into_owned(),
        Coding::Url => url_path(&String::from_utf8_lossy(bytes)),
    };
    let text = text.split('\0').next().unwrap_or_default().trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Decodes in the order that makes more of the text ASCII; a byte order mark decides before that, and on a draw the
/// order that the writer should have used.
fn utf16(bytes: &[u8], expect_big: bool) -> String {
    let (pairs, _) = bytes.as_chunks::<2>();
    let is_ascii = |unit: u16| (0x20..0x7f).contains(&unit);
    let ascii =
        |decode: fn([u8; 2]) -> u16| pairs.iter().filter(|pair| is_ascii(decode(**pair))).count();
    let (little, big) = (ascii(u16::from_le_bytes), ascii(u16::from_be_bytes));
    let is_big = match pairs.first() {
        Some([0xfe, 0xff]) => true,
        Some([0xff, 0xfe]) => false,
        _ if little == big => expect_big,
        _ => big > little,
    };
    let units = pairs.iter().map(|pair| {
        if is_big {
            u16::from_be_bytes(*pair)
        } else {
            u16::from_le_bytes(*pair)
        }
    });
    let text: String = char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    text.trim_start_matches('\u{feff}').to_owned()
}

/// The path of a file URL (RFC 1738, 3.10), percent signs decoded.
fn url_path(url: &str) -> String {
    let rest = url.strip_prefix("file://").unwrap_or(url);
    // What comes before the first slash is the host.
    let path = rest.find('/').map_or(rest, |slash| &rest[slash..]);
    let mut bytes = Vec::with_capacity(path.len());
    let mut left = path.as_bytes();
    while let Some((first, rest)) = left.split_first() {
        let coded = (*first == b'%')
            .then(|| rest.get(..2))
            .flatten()
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match coded {
            Some(byte) => {
                bytes.push(byte);
                left = &rest[2..];
            }
            None => {
                bytes.push(*first);
                left = rest;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str, big: bool) -> Vec<u8> {
        text.encode_utf16()
            .flat_map(|unit| {
                if big {
                    unit.to_be_bytes()
                } else {
                    unit.to_le_bytes()
                }
            })
            .collect()
    }

    #[test]
    fn either_byte_order_is_read() {
        for text in [r".\fat-parent.vhd", r"D:\Größe\父.vhd"] {
            for big in [false, true] {
                for coding in [Coding::Utf16Little, Coding::Utf16Big] {
                    assert_eq!(decode(&bytes(text, big), coding).unwrap(), text);
                }
                let marked = bytes(&format!("\u{feff}{text}\0\0rest"), big);
                assert_eq!(decode(&marked, Coding::Utf16Big).unwrap(), text);
            }
        }
        assert_eq!(decode(&bytes("父", true), Coding::Utf16Big).unwrap(), "父");
        assert_eq!(decode(&[0; 512], Coding::Utf16Big), None);
        assert_eq!(decode(&[], Coding::Utf16Little), None);
    }

    #[test]
    fn urls_and_bytes_are_read() {
        for (url, path) in [
            (
                "file://localhost/Users/me/base%20disk.vhd",
                "/Users/me/base disk.vhd",
            ),
            ("file:///base.vhd\0\0", "/base.vhd"),
            ("/base%zz.vhd%4", "/base%zz.vhd%4"),
            ("file:///%", "/%"),
        ] {
            assert_eq!(decode(url.as_bytes(), Coding::Url).unwrap(), path);
        }
        assert_eq!(decode(b".\\a.vhd\0\0", Coding::Bytes).unwrap(), r".\a.vhd");
    }
}
