//! Compressions of an initramfs and of modules, by their magic (lib/decompress.c of the kernel).

use std::io::{self, BufRead, Read, Write};

use crate::root::CONFIG_MAX;
use crate::{Error, ErrorKind, Result, Root};

use super::{cpio, lz4};

/// A module, packed or not, is at most this long; the largest GPU drivers are about 10 MiB.
pub(crate) const MODULE_MAX: u64 = 64 << 20;

/// How a part of an initramfs is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Xz,
    Zstd,
    Lz4,
    Lzma,
    Bzip2,
    Lzo,
}

impl Compression {
    /// Its name as people know it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
            Self::Lzma => "lzma",
            Self::Bzip2 => "bzip2",
            Self::Lzo => "lzo",
        }
    }

    /// The kernel's option for reading it (usr/Kconfig).
    pub(crate) fn symbol(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("CONFIG_RD_GZIP"),
            Self::Xz => Some("CONFIG_RD_XZ"),
            Self::Zstd => Some("CONFIG_RD_ZSTD"),
            Self::Lz4 => Some("CONFIG_RD_LZ4"),
            Self::Lzma => Some("CONFIG_RD_LZMA"),
            Self::Bzip2 => Some("CONFIG_RD_BZIP2"),
            Self::Lzo => Some("CONFIG_RD_LZO"),
        }
    }

    /// True when nothing may follow an archive of this kind. An lz4 frame has no end mark, see [`lz4`]; the kernel's
    /// lzma reader may stop some bytes before the end of the stream, and the next magic is then not where it looks.
    pub(crate) fn must_be_last(self) -> bool {
        matches!(self, Self::Lz4 | Self::Lzma)
    }

    /// By the first bytes; `None` when they are of no kind that the kernel knows.
    pub(crate) fn detect(bytes: &[u8]) -> Option<Self> {
        if cpio::is_magic(bytes) {
            return Some(Self::None);
        }
        let magics: [(&[u8], Self); 8] = [
            (&[0x1f, 0x8b], Self::Gzip),
            (&[0x1f, 0x9e], Self::Gzip),
            (&[0xfd, b'7', b'z', b'X', b'Z', 0x00], Self::Xz),
            (&[0x28, 0xb5, 0x2f, 0xfd], Self::Zstd),
            (&lz4::MAGIC, Self::Lz4),
            (&[0x5d, 0x00, 0x00], Self::Lzma),
            (b"BZh", Self::Bzip2),
            (&[0x89, b'L', b'Z', b'O'], Self::Lzo),
        ];
        magics
            .into_iter()
            .find(|(magic, _)| bytes.starts_with(magic))
            .map(|(_, kind)| kind)
    }
}

/// Runs `read` on the unpacked form of what `inner` stands at; `inner` is left behind the packed part.
pub(crate) fn unpack<R: BufRead>(
    kind: Compression,
    inner: &mut R,
    read: &mut dyn FnMut(&mut dyn Read) -> io::Result<()>,
) -> io::Result<()> {
    match kind {
        Compression::None => read(inner),
        Compression::Gzip => drained(&mut flate2::bufread::GzDecoder::new(inner), read),
        Compression::Zstd => drained(
            &mut zstd::stream::read::Decoder::with_buffer(inner)?.single_frame(),
            read,
        ),
        Compression::Xz => drained(&mut lzma_rust2::XzReader::new(inner, false), read),
        Compression::Lzma => drained(
            &mut lzma_rust2::LzmaReader::new_mem_limit(inner, LZMA_KIB_MAX, None)?,
            read,
        ),
        Compression::Lz4 => drained(&mut lz4::Lz4Reader::new(inner), read),
        Compression::Bzip2 => drained(&mut bzip2::bufread::BzDecoder::new(inner), read),
        Compression::Lzo => Err(unsupported(Compression::Lzo.name())),
    }
}

/// Memory that an lzma dictionary may take, in KiB.
const LZMA_KIB_MAX: u32 = 128 << 10;

/// After the reader's own work, the rest is read, so that the packed part is consumed to its last byte.
fn drained(
    decoder: &mut dyn Read,
    read: &mut dyn FnMut(&mut dyn Read) -> io::Result<()>,
) -> io::Result<()> {
    read(decoder)?;
    io::copy(decoder, &mut io::sink()).map(|_| ())
}

fn unsupported(name: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        format!("compressed by {name}, which is not read here"),
    )
}

/// How an archive of ours is packed, and how hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// What takes little time.
    Normal,
    /// As small as it gets.
    Smallest,
}

/// What follows is packed into `to` by `fill`. The kernel's xz reader knows no check but CRC32 (lib/xz/Kconfig and
/// Documentation/staging/xz.rst), its zstd reader no window above 128 MiB (lib/decompress_unzstd.c).
pub(crate) fn pack_to<W: Write>(
    kind: Compression,
    effort: Effort,
    to: W,
    fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> io::Result<W> {
    let smallest = effort == Effort::Smallest;
    match kind {
        Compression::Gzip => {
            let level = flate2::Compression::new(if smallest { 9 } else { 6 });
            let mut encoder = flate2::write::GzEncoder::new(to, level);
            fill(&mut encoder)?;
            encoder.finish()
        }
        Compression::Xz => {
            let mut options = lzma_rust2::XzOptions::with_preset(if smallest { 6 } else { 1 });
            options.set_check_sum_type(lzma_rust2::CheckType::Crc32);
            let mut encoder = lzma_rust2::XzWriter::new(to, options)?;
            fill(&mut encoder)?;
            encoder.finish()
        }
        Compression::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(to, if smallest { 19 } else { 3 })?;
            fill(&mut encoder)?;
            encoder.finish()
        }
        _ => {
            let mut to = to;
            fill(&mut to)?;
            Ok(to)
        }
    }
}

/// Packs a whole archive in memory.
pub(crate) fn pack(kind: Compression, effort: Effort, content: &[u8]) -> io::Result<Vec<u8>> {
    pack_to(kind, effort, Vec::new(), &mut |to| to.write_all(content))
}

/// Reads a module of the guest, unpacked.
pub(crate) fn read_module(root: &Root, path: &str) -> Result<Vec<u8>> {
    let packed = root.read(path, MODULE_MAX)?;
    unpack_module(packed).map_err(|error| Error::io("unpacking the module", error).at(path))
}

/// Unpacks the content of a module's file; one that is not packed is returned as it is.
pub(crate) fn unpack_module(packed: Vec<u8>) -> io::Result<Vec<u8>> {
    let kind = match Compression::detect(&packed) {
        Some(kind @ (Compression::Gzip | Compression::Xz | Compression::Zstd)) => kind,
        _ => return Ok(packed),
    };
    let mut out = Vec::new();
    unpack(kind, &mut packed.as_slice(), &mut |reader| {
        reader.take(MODULE_MAX + 1).read_to_end(&mut out)?;
        if out.len() as u64 > MODULE_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("unpacks to more than {MODULE_MAX} bytes"),
            ));
        }
        Ok(())
    })?;
    Ok(out)
}

/// Reads at most [`CONFIG_MAX`] bytes of an entry of interest.
pub(crate) fn read_small(data: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    data.take(CONFIG_MAX).read_to_end(&mut content)?;
    Ok(content)
}

/// An error of reading an initramfs: what is not supported is told apart from what is broken.
pub(crate) fn initrd_error(path: &str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::Unsupported => {
            Error::new(ErrorKind::Unsupported, error.to_string()).at(path)
        }
        // Not of the operating system: a reader complains of what it reads.
        _ if error.raw_os_error().is_none() => Error::corrupt(error.to_string()).at(path),
        _ => Error::io("reading the initramfs", error).at(path),
    }
}
