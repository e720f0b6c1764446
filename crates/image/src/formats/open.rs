//! Opens an image of any format, by content.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use super::context::Context;
use super::{parallels, qcow1, qcow2, qed, raw, vdi, vhd, vhdx, vmdk};
use crate::{BlockSource, Error, ErrorKind, FileRange, Files, Result};

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
    /// Hyper-V since 2012.
    Vhdx,
    /// Virtual PC and Hyper-V, Azure: VHD, which qemu-img calls vpc.
    Vpc,
    /// VirtualBox.
    Vdi,
    /// Parallels.
    Parallels,
    /// QEMU copy-on-write, version 1.
    Qcow1,
    /// QEMU enhanced disk.
    Qed,
}

/// How an image is opened.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// The format, which overrides detection. Give it wherever it is known: a guest can write any header into its
    /// own raw disk.
    pub format: Option<Format>,
    /// Where the files that the image names are looked for. [`open`] looks beside the image when this is `None`,
    /// [`open_range`] nowhere.
    pub files: Option<Files>,
    /// Identifier or name of the internal snapshot to read instead of the active state (`qemu-img convert -l`).
    pub snapshot: Option<String>,
}

impl OpenOptions {
    /// All defaults but the format.
    pub fn with_format(format: Option<Format>) -> Self {
        Self {
            format,
            ..Self::default()
        }
    }
}

/// Opens the image file at `path`.
pub fn open(path: &Path, options: &OpenOptions) -> Result<Arc<dyn BlockSource>> {
    let mut options = options.clone();
    options.files.get_or_insert_with(|| Files::beside(path));
    open_range(FileRange::open(path)?, &options)
}

/// Opens an image in bytes from anywhere, such as a member of an archive.
pub fn open_range(range: FileRange, options: &OpenOptions) -> Result<Arc<dyn BlockSource>> {
    open_labelled(range, options).map(|(source, _)| source)
}

/// The same, and the labels of the images of the chain, as they were entered.
pub(in crate::formats) fn open_labelled(
    range: FileRange,
    options: &OpenOptions,
) -> Result<(Arc<dyn BlockSource>, Vec<String>)> {
    let files = options.files.clone().unwrap_or_default();
    let mut context = Context::new(files, options.snapshot.clone());
    let source = open_in(range, options.format, &mut context)?;
    Ok((source, context.into_labels()))
}

/// Opens the next image of a chain.
pub(in crate::formats) fn open_in(
    range: FileRange,
    format: Option<Format>,
    context: &mut Context,
) -> Result<Arc<dyn BlockSource>> {
    let range = match format {
        // The bytes as they are, whatever they look like: the guest may have written them.
        Some(Format::Raw) => range,
        _ => unpack(range)?,
    };
    let format = match format {
        Some(format) => format,
        None => Format::probe(&range)?,
    };
    tracing::debug!(file = range.label(), %format, "opening");
    if format != Format::Qcow2 {
        context
            .refuse_snapshot(format.name())
            .map_err(|e| e.in_file(range.label()))?;
    }
    Ok(match format {
        Format::Raw => {
            context.enter(&range)?;
            Arc::new(raw::Reader::open(range)?)
        }
        Format::Qcow2 => Arc::new(qcow2::Reader::open_in(range, context)?),
        Format::Vmdk => Arc::new(vmdk::Reader::open_in(range, context)?),
        Format::Vhdx => Arc::new(vhdx::Reader::open_in(range, context)?),
        Format::Vpc => Arc::new(vhd::Reader::open_in(range, context)?),
        Format::Vdi => Arc::new(vdi::Reader::open_in(range, context)?),
        Format::Parallels => Arc::new(parallels::Reader::open_in(range, context)?),
        Format::Qcow1 => Arc::new(qcow1::Reader::open_in(range, context)?),
        Format::Qed => Arc::new(qed::Reader::open_in(range, context)?),
    })
}

/// What is inside a file that is packed as a whole (gzip, xz, zstd), read in place; any other file as it is.
pub fn unpack(range: FileRange) -> Result<FileRange> {
    match range.packing()? {
        Some(packing) => {
            tracing::debug!(file = range.label(), packing = packing.name(), "indexing");
            range.unpacked(packing)
        }
        None => Ok(range),
    }
}

/// Formats that are known and not read: qemu-img's word, and a name for messages.
const KNOWN: &[(&str, &str)] = &[("dmg", "Apple DMG")];

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
    /// Not a disk image as it is.
    Packed(&'static str),
}

/// Magic bytes at an offset in the first sector. Where the bytes could begin a raw disk, the list is silent: a
/// LUKS header, for one, is what an encrypted disk begins with.
const MAGICS: &[(usize, &[u8], Found)] = &[
    (0, b"QFI\xfb\0\0\0\x01", Found::Readable(Format::Qcow1)),
    (0, b"QFI\xfb", Found::Readable(Format::Qcow2)),
    (0, b"vhdxfile", Found::Readable(Format::Vhdx)),
    (0, VHD_COOKIE, Found::Readable(Format::Vpc)),
    (0x40, b"\x7f\x10\xda\xbe", Found::Readable(Format::Vdi)),
    (0, b"QED\0", Found::Readable(Format::Qed)),
    (0, b"WithoutFreeSpace", Found::Readable(Format::Parallels)),
    (0, b"WithouFreSpacExt", Found::Readable(Format::Parallels)),
    (
        257,
        b"ustar",
        Found::Packed("a tar archive; give it as an OVA (-i ova), or unpack it"),
    ),
    (
        0,
        b"\x1f\x8b\x08",
        Found::Packed("gzip data inside of packed data; unpack it"),
    ),
    (
        0,
        b"\xfd7zXZ\0",
        Found::Packed("xz data inside of packed data; unpack it"),
    ),
    (
        0,
        b"\x28\xb5\x2f\xfd",
        Found::Packed("zstd data inside of packed data; unpack it"),
    ),
    (
        0,
        b"PK\x03\x04",
        Found::Packed("a zip archive; give it as an OVA (-i ova), or unpack it"),
    ),
    // The magic of a bzip2 block, after `BZh` and a digit.
    (4, b"1AY&SY", Found::Packed("bzip2-compressed; unpack it")),
    (
        0,
        b"7z\xbc\xaf\x27\x1c",
        Found::Packed("a 7-Zip archive; unpack it"),
    ),
];

impl Format {
    /// qemu-img's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vhdx => "vhdx",
            Self::Vpc => "vpc",
            Self::Vdi => "vdi",
            Self::Parallels => "parallels",
            Self::Qcow1 => "qcow",
            Self::Qed => "qed",
        }
    }

    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Raw,
        Self::Qcow2,
        Self::Vmdk,
        Self::Vhdx,
        Self::Vpc,
        Self::Vdi,
        Self::Parallels,
        Self::Qcow1,
        Self::Qed,
    ];

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
            Some(Found::Packed(what)) => Err(Error::unsupported(format!(
                "expected a disk image, but the file is {what}"
            ))
            .in_file(range.label())),
            None => match trailer(range)? {
                Some("vpc") => Ok(Self::Vpc),
                Some(word) => Err(refusal(word).in_file(range.label())),
                None => vmdk::refuse_data_file(range).map(|()| Self::Raw),
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
        "disk format {word}, {name}, is not read (those that are: {})",
        words()
    ))
}

/// The words for all formats.
fn words() -> String {
    Format::ALL.map(Format::name).join(", ")
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        // What people write and QEMU does not.
        let word = match word {
            "vhd" => "vpc",
            "qcow1" => "qcow",
            word => word,
        };
        match Self::ALL.into_iter().find(|format| format.name() == word) {
            Some(format) => Ok(format),
            None if KNOWN.iter().any(|(known, _)| *known == word) => Err(refusal(word)),
            None => Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "expected one of the disk formats {}, found {word:?}",
                    words()
                ),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Bytes to put at offsets.
    type Patches<'a> = &'a [(usize, &'a [u8])];

    fn probe(bytes: &[u8]) -> Result<Format> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        Format::probe(&FileRange::open(file.path()).unwrap())
    }

    fn disk(patches: Patches) -> Vec<u8> {
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
    fn every_magic_means_its_format() {
        let footer: &[u8] = b"conectix\0\0\0\x02\0\x01\0\0";
        let cases: &[(Patches, Format)] = &[
            (&[(0, b"QFI\xfb\0\0\0\x01")], Format::Qcow1),
            (&[(0, b"vhdxfile")], Format::Vhdx),
            (&[(0, footer)], Format::Vpc),
            (&[(4096 - 512, footer)], Format::Vpc),
            (&[(4096 - 511, footer)], Format::Vpc),
            (&[(0x40, b"\x7f\x10\xda\xbe")], Format::Vdi),
            (&[(0, b"QED\0")], Format::Qed),
            (&[(0, b"WithoutFreeSpace")], Format::Parallels),
            (&[(0, b"WithouFreSpacExt")], Format::Parallels),
        ];
        for (patches, format) in cases {
            assert_eq!(probe(&disk(patches)).unwrap(), *format);
        }
    }

    #[test]
    fn other_formats_are_refused_by_name() {
        let cases: &[(&[u8], &str)] = &[
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
        for format in Format::ALL {
            assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
        }
        assert_eq!("vhd".parse::<Format>().unwrap(), Format::Vpc);
        assert_eq!(
            "dmg".parse::<Format>().unwrap_err().kind(),
            ErrorKind::Unsupported
        );
        assert_eq!(
            "floppy".parse::<Format>().unwrap_err().kind(),
            ErrorKind::Usage
        );
    }
}
