//! A block device as the target: it exists, it has a size, and it holds something old.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, ErrorKind, Result};

use super::OutputFile;

/// Unit in which it is noted what was written: 10 TiB take 20 MiB of notes.
const UNIT: u64 = 64 << 10;
/// Zeroed by one system call: not so much that it cannot be interrupted.
const ZERO_STEP: u64 = 1 << 30;
/// Logical block of any device.
const MAX_BLOCK: u64 = 4096;

/// What must still be done for the device to read as zero where nothing is written.
#[derive(Debug)]
pub(super) enum OldContent {
    /// There is none: a new file, or a device that was zeroed at once.
    Gone,
    /// Units that were written, a bit each; the others are zeroed at the end.
    Written(Vec<AtomicU64>),
}

impl OldContent {
    /// Zeroes the first `len` bytes if the device can do so without writing them.
    pub(super) fn of_device(device: &OutputFile, len: u64) -> Result<Self> {
        let device_size = device.size()?;
        if device_size < len {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("expected a device of at least {len} bytes, found {device_size}"),
            )
            .in_file(device.label()));
        }
        let whole = len - len % MAX_BLOCK;
        let mut at = 0;
        while at < whole {
            let part = ZERO_STEP.min(whole - at);
            if !device.punch(at, part)? {
                let words = len.div_ceil(UNIT).div_ceil(64);
                let words = usize::try_from(words).unwrap_or(usize::MAX);
                return Ok(Self::Written(
                    (0..words).map(|_| AtomicU64::new(0)).collect(),
                ));
            }
            at += part;
        }
        device.zero(whole, len - whole)?;
        Ok(Self::Gone)
    }

    /// Writes must come in this many bytes, for the notes to be exact.
    pub(super) fn granularity(&self, least: u64) -> u64 {
        match self {
            Self::Gone => least,
            Self::Written(_) => UNIT.max(least),
        }
    }

    /// Notes a write, which keeps to the granularity.
    pub(super) fn written(&self, offset: u64, len: u64) {
        let Self::Written(words) = self else { return };
        for unit in offset / UNIT..(offset + len).div_ceil(UNIT) {
            if let Some(word) = usize::try_from(unit / 64).ok().and_then(|at| words.get(at)) {
                word.fetch_or(1 << (unit % 64), Ordering::Relaxed);
            }
        }
    }

    /// Zeroes what was not written of the first `len` bytes.
    pub(super) fn zero_rest(&self, device: &OutputFile, len: u64) -> Result<()> {
        let Self::Written(words) = self else {
            return Ok(());
        };
        let is_written = |unit: u64| {
            let word = usize::try_from(unit / 64).ok().and_then(|at| words.get(at));
            word.is_some_and(|word| word.load(Ordering::Relaxed) & 1 << (unit % 64) != 0)
        };
        let units = len.div_ceil(UNIT);
        let mut unit = 0;
        while unit < units {
            let first = unit;
            while unit < units && !is_written(unit) && (unit - first) * UNIT < ZERO_STEP {
                unit += 1;
            }
            if unit > first {
                let start = first * UNIT;
                device.zero(start, (unit * UNIT).min(len) - start)?;
            } else {
                unit += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_written_of_a_device_that_cannot_punch_is_zeroed_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("device");
        let file = OutputFile::create(&path).unwrap();
        file.write(&[9; 1 << 20], 0).unwrap();
        let len = (1 << 20) - 512;
        let old = OldContent::Written((0..1).map(|_| AtomicU64::new(0)).collect());
        assert_eq!(old.granularity(4096), UNIT);
        old.written(0, UNIT);
        old.written(3 * UNIT, 2 * UNIT);
        old.written(15 * UNIT, len - 15 * UNIT);
        old.zero_rest(&file, len).unwrap();
        let found = std::fs::read(&path).unwrap();
        for (unit, bytes) in found.chunks(1 << 16).enumerate() {
            let kept = if matches!(unit, 0 | 3 | 4 | 15) { 9 } else { 0 };
            assert!(bytes.iter().all(|&byte| byte == kept), "{unit}");
        }
        assert!(OldContent::of_device(&file, 2 << 20).is_err());
        assert!(matches!(
            OldContent::of_device(&file, len).unwrap(),
            OldContent::Gone
        ));
        let found = std::fs::read(&path).unwrap();
        let len = usize::try_from(len).unwrap();
        assert!(found[..len].iter().all(|&byte| byte == 0));
        assert_eq!(found[len..], [9; 512]);
    }
}
