//! Transaction logs: `.LOG1`, `.LOG2` (`HvLE`, Windows 8.1 on) and `.LOG` (`DIRT`).
//!
//! Facts: Maxim Suhanov, "Windows registry file format specification", sections "Format of transaction log files",
//! "Dirty state of a hive" and "Multiple transaction log files".
//!
//! A hive is dirty when the checksum of its base block is wrong or its sequence numbers differ. Then:
//!
//! - New format: the log whose entries have the lower numbers comes first. Entries below the second sequence number of the
//!   hive are in it already; the first one applied must bear that number and each one the next, over both logs. What
//!   follows the first invalid entry is not applied.
//! - Old format: the log of one transaction applies when its base block has the hive's time of writing. XP and 2003 have
//!   one log (`.LOG`), later ones two.
//! - A base block with a wrong checksum comes back from the log's copy of its first sector.
//!
//! Afterwards, and for a clean hive too, the sequence number is above all that the logs hold: when Windows has mounted the
//! new hive and then crashes, no entry of old that is left in a log can follow on its own first one.

mod base;
mod dirt;
mod incremental;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod maker;
mod marvin;
#[cfg(test)]
mod tests;

use self::base::{Base, Edit, SECTOR, TYPE_LOG, TYPE_LOG_2000, TYPE_LOG_NEW};
use self::dirt::Dirt;
use self::incremental::Entry;
use crate::{Error, ErrorKind, Hive, Result};

/// No hive or log is larger: offsets have 31 bits.
const FILE_MAX: usize = 1 << 31;
/// What logs may add to a hive: the transactions since the last write of all, far below this.
const GROWTH_MAX: usize = if cfg!(fuzzing) { 1 << 20 } else { 256 << 20 };
/// What makes a dirty hive clean.
const ADVICE: &str = "start Windows once, shut it down fully (shutdown /s /t 0), and convert again";

/// The log files beside a hive; empty where one is not there.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    /// `HIVE.LOG`.
    pub log: Vec<u8>,
    /// `HIVE.LOG1`.
    pub log1: Vec<u8>,
    /// `HIVE.LOG2`.
    pub log2: Vec<u8>,
}

/// A hive whose logs were replayed.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The hive as Windows would load it.
    pub hive: Hive,
    /// Log entries (or dirty logs of the old format) that were replayed; 0 when the hive was clean.
    pub replayed: u32,
}

impl Hive {
    /// Opens a hive as Windows would: a dirty one gets its logs' entries first. `Dirty` where they do not repair it.
    pub fn recover(primary: Vec<u8>, logs: &Logs) -> Result<Recovered> {
        let (primary, replayed) = replay(primary, logs)?;
        let hive = Self::open(primary);
        if replayed == 0 {
            return hive.map(|hive| Recovered { hive, replayed });
        }
        let repaired = hive.and_then(|hive| hive.verify().map(|_| hive));
        match repaired {
            Ok(hive) => Ok(Recovered { hive, replayed }),
            Err(error) => {
                let reason = format!("{replayed} of its log entries were replayed, but: {error}");
                Err(dirty(&reason))
            }
        }
    }
}

/// The bytes of a clean hive, and how many log entries were replayed. What is no hive at all is returned as it is.
pub(crate) fn replay(mut primary: Vec<u8>, logs: &Logs) -> Result<(Vec<u8>, u32)> {
    for file in [&primary, &logs.log, &logs.log1, &logs.log2] {
        if file.len() > FILE_MAX {
            let message = format!("expected a hive or log of at most {FILE_MAX:#x} bytes");
            return Err(Error::new(ErrorKind::Limit, message));
        }
    }
    let base = Base::read(&primary);
    if base.is_none() && base::bin_written(&primary).is_none() {
        return Ok((primary, 0));
    }
    let mut replayed = 0;
    if base.is_none_or(|base| !base.is_settled()) {
        let found = Found::read(logs);
        replayed = found.replay_new(&mut primary, base);
        if replayed == 0 {
            replayed = found.replay_old(&mut primary, base);
        }
        if replayed == 0 {
            return Err(dirty(&found.reason(base)));
        }
    }
    step_over(&mut primary, logs);
    Ok((primary, replayed))
}

fn dirty(reason: &str) -> Error {
    let message = format!("the hive was not closed cleanly and {reason}; {ADVICE}");
    Error::new(ErrorKind::Dirty, message)
}

/// Makes the sequence number larger than all of the logs.
fn step_over(primary: &mut [u8], logs: &Logs) {
    let Some(own) = Base::read(primary).map(|base| base.sequence_1) else {
        return;
    };
    let files = [&logs.log, &logs.log1, &logs.log2];
    let headers = files
        .iter()
        .filter_map(|log| Base::read(log))
        .map(|base| base.sequence_1.max(base.sequence_2));
    let entries = files
        .iter()
        .filter_map(|log| incremental::last_sequence(log));
    let next = headers
        .chain(entries)
        .max()
        .and_then(|last| last.checked_add(1));
    if let Some(next) = next.filter(|next| *next > own) {
        Edit(primary).sequence(next, next);
    }
}

/// A log of the new format.
struct New<'l> {
    bytes: &'l [u8],
    entries: Vec<Entry<'l>>,
}

/// A log of the old format.
struct Old<'l> {
    bytes: &'l [u8],
    base: Base,
    dirt: Dirt<'l>,
}

/// The logs that are intact, and what is wrong with the others.
#[derive(Default)]
struct Found<'l> {
    /// In the order of their entries.
    new: Vec<New<'l>>,
    /// The last transaction first.
    old: Vec<Old<'l>>,
    complaints: Vec<String>,
}

impl<'l> Found<'l> {
    fn read(logs: &'l Logs) -> Self {
        let mut found = Self::default();
        let files = [
            ("LOG1", &logs.log1),
            ("LOG2", &logs.log2),
            ("LOG", &logs.log),
        ];
        for (name, bytes) in files {
            if bytes.is_empty() {
                continue;
            }
            if let Err(complaint) = found.add(bytes) {
                found.complaints.push(format!("{name}: {complaint}"));
            }
        }
        let first = |log: &New<'_>| log.entries.first().map(|entry| entry.sequence);
        found.new.sort_by_key(first);
        found
            .old
            .sort_by_key(|log| std::cmp::Reverse(log.base.sequence_1));
        found
    }

    fn add(&mut self, bytes: &'l [u8]) -> Result<(), &'static str> {
        let base = Base::read(bytes).ok_or("its base block is not valid")?;
        match base.file_type {
            TYPE_LOG_NEW if incremental::is_format(bytes, base.sector) => {
                let (entries, end) = incremental::entries(bytes, base.sector);
                if entries.is_empty() {
                    return Err(end);
                }
                self.new.push(New { bytes, entries });
            }
            TYPE_LOG | TYPE_LOG_2000 if dirt::is_format(bytes, base.sector) => {
                if !base.is_settled() {
                    return Err("it was not written to its end");
                }
                let dirt = Dirt::read(bytes, base.sector, base.bins_size)?;
                self.old.push(Old { bytes, base, dirt });
            }
            _ => return Err("there is no entry"),
        }
        Ok(())
    }

    /// Applies the entries that follow on the hive; their number.
    fn replay_new(&self, primary: &mut Vec<u8>, base: Option<Base>) -> u32 {
        let (mut next, logs) = match base {
            Some(base) => (Some(base.sequence_2), self.new.as_slice()),
            None => {
                let logs = self.last_chain();
                let Some(first) = logs.first() else { return 0 };
                take_base(primary, first.bytes);
                (first.entries.first().map(|entry| entry.sequence), logs)
            }
        };
        let mut replayed = 0;
        for entry in logs.iter().flat_map(|log| &log.entries) {
            let Some(expected) = next else { break };
            if entry.sequence < expected {
                continue;
            }
            if entry.sequence > expected || !entry.apply(primary) {
                break;
            }
            replayed += 1;
            next = entry.sequence.checked_add(1);
        }
        replayed
    }

    /// The logs from the one on whose end all later ones follow: without the hive's own number, what is older cannot be
    /// told from what the hive lacks, and applying it again does no harm as long as all that came after is applied too.
    fn last_chain(&self) -> &[New<'l>] {
        let follows = |pair: &[New<'_>]| match pair {
            [a, b] => {
                let end = a
                    .entries
                    .last()
                    .and_then(|last| last.sequence.checked_add(1));
                end == b.entries.first().map(|first| first.sequence)
            }
            _ => true,
        };
        let gap = self.new.windows(2).rposition(|pair| !follows(pair));
        self.new
            .get(gap.map_or(0, |gap| gap + 1)..)
            .unwrap_or_default()
    }

    /// Applies the log that was written for the transaction that the hive lacks.
    fn replay_old(&self, primary: &mut Vec<u8>, base: Option<Base>) -> u32 {
        let written = match base {
            Some(base) => Some(base.written),
            None => base::bin_written(primary),
        };
        for log in &self.old {
            if Some(log.base.written) != written {
                continue;
            }
            if base.is_none() {
                take_base(primary, log.bytes);
            }
            if log.dirt.apply(primary) {
                let last = base.map_or(0, |base| base.sequence_1);
                let last = last.max(log.base.sequence_1);
                Edit(primary).sequence(last, last);
                return 1;
            }
        }
        0
    }

    /// Why nothing was replayed.
    fn reason(&self, base: Option<Base>) -> String {
        let state = base.map_or("its base block is damaged".to_owned(), |base| {
            format!(
                "its sequence numbers are {} and {}",
                base.sequence_1, base.sequence_2
            )
        });
        let mut logs = self.complaints.clone();
        if let (Some(base), Some(first)) =
            (base, self.new.first().and_then(|log| log.entries.first()))
        {
            logs.push(format!(
                "expected log entry {}, the logs start with {}",
                base.sequence_2, first.sequence
            ));
        }
        if !self.old.is_empty() {
            logs.push("the logs are of another transaction".to_owned());
        }
        if logs.is_empty() {
            return format!("{state}, and there are no logs to repair it");
        }
        format!(
            "{state}, and the logs do not repair it ({})",
            logs.join("; ")
        )
    }
}

/// Makes the first sector of a log that of the hive.
fn take_base(primary: &mut [u8], log: &[u8]) {
    if let (Some(place), Some(sector)) = (
        primary.first_chunk_mut::<SECTOR>(),
        log.first_chunk::<SECTOR>(),
    ) {
        *place = *sector;
    }
    Edit(primary).file_type(0);
}
