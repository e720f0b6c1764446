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
        Compression::Bzip2 => Err(unsupported("bzip2")),
        Compression::Lzo => Err(unsupported("lzo")),
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

/// Packs as gzip, which every distribution's kernel reads.
pub(crate) fn gzip(content: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(content)?;
    encoder.finish()
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
        _ => Error::io("reading the initramfs", error).at(path),
    }
}
