//! Whether a running machine writes an image.
//!
//! QEMU says so by locks on single bytes of the file ("Disk image file locking" in its manual): byte 100 + n is
//! locked by who uses permission n, byte 200 + n by who does not let others use it; permission 1 is writing, 3
//! resizing. A reader's lock cannot collide with those, so the kernel's list of locks is looked at instead.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Result, bail};

/// Bytes that a program holds which writes or resizes the image.
const WRITE_BYTES: [u64; 2] = [101, 103];

/// Refuses a file that a machine writes: what would be read is torn.
pub(super) fn refuse_written(path: &Path) -> Result<()> {
    let (Ok(meta), Ok(locks)) = (path.metadata(), std::fs::read_to_string("/proc/locks")) else {
        return Ok(());
    };
    if meta.is_file() && is_written(&locks, meta.dev(), meta.ino()) {
        bail!(
            "{}: a running machine writes this image; hint: stop it, or read it as it is with -U",
            path.display()
        );
    }
    Ok(())
}

/// Looks through lines such as `7: OFDLCK ADVISORY  READ  -1 fe:01:131075 101 101`.
fn is_written(locks: &str, device: u64, inode: u64) -> bool {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let id = format!("{major:02x}:{minor:02x}:{inode}");
    locks.lines().any(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, "OFDLCK", _, _, _, file, first, last] = words.as_slice() else {
            return false;
        };
        let last = last.parse().unwrap_or(u64::MAX);
        *file == id
            && first
                .parse::<u64>()
                .is_ok_and(|first| WRITE_BYTES.iter().any(|byte| (first..=last).contains(byte)))
    })
}

#[cfg(test)]
mod tests {
    use super::is_written;

    #[test]
    fn only_a_writer_of_this_file_counts() {
        let device = rustix::fs::makedev(0xfe, 1);
        let line =
            |file: &str, bytes: &str| format!("7: OFDLCK ADVISORY  READ  -1 {file} {bytes}\n");
        assert!(is_written(&line("fe:01:42", "101 101"), device, 42));
        assert!(is_written(&line("fe:01:42", "100 103"), device, 42));
        assert!(is_written(&line("fe:01:42", "0 EOF"), device, 42));
        assert!(!is_written(&line("fe:01:42", "100 100"), device, 42));
        assert!(!is_written(&line("fe:01:42", "201 201"), device, 42));
        assert!(!is_written(&line("fe:01:43", "101 101"), device, 42));
        assert!(!is_written(&line("fe:02:42", "101 101"), device, 42));
        assert!(!is_written(
            "7: POSIX  ADVISORY  WRITE 12 fe:01:42 0 EOF\n",
            device,
            42
        ));
        assert!(!is_written("garbage\n", device, 42));
    }
}
