//! Holes of a file on the host, found with `SEEK_DATA` and `SEEK_HOLE` (lseek(2)) instead of reading it.

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::FileRange;

/// The run of the file that starts at `offset` of `range`: true for data, false for a hole, and its length, from
/// 1 to `max_len` bytes. What the file system cannot say, and what lies past the end of the file, is data: reading
/// it gives the true answer. The position of the open file moves; nothing here reads by it.
pub(in crate::formats) fn host_run(range: &FileRange, offset: u64, max_len: u64) -> (bool, u64) {
    let (file, start) = range.file();
    let (Some(from), Some(len)) = (start.checked_add(offset), range.len().checked_sub(offset))
    else {
        return (true, max_len);
    };
    let (len, past_end) = (len.min(max_len), max_len > len);
    if len == 0 {
        return (true, max_len);
    }
    let run = match seek(file, SeekFrom::Data(from)) {
        Ok(data) if data > from => (false, data - from),
        Ok(_) => match seek(file, SeekFrom::Hole(from)) {
            Ok(hole) if hole > from => (true, hole - from),
            _ => (true, u64::MAX),
        },
        // No data from here to the end of the file.
        Err(Errno::NXIO) => (false, u64::MAX),
        Err(_) => return (true, max_len),
    };
    match run {
        (true, run_len) if run_len >= len && past_end => (true, max_len),
        (kind, run_len) => (kind, run_len.min(len)),
    }
}
