//! What every disk image must bear: open, walk, read here and there, twice.

use std::path::Path;
use std::sync::Arc;

use image::formats::{self, Format, OpenOptions};
use image::{BlockSource, FileRange, Files, Neighbours, Unpack};
use types::CancelToken;

/// Extents that are walked. A damaged table may describe an endless patchwork, which is no hang.
const MAX_EXTENTS: usize = 2000;
/// Data extents whose beginning is read.
const MAX_READS: usize = 16;
/// Bytes of a read.
const READ_SIZE: usize = 70_000;

/// Opens the bytes as an image that needs no other file, and uses it.
pub(crate) fn exercise(format: Format, data: &[u8]) {
    open(format, data.to_vec(), Files::none());
}

/// The same where every file that the image names holds what follows the first zero byte.
pub(crate) fn exercise_with_files(format: Format, data: &[u8]) {
    let end = data
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(data.len());
    let (head, rest) = data.split_at(end);
    let rest = rest.get(1..).unwrap_or_default().to_vec();
    open(format, head.to_vec(), Files::of(Arc::new(Everywhere(rest))));
}

/// Longest stream that is unpacked.
const MAX_UNPACKED: u64 = 4 << 20;

/// Opens a packed file by its magic and reads it here and there.
pub(crate) fn unpack(data: &[u8]) {
    let range = FileRange::from_store(Arc::new(data.to_vec()), "fuzz");
    let Ok(Some(packing)) = range.packing() else {
        return;
    };
    let how = Unpack {
        max_len: MAX_UNPACKED,
        ..Unpack::new(packing)
    };
    let Ok(unpacked) = range.unpacked_by(&how) else {
        return;
    };
    assert!(unpacked.len() <= MAX_UNPACKED, "longer than allowed");
    let options = OpenOptions::with_format(Some(Format::Raw));
    // What went through the index pass, with its checksums, must read again.
    if let Ok(disk) = formats::open_range(unpacked, &options) {
        let size = disk.virtual_size();
        walk(disk.as_ref(), size);
        for offset in [size.saturating_sub(1000), size / 2, 0] {
            assert!(read_twice(disk.as_ref(), offset, size).is_some());
        }
    }
}

/// Every name is this file.
#[derive(Debug)]
struct Everywhere(Vec<u8>);

impl Neighbours for Everywhere {
    fn open(&self, _child: &str, name: &Path) -> image::Result<Option<FileRange>> {
        let label = name.display().to_string();
        Ok(Some(FileRange::from_store(Arc::new(self.0.clone()), label)))
    }
}

fn open(format: Format, data: Vec<u8>, files: Files) {
    let range = FileRange::from_store(Arc::new(data), "fuzz");
    let options = OpenOptions {
        format: Some(format),
        files: Some(files),
        snapshot: None,
    };
    let Ok(source) = formats::open_range(range, &options) else {
        return;
    };
    let disk = source.as_ref();
    let size = disk.virtual_size();
    let _ = disk.info();
    assert!(disk.logical_sector_size().is_power_of_two());
    assert!(disk.read_granularity().is_power_of_two());
    walk(disk, size);
    for offset in [0, size / 2, size.saturating_sub(1000)] {
        read_twice(disk, offset, size);
    }
    let _ = disk.check_metadata(&CancelToken::new());
    let mut byte = [0];
    assert!(
        disk.read_at(&mut byte, size).is_err(),
        "a byte past the end was read"
    );
}

/// Walks the extents from the beginning.
fn walk(disk: &dyn BlockSource, size: u64) {
    let (mut offset, mut reads) = (0, 0);
    for _ in 0..MAX_EXTENTS {
        if offset >= size {
            assert_eq!(offset, size, "the extents end after the disk");
            return;
        }
        let Ok(extent) = disk.extent_at(offset, size - offset) else {
            return;
        };
        assert_eq!(extent.offset, offset, "an extent begins elsewhere");
        assert!(
            extent.len > 0 && extent.len <= size - offset,
            "an extent of {} bytes",
            extent.len
        );
        if reads < MAX_READS {
            reads += 1;
            let read = read_twice(disk, offset, offset + extent.len);
            let zero = read.is_none_or(|bytes| bytes.iter().all(|&byte| byte == 0));
            assert!(
                zero || !extent.kind.reads_zero(),
                "an extent that is zero holds data"
            );
        }
        offset += extent.len;
    }
}

/// Reads from `offset`, at most to `end`, in one piece and in two, which must agree.
fn read_twice(disk: &dyn BlockSource, offset: u64, end: u64) -> Option<Vec<u8>> {
    let len =
        usize::try_from(end.saturating_sub(offset)).map_or(READ_SIZE, |len| len.min(READ_SIZE));
    let mut whole = vec![0xaa; len];
    disk.read_at(&mut whole, offset).ok()?;
    let mut pieces = vec![0x55; len];
    let (first, second) = pieces.split_at_mut(len / 3);
    let middle = offset + first.len() as u64;
    let again = disk
        .read_at(second, middle)
        .and_then(|()| disk.read_at(first, offset));
    assert!(again.is_ok(), "a part of what was read cannot be read");
    assert!(whole == pieces, "the same bytes read differently");
    Some(whole)
}
