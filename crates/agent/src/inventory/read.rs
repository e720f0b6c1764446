//! Bytes of a disk, read-only.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use types::Guid;

/// Something of a known length that can be read anywhere.
pub(crate) trait ReadAt {
    /// Bytes.
    fn len(&self) -> u64;
    /// Fills `buf` from a byte offset.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// `len` bytes at `offset`; `None` where that is not inside.
    fn get(&self, offset: u64, len: usize) -> io::Result<Option<Vec<u8>>> {
        let end = u64::try_from(len)
            .ok()
            .and_then(|len| offset.checked_add(len));
        if end.is_none_or(|end| end > self.len()) {
            return Ok(None);
        }
        let mut buf = vec![0; len];
        self.read_at(offset, &mut buf)?;
        Ok(Some(buf))
    }
}

/// A block device or a file.
#[derive(Debug)]
pub(crate) struct Device {
    file: File,
    len: u64,
}

impl Device {
    /// Opens it for reading; its size is the kernel's.
    pub(crate) fn open(path: &Path, len: u64) -> io::Result<Self> {
        Ok(Self {
            file: File::open(path)?,
            len,
        })
    }
}

impl ReadAt for Device {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }
}

/// A stretch of something, e.g. a partition. What reaches past the end is cut off.
pub(crate) struct Window<'a> {
    base: &'a dyn ReadAt,
    offset: u64,
    len: u64,
}

impl<'a> Window<'a> {
    pub(crate) fn new(base: &'a dyn ReadAt, offset: u64, len: u64) -> Self {
        let room = base.len().saturating_sub(offset);
        Self {
            base,
            offset,
            len: len.min(room),
        }
    }
}

impl ReadAt for Window<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let offset = self
            .offset
            .checked_add(offset)
            .ok_or(io::ErrorKind::InvalidInput)?;
        self.base.read_at(offset, buf)
    }
}

/// Little-endian and big-endian numbers at an offset; `None` past the end.
pub(crate) mod le {
    pub(crate) fn slice(data: &[u8], offset: usize, len: usize) -> Option<&[u8]> {
        data.get(offset..offset.checked_add(len)?)
    }

    fn array<const N: usize>(data: &[u8], offset: usize) -> Option<[u8; N]> {
        slice(data, offset, N)?.try_into().ok()
    }

    pub(crate) fn u16(data: &[u8], offset: usize) -> Option<u16> {
        array(data, offset).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(data: &[u8], offset: usize) -> Option<u32> {
        array(data, offset).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(data: &[u8], offset: usize) -> Option<u64> {
        array(data, offset).map(u64::from_le_bytes)
    }

    pub(crate) fn u32_be(data: &[u8], offset: usize) -> Option<u32> {
        array(data, offset).map(u32::from_be_bytes)
    }
}

/// A UUID in the order of its bytes (RFC 9562).
pub(crate) fn uuid(bytes: &[u8]) -> Option<String> {
    let bytes: [u8; 16] = bytes.try_into().ok()?;
    if bytes == [0; 16] {
        return None;
    }
    let hex = data_encoding::HEXLOWER.encode(&bytes);
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    Some(
        [
            part(0, 8),
            part(8, 12),
            part(12, 16),
            part(16, 20),
            part(20, 32),
        ]
        .join("-"),
    )
}

/// A GUID that is not all zero.
pub(crate) fn guid(bytes: &[u8]) -> Option<String> {
    let guid = Guid(bytes.try_into().ok()?);
    (guid != Guid::NIL).then(|| guid.to_string())
}

#[cfg(test)]
impl ReadAt for Vec<u8> {
    fn len(&self) -> u64 {
        u64::try_from(self.as_slice().len()).unwrap()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        buf.copy_from_slice(&self[start..start + buf.len()]);
        Ok(())
    }
}
