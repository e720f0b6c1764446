//! Makes dirty hives with logs as Windows leaves them when the power fails, for tests.

use super::Logs;
use super::base::{BASE, Base, Edit, PAGE, SECTOR, TYPE_LOG, TYPE_LOG_NEW};
use super::{dirt, incremental};

/// Pages that one reference holds at most.
const RUN_MAX: usize = 16;

/// A dirty hive and its logs.
#[derive(Clone, Debug)]
pub struct Made {
    /// The hive file: the first version, marked as being written.
    pub primary: Vec<u8>,
    /// Its logs.
    pub logs: Logs,
}

/// Windows 8.1 on: each version after the first is a transaction and one log entry; the first half of them (rounded up)
/// is in LOG1, the rest in LOG2. `versions` are whole hive files, clean, the first one with no sequence number near the
/// end of `u32`.
pub fn incremental(versions: &[&[u8]]) -> Made {
    let mut primary = versions
        .first()
        .map(|first| first.to_vec())
        .unwrap_or_default();
    let first = Base::read(&primary).map_or(1, |base| base.sequence_2);
    Edit(&mut primary).sequence(first + 1, first);
    let pairs: Vec<_> = versions.windows(2).collect();
    let mut logs = Logs::default();
    for ((index, pair), sequence) in pairs.iter().enumerate().zip(first..) {
        let (before, after) = (pair.first(), pair.last());
        let (before, after) = (
            before.copied().unwrap_or_default(),
            after.copied().unwrap_or_default(),
        );
        let log = if index < pairs.len().div_ceil(2) {
            &mut logs.log1
        } else {
            &mut logs.log2
        };
        if log.is_empty() {
            *log = log_base(before, TYPE_LOG_NEW, sequence);
        }
        let size = Base::read(after).map_or(0, |base| base.bins_size);
        log.extend(incremental::write_entry(
            sequence,
            0,
            size,
            &runs(before, after),
        ));
    }
    Made { primary, logs }
}

/// Up to Windows 8: one transaction, in LOG1.
pub fn dirt(before: &[u8], after: &[u8]) -> Made {
    let written = Base::read(after).map_or(0, |base| base.written);
    let first = Base::read(before).map_or(1, |base| base.sequence_2);
    let mut primary = before.to_vec();
    Edit(&mut primary)
        .sequence(first + 1, first)
        .written(written);
    // The writer updates the copy of the time in the first bin with the base block.
    if let Some(place) = primary.get_mut(BASE + 20..BASE + 28) {
        place.copy_from_slice(&written.to_le_bytes());
    }
    let mut log1 = log_base(after, TYPE_LOG, first + 1);
    Edit(&mut log1).written(written);
    log1.extend(dirt::write_body(before, after));
    let logs = Logs {
        log1,
        ..Logs::default()
    };
    Made { primary, logs }
}

impl Made {
    /// As XP and 2003 leave it: the one log is `.LOG`.
    #[must_use]
    pub fn with_one_log(mut self) -> Self {
        self.logs.log = std::mem::take(&mut self.logs.log1);
        self
    }

    /// The power failed while the pages of `last` were being written: every second page that differs is there.
    #[must_use]
    pub fn torn(mut self, last: &[u8]) -> Self {
        let pages = self.primary.len().min(last.len()) / PAGE as usize;
        let mut write = true;
        for page in 1..pages {
            let range = page * PAGE as usize..(page + 1) * PAGE as usize;
            let (Some(old), Some(new)) = (self.primary.get_mut(range.clone()), last.get(range))
            else {
                continue;
            };
            if old != new {
                if write {
                    old.copy_from_slice(new);
                }
                write = !write;
            }
        }
        self
    }

    /// The power failed while the base block was being written.
    #[must_use]
    pub fn with_bad_base(mut self) -> Self {
        if let Some(place) = self.primary.get_mut(64..512) {
            place.fill(0xa5);
        }
        self
    }
}

/// A dirty hive marked clean as it is, its logs forgotten: for fixtures that came without their logs.
pub fn settled(mut primary: Vec<u8>) -> Vec<u8> {
    if let Some(base) = Base::read(&primary) {
        Edit(&mut primary).sequence(base.sequence_1, base.sequence_1);
    }
    primary
}

/// A hive with this minor version; NT 3.51 and before have 2 and less.
pub fn versioned(mut primary: Vec<u8>, minor: u32) -> Vec<u8> {
    Edit(&mut primary).minor(minor);
    primary
}

/// The first sector of a log.
fn log_base(hive: &[u8], file_type: u32, sequence: u32) -> Vec<u8> {
    let mut sector = hive.get(..SECTOR).unwrap_or_default().to_vec();
    Edit(&mut sector)
        .file_type(file_type)
        .sequence(sequence, sequence);
    sector
}

/// Runs of pages of the hive bins that differ, with their offset in the bins.
fn runs<'a>(before: &[u8], after: &'a [u8]) -> Vec<(u32, &'a [u8])> {
    let mut runs: Vec<(u32, &[u8])> = Vec::new();
    let mut run: Option<(usize, usize)> = None;
    let page = PAGE as usize;
    for at in (BASE..=after.len()).step_by(page) {
        let range = at..(at + page).min(after.len());
        let differs = !range.is_empty() && before.get(range.clone()) != after.get(range.clone());
        if let Some((start, end)) = run
            && (!differs || end - start == RUN_MAX * page)
        {
            let offset = u32::try_from(start - BASE).unwrap_or_default();
            runs.push((offset, after.get(start..end).unwrap_or_default()));
            run = None;
        }
        if differs {
            run = Some((run.map_or(at, |(start, _)| start), range.end));
        }
    }
    if let Some((start, end)) = run {
        let offset = u32::try_from(start - BASE).unwrap_or_default();
        runs.push((offset, after.get(start..end).unwrap_or_default()));
    }
    runs
}
