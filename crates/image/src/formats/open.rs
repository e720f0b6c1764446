//! Opens an image of any format, by content.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use super::{qcow2, raw, vmdk};
use crate::{BlockSource, Error, ErrorKind, FileRange, Result};

/// A format that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// Bytes as they are.
    Raw,
    /// QEMU copy-on-write, versions 2 and 3.
    Qcow2,
    /// VMware.
    Vmdk,
}

/// Opens the image file at `path`; `format` overrides detection.
///
/// Give the format wherever it is known: a guest can write any header into its own raw disk.
pub fn open(path: &Path, format: Option<Format>) -> Result<Arc<dyn BlockSource>> {
    open_range(FileRange::open(path)?, format)
}

/// Opens an image that is part of a larger file; see [`open`].
pub fn open_range(range: FileRange, format: Option<Format>) -> Result<Arc<dyn BlockSource>> {
    let format = match format {
        Some(format) => format,
        None => Format::probe(&range)?,
    };
    tracing::debug!(file = range.label(), %format, "opening");
    Ok(match format {
        Format::Raw => Arc::new(raw::Reader::open(range)?),
        Format::Qcow2 => Arc::new(qcow2::Reader::open(range)?),
        Format::Vmdk => Arc::new(vmdk::Reader::open(range)?),
    })
}

/// Formats that are known and not read: qemu-img's word, and a name for messages.
const KNOWN: &[(&str, &str)] = &[
    ("vhdx", "VHDX (Hyper-V)"),
    ("vpc", "VHD (Virtual PC, Hyper-V)"),
    ("vdi", "VDI (VirtualBox)"),
    ("qcow", "QCOW version 1"),
    ("qed", "QED"),
    ("parallels", "Parallels"),
    ("dmg", "Apple DMG"),
];

/// A VHD begins (dynamic) or ends (all) with a footer of 512 bytes; Virtual PC before 2004 wrote 511.
/// Microsoft, *Virtual Hard Disk Image Format Specification* 1.0, Hard Disk Footer Format.
const VHD_COOKIE: &[u8] = b"conectix";
const VHD_FOOTER_LENS: [u64; 2] = [512, 511];
/// `File Format Version` of a VHD footer, big-endian 1.0, at offset 12: nobody ends a raw disk like this by chance.
const VHD_VERSION: (usize, &[u8]) = (12, &[0, 1, 0, 0]);
/// Trailer of an Apple disk image.
const DMG_COOKIE: &[u8] = b"koly";

/// What the first bytes of a file say.
enum Found {
    Readable(Format),
    /// A format of [`KNOWN`].
    Known(&'static str),
    /// Not a disk image as it is.
    Packed(&'static str),
}

/// Magic bytes at an offset in the first sector. Where the bytes could begin a raw disk, the list is silent: a
/// LUKS header, for one, is what an encrypted disk begins with.
const MAGICS: &[(usize, &[u8], Found)] = &[
    (0, b"QFI\xfb\0\0\0\x01", Found::Known("qcow")),
    (0, b"QFI\xfb", Found::Readable(Format::Qcow2)),
    (0, b"vhdxfile", Found::Known("vhdx")),
    (0, VHD_COOKIE, Found::Known("vpc")),
    (0x40, b"\x7f\x10\xda\xbe", Found::Known("vdi")),
    (0, b"QED\0", Found::Known("qed")),
    (0, b"WithoutFreeSpace", Found::Known("parallels")),
    (0, b"WithouFreSpacExt", Found::Known("parallels")),
    (
        257,
        b"ustar",
        Found::Packed("a tar archive; give it as an OVA (-i ova), or unpack it"),
    ),
    (
        0,
        b"\x1f\x8b\x08",
        Found::Packed("gzip-compressed; unpack it"),
    ),
    (0, b"\xfd7zXZ\0", Found::Packed("xz-compressed; unpack it")),
    (
        0,
        b"\x28\xb5\x2f\xfd",
        Found::Packed("zstd-compressed; unpack it"),
    ),
    (0, b"PK\x03\x04", Found::Packed("a zip archive; unpack it")),
];

impl Format {
    /// qemu-img's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
        }
    }

    /// The format by content. A format that is known and not read is an error that names it; what is nothing known
    /// is raw.
    pub fn probe(range: &FileRange) -> Result<Self> {
        let head_len = usize::try_from(range.len().min(512)).unwrap_or(0);
        let head = range.read_vec(0, head_len)?;
        if vmdk::Signature::of(&head).is_some() {
            return Ok(Self::Vmdk);
        }
        let matches =
            |at: usize, magic: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(magic));
        let found = MAGICS.iter().find(|(at, magic, _)| matches(*at, magic));
        match found.map(|(_, _, found)| found) {
            Some(Found::Readable(format)) => Ok(*format),
            Some(Found::Known(word)) => Err(refusal(word).in_file(range.label())),
            Some(Found::Packed(what)) => Err(Error::unsupported(format!(
                "expected a disk image, but the file is {what}"
            ))
            .in_file(range.label())),
            None => match trailer(range)? {
                Some(word) => Err(refusal(word).in_file(range.label())),
                None => Ok(Self::Raw),
            },
        }
    }
}

/// The format that the end of the file speaks of.
fn trailer(range: &FileRange) -> Result<Option<&'static str>> {
    for len in VHD_FOOTER_LENS {
        let Some(start) = range.len().checked_sub(len) else {
            continue;
        };
        let mut bytes = [0; 16];
        range.read_exact_at(&mut bytes, start)?;
        let (at, version) = VHD_VERSION;
        if bytes.starts_with(VHD_COOKIE) && bytes.get(at..) == Some(version) {
            return Ok(Some("vpc"));
        }
        if bytes.starts_with(DMG_COOKIE) && len == 512 {
            return Ok(Some("dmg"));
        }
    }
    Ok(None)
}

fn refusal(word: &str) -> Error {
    let name = KNOWN
        .iter()
        .find(|(known, _)| *known == word)
        .map_or(word, |(_, name)| name);
    Error::unsupported(format!(
        "disk format {word}, {name}, is not read yet (raw, qcow2 and vmdk are)"
    ))
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        let all = [Self::Raw, Self::Qcow2, Self::Vmdk];
        match all.into_iter().find(|format| format.name() == word) {
            Some(format) => Ok(format),
            None if KNOWN.iter().any(|(known, _)| *known == word) => Err(refusal(word)),
            None => Err(Error::new(
                ErrorKind::Usage,
                format!("expected a disk format raw, qcow2 or vmdk, found {word:?}"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn probe(bytes: &[u8]) -> Result<Format> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        Format::probe(&FileRange::open(file.path()).unwrap())
    }

    fn disk(patches: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0x5a; 4096];
        for (at, patch) in patches {
            bytes[*at..at + patch.len()].copy_from_slice(patch);
        }
        bytes
    }

    #[test]
    fn readable_formats_are_told_by_content() {
        assert_eq!(probe(&disk(&[])).unwrap(), Format::Raw);
        assert_eq!(probe(b"").unwrap(), Format::Raw);
        assert_eq!(probe(b"MZ").unwrap(), Format::Raw);
        assert_eq!(
            probe(&disk(&[(0, b"QFI\xfb\0\0\0\x03")])).unwrap(),
            Format::Qcow2
        );
        assert_eq!(probe(&disk(&[(0, b"KDMV")])).unwrap(), Format::Vmdk);
        assert_eq!(probe(&disk(&[(0, b"COWD")])).unwrap(), Format::Vmdk);
        assert_eq!(
            probe(b"# Disk DescriptorFile\nversion=1\n").unwrap(),
            Format::Vmdk
        );
        assert_eq!(
            probe(b"\xef\xbb\xbf# disk descriptorFile\r\n").unwrap(),
            Format::Vmdk
        );
        assert_eq!(
            probe(&disk(&[(0, b"LUKS\xba\xbe")])).unwrap(),
            Format::Raw,
            "an encrypted disk is a raw disk"
        );
        assert_eq!(
            probe(&disk(&[(4096 - 512, b"conectix")])).unwrap(),
            Format::Raw,
            "a word alone is no footer"
        );
    }

    #[test]
    fn other_formats_are_refused_by_name() {
        let footer: &[u8] = b"conectix\0\0\0\x02\0\x01\0\0";
        let cases: &[(&[u8], &str)] = &[
            (&disk(&[(0, b"QFI\xfb\0\0\0\x01")]), "qcow, QCOW version 1"),
            (&disk(&[(0, b"vhdxfile")]), "vhdx"),
            (&disk(&[(0, footer)]), "vpc"),
            (&disk(&[(4096 - 512, footer)]), "vpc"),
            (&disk(&[(4096 - 511, footer)]), "vpc"),
            (
                &disk(&[
                    (0, b"<<< Oracle VM VirtualBox Disk Image >>>\n"),
                    (0x40, b"\x7f\x10\xda\xbe"),
                ]),
                "vdi",
            ),
            (&disk(&[(0, b"QED\0")]), "qed"),
            (&disk(&[(0, b"WithoutFreeSpace")]), "parallels"),
            (&disk(&[(4096 - 512, b"koly")]), "dmg"),
            (&disk(&[(257, b"ustar")]), "-i ova"),
            (&disk(&[(0, b"\x1f\x8b\x08")]), "gzip"),
        ];
        for (bytes, text) in cases {
            let error = probe(bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains(text), "{error} lacks {text}");
        }
    }

    #[test]
    fn words_are_those_of_qemu_img() {
        for format in [Format::Raw, Format::Qcow2, Format::Vmdk] {
            assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
        }
        assert_eq!(
            "vpc".parse::<Format>().unwrap_err().kind(),
            ErrorKind::Unsupported
        );
        assert_eq!(
            "floppy".parse::<Format>().unwrap_err().kind(),
            ErrorKind::Usage
        );
    }
}
