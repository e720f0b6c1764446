//! A line of the extent description: `RW 8192 SPARSE "disk.vmdk" 0` (VDF 1.1, The Extent Descriptions).

use encoding_rs::Encoding;

use super::encoding::{self, Name};
use crate::{Error, Result};

/// One extent of a disk, in the descriptor's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtentLine {
    /// `RW`, `RDONLY` or `NOACCESS`.
    pub access: String,
    /// Sectors of the disk that it covers.
    pub sectors: u64,
    /// `SPARSE`, `FLAT`, `ZERO`, `VMFS`, …, in upper case.
    pub kind: String,
    /// The file, as written.
    pub file: Option<String>,
    /// Where a flat extent begins in its file, in sectors.
    pub offset_sectors: Option<u64>,
    /// The file's name in all that it can mean.
    pub(super) name: Option<Name>,
}

/// Words that begin the line of an extent.
const ACCESS: [&str; 3] = ["RW", "RDONLY", "NOACCESS"];

impl ExtentLine {
    /// None when the line is not one of an extent.
    pub(super) fn parse(line: &[u8], encoding: &'static Encoding) -> Result<Option<Self>> {
        let (access, rest) = next_word(line);
        let Some(access) = ACCESS
            .into_iter()
            .find(|word| access.eq_ignore_ascii_case(word.as_bytes()))
        else {
            return Ok(None);
        };
        let bad = || {
            Error::corrupt(format!(
                "expected ACCESS SECTORS TYPE \"FILE\", found {:?}",
                encoding::decode(line, encoding)
            ))
        };
        let (sectors, rest) = next_word(rest);
        let sectors = number(sectors).ok_or_else(bad)?;
        let (kind, rest) = next_word(rest);
        if kind.is_empty() {
            return Err(bad());
        }
        let quote = |byte: &u8| *byte == b'"';
        let (file, rest) = match (rest.iter().position(quote), rest.iter().rposition(quote)) {
            (Some(open), Some(close)) if open < close => {
                let name = rest.get(open + 1..close).unwrap_or_default();
                (name, rest.get(close + 1..).unwrap_or_default())
            }
            _ => next_word(rest),
        };
        let name = (!file.is_empty()).then(|| Name::new(file, encoding));
        let (offset, _) = next_word(rest);
        let offset_sectors = match offset {
            [] => None,
            word => Some(number(word).ok_or_else(bad)?),
        };
        Ok(Some(Self {
            access: access.to_owned(),
            sectors,
            kind: String::from_utf8_lossy(kind).to_ascii_uppercase(),
            file: name.as_ref().map(|name| name.text().to_owned()),
            offset_sectors,
            name,
        }))
    }
}

fn number(word: &[u8]) -> Option<u64> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// The first word, and what follows it; empty at the end.
fn next_word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = text.trim_ascii_start();
    let end = text
        .iter()
        .position(u8::is_ascii_whitespace)
        .unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use encoding_rs::{SHIFT_JIS, UTF_8};

    use super::*;

    fn parse(line: &[u8]) -> ExtentLine {
        ExtentLine::parse(line, UTF_8).unwrap().unwrap()
    }

    #[test]
    fn every_kind_of_line_is_understood() {
        let line = parse(b"rw 63 flat \"a disk-pt.vmdk\" 17");
        assert_eq!(
            (line.access.as_str(), line.sectors, line.kind.as_str()),
            ("RW", 63, "FLAT")
        );
        assert_eq!(line.file.as_deref(), Some("a disk-pt.vmdk"));
        assert_eq!(line.offset_sectors, Some(17));
        let line = parse(b"RW 100 ZERO");
        assert_eq!((line.file, line.offset_sectors), (None, None));
        let line = parse(b"RDONLY  5\tSPARSE \"say \"hello\".vmdk\"");
        assert_eq!(line.file.as_deref(), Some("say \"hello\".vmdk"));
        assert_eq!(parse(b"RW 5 VMFS bare.vmdk 3").offset_sectors, Some(3));
        assert_eq!(ExtentLine::parse(b"CID=5", UTF_8).unwrap(), None);
        for bad in [
            b"RW".as_slice(),
            b"RW x FLAT",
            b"RW 5",
            b"RW -5 FLAT \"x\"",
            b"RW 5 FLAT \"x\" y",
        ] {
            assert!(ExtentLine::parse(bad, UTF_8).is_err());
        }
    }

    #[test]
    fn names_are_decoded() {
        // The second byte of the katakana SO is a backslash.
        let line = ExtentLine::parse(b"RW 5 FLAT \"\x83\x5c-flat.vmdk\" 0", SHIFT_JIS).unwrap();
        assert_eq!(line.unwrap().file.as_deref(), Some("ソ-flat.vmdk"));
    }
}
