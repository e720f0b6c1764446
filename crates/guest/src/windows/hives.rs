//! The registry of the guest: SYSTEM and SOFTWARE, opened with their logs, edited with a record of every change, written
//! back as new files.
//!
//! # What keeps Windows from applying old logs to the new hive
//!
//! Windows applies logs to a dirty hive only; ours is clean (equal sequence numbers, right checksum). It becomes dirty
//! again when Windows runs and crashes, and then what the files LOG1 and LOG2 still hold of the time before must not count.
//! It does not: an entry (Windows 8.1 on) counts only from the hive's second sequence number on, and
//! [`Hive::recover`](registry::Hive::recover) makes that one larger than all numbers in the logs; a log of the old format
//! counts only with the hive's own time of writing, and that is the time of the conversion. (Suhanov, "Windows registry file
//! format specification", "New format" notes 5 and 7, "Old format" note 3.)
//!
//! So the log files are left as they are. Emptied or deleted ones would do no more, and would take from the administrator
//! what belongs to the hive before the conversion. That hive is kept as `SYSTEM.pre-v2v`, and if it was dirty its logs
//! beside it as `SYSTEM.pre-v2v.LOG1` and so on, which is where a reader of that file looks for them; Windows writes over
//! the others when it runs. Neither is ever written a second time.

use registry::{Hive, Value};

use crate::{Error, ErrorKind, Recorder, Result, Root};

use self::file::HiveFile;

mod file;
mod notation;
#[cfg(test)]
mod tests;

use self::notation::notation;

/// Which hive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// HKLM\SYSTEM.
    System,
    /// HKLM\SOFTWARE.
    Software,
}

impl Which {
    /// Name of the file and of the key below HKLM.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::System => "SYSTEM",
            Self::Software => "SOFTWARE",
        }
    }
}

/// The two hives that conversion reads and edits.
#[derive(Debug)]
pub(crate) struct Registry {
    system: HiveFile,
    software: HiveFile,
}

impl Registry {
    /// Reads both, their logs replayed. Changes nothing on the disk.
    pub(crate) fn open(root: &Root, system_root: &str) -> Result<Self> {
        Ok(Self {
            system: HiveFile::open(root, system_root, Which::System)?,
            software: HiveFile::open(root, system_root, Which::Software)?,
        })
    }

    /// HKLM\SYSTEM.
    pub(crate) fn system(&self) -> &Hive {
        &self.system.hive
    }

    /// HKLM\SOFTWARE.
    pub(crate) fn software(&self) -> &Hive {
        &self.software.hive
    }

    /// Sets a value, and records it if it was not so already.
    pub(crate) fn set(
        &mut self,
        recorder: &mut Recorder<'_>,
        which: Which,
        path: &str,
        name: &str,
        value: &Value,
        why: &str,
    ) -> Result<bool> {
        let loaded = self.loaded(which);
        let before = loaded
            .hive
            .value(path, name)
            .map_err(failed(&loaded.path))?;
        let changed = loaded.hive.set(path, name, value);
        if !changed.map_err(failed(&loaded.path))? {
            return Ok(false);
        }
        let before = before.as_ref().map(notation);
        recorder.record(
            &value_label(which, path, name),
            before,
            Some(notation(value)),
            why,
        );
        Ok(true)
    }

    /// Creates a key.
    pub(crate) fn create_key(
        &mut self,
        recorder: &mut Recorder<'_>,
        which: Which,
        path: &str,
        why: &str,
    ) -> Result<bool> {
        let loaded = self.loaded(which);
        let made = loaded.hive.create_key(path);
        let made = made.map_err(failed(&loaded.path))?;
        if made {
            recorder.record(&key_label(which, path), None, Some(String::new()), why);
        }
        Ok(made)
    }

    /// Deletes a value.
    pub(crate) fn delete_value(
        &mut self,
        recorder: &mut Recorder<'_>,
        which: Which,
        path: &str,
        name: &str,
        why: &str,
    ) -> Result<bool> {
        let loaded = self.loaded(which);
        let before = loaded
            .hive
            .value(path, name)
            .map_err(failed(&loaded.path))?;
        let Some(before) = before else {
            return Ok(false);
        };
        let deleted = loaded.hive.delete_value(path, name);
        deleted.map_err(failed(&loaded.path))?;
        recorder.record(
            &value_label(which, path, name),
            Some(notation(&before)),
            None,
            why,
        );
        Ok(true)
    }

    /// Deletes a key and all below it.
    pub(crate) fn delete_key(
        &mut self,
        recorder: &mut Recorder<'_>,
        which: Which,
        path: &str,
        why: &str,
    ) -> Result<bool> {
        let loaded = self.loaded(which);
        let deleted = loaded.hive.delete_key(path);
        let deleted = deleted.map_err(failed(&loaded.path))?;
        if deleted {
            recorder.record(&key_label(which, path), Some(String::new()), None, why);
        }
        Ok(deleted)
    }

    /// Refuses a file system on which the hives and their untouched copies would not fit. Before the first change.
    pub(crate) fn check_space(&self, root: &Root) -> Result<()> {
        file::check_space(root, &[&self.software, &self.system])
    }

    /// Writes those that changed: verified, the untouched file kept beside the new one. A hive that no step changed stays
    /// as it is, with its logs, even a dirty one: Windows replays them itself.
    pub(crate) fn save(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        for hive in [&self.software, &self.system] {
            hive.save(recorder)?;
        }
        Ok(())
    }

    fn loaded(&mut self, which: Which) -> &mut HiveFile {
        match which {
            Which::System => &mut self.system,
            Which::Software => &mut self.software,
        }
    }
}

/// This crate's error of a registry's.
pub(crate) fn failed(path: &str) -> impl FnOnce(registry::Error) -> Error {
    let path = path.to_owned();
    move |error| {
        let kind = match error.kind {
            registry::ErrorKind::Unsupported => ErrorKind::Unsupported,
            registry::ErrorKind::NotFound => ErrorKind::NotFound,
            registry::ErrorKind::Limit => ErrorKind::Limit,
            registry::ErrorKind::Dirty => ErrorKind::Refused,
            _ => ErrorKind::Corrupt,
        };
        Error::new(kind, error.to_string()).at(path)
    }
}

/// `HKLM\SYSTEM\KEY`.
fn key_label(which: Which, path: &str) -> String {
    format!("HKLM\\{}\\{path}", which.name())
}

/// `HKLM\SYSTEM\KEY\NAME`; the default value is `@`, as in .reg files.
fn value_label(which: Which, path: &str, name: &str) -> String {
    let name = if name.is_empty() { "@" } else { name };
    format!("{}\\{name}", key_label(which, path))
}
