//! The file as it is once its log is replayed.

use super::log::Replay;
use super::overlay::Fill;
use super::to_usize;
use crate::{FileRange, Result};

/// Bytes of a data sector before and after the 4084 that belong to the page: MS-VHDX 2.3.1.4.
const DATA_SECTOR_HEAD: u64 = 8;
const LEADING: usize = 8;
const TRAILING: usize = 4;

/// The file and what the log puts over it.
#[derive(Debug)]
pub(super) struct Content {
    range: FileRange,
    replay: Option<Replay>,
    len: u64,
}

impl Content {
    /// The file `range` under a replayed log.
    pub(super) fn new(range: FileRange, replay: Option<Replay>) -> Self {
        let len = range.len();
        let len = replay.as_ref().map_or(len, |replay| {
            len.max(replay.last_file_offset).max(replay.overlay.end())
        });
        Self { range, replay, len }
    }

    /// Length of the file after the replay.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The file itself.
    pub(super) fn range(&self) -> &FileRange {
        &self.range
    }

    /// The log that was replayed, if there was one.
    pub(super) fn replay(&self) -> Option<&Replay> {
        self.replay.as_ref()
    }

    /// Fills `buf` from `offset`.
    pub(super) fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let Some(replay) = &self.replay else {
            return self.range.read_exact_at(buf, offset);
        };
        let end = offset.saturating_add(buf.len() as u64);
        // What the replay adds to the file is zero until something is put there.
        let stored = self
            .range
            .len()
            .clamp(offset, end.min(self.len).max(offset))
            - offset;
        if end > self.len {
            return self.range.read_exact_at(buf, offset);
        }
        let (in_file, added) = buf.split_at_mut(to_usize(stored));
        if !in_file.is_empty() {
            self.range.read_exact_at(in_file, offset)?;
        }
        added.fill(0);
        for (start, stop, fill) in replay.overlay.overlapping(offset, end) {
            let (from, to) = (start.max(offset), stop.min(end));
            let part = &mut buf[to_usize(from - offset)..to_usize(to - offset)];
            match fill {
                Fill::Zero => part.fill(0),
                Fill::Page {
                    data_sector,
                    leading,
                    trailing,
                } => {
                    let page = self.page(data_sector, leading, trailing)?;
                    let within = to_usize(from - start);
                    part.copy_from_slice(&page[within..within + part.len()]);
                }
            }
        }
        Ok(())
    }

    fn page(
        &self,
        data_sector: u64,
        leading: [u8; LEADING],
        trailing: [u8; TRAILING],
    ) -> Result<[u8; 4096]> {
        let mut page = [0; 4096];
        page[..LEADING].copy_from_slice(&leading);
        let tail = page.len() - TRAILING;
        self.range
            .read_exact_at(&mut page[LEADING..tail], data_sector + DATA_SECTOR_HEAD)?;
        page[tail..].copy_from_slice(&trailing);
        Ok(page)
    }

    /// Reads `len` bytes into a new buffer. The caller has capped `len`.
    pub(super) fn read_vec(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut buf = vec![0; len];
        self.read_exact_at(&mut buf, offset)?;
        Ok(buf)
    }

    /// True when [`run_at`](Self::run_at) may find zeroes.
    pub(super) fn is_sparse(&self) -> bool {
        self.range.is_sparse()
    }

    /// The run that starts at `offset`: true for bytes that must be read, false for a hole of the host's file.
    pub(super) fn run_at(&self, offset: u64, max_len: u64) -> (bool, u64) {
        let mut max_len = max_len;
        if let Some(replay) = &self.replay {
            let next = replay
                .overlay
                .overlapping(offset, offset.saturating_add(max_len))
                .next();
            match next {
                Some((start, end, _)) if start <= offset => {
                    return (true, (end - offset).min(max_len));
                }
                Some((start, ..)) => max_len = start - offset,
                None => {}
            }
        }
        self.range.run_at(offset, max_len)
    }
}
