//! The registry of the guest: SYSTEM and SOFTWARE, opened with their logs, edited with a record of every change, written
//! back as new files.

use registry::{Hive, Kind, Logs, Value};

use crate::windows::files;
use crate::{Error, ErrorKind, Recorder, Result, Root};

/// No hive is larger: Windows limits the registry to 2 GiB, SYSTEM to far less.
const HIVE_MAX: u64 = 1 << 30;
/// Windows' own copy of what was there before the conversion.
const KEPT: &str = ".pre-v2v";

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

/// A hive and where it is.
#[derive(Debug)]
struct Loaded {
    hive: Hive,
    path: String,
    replayed: u32,
}

/// The two hives that conversion reads and edits.
#[derive(Debug)]
pub(crate) struct Registry {
    system: Loaded,
    software: Loaded,
}

impl Registry {
    /// Reads both, their logs replayed. Changes nothing on the disk.
    pub(crate) fn open(root: &Root, system_root: &str) -> Result<Self> {
        Ok(Self {
            system: load(root, system_root, Which::System)?,
            software: load(root, system_root, Which::Software)?,
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
            &label(which, path, name),
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
            recorder.record(&label(which, path, ""), None, Some(String::new()), why);
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
            &label(which, path, name),
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
            recorder.record(&label(which, path, ""), Some(String::new()), None, why);
        }
        Ok(deleted)
    }

    /// Writes those that changed: verified, the untouched file kept beside the new one.
    pub(crate) fn save(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        for loaded in [&self.software, &self.system] {
            if !loaded.hive.is_changed() && loaded.replayed == 0 {
                continue;
            }
            loaded.hive.verify().map_err(failed(&loaded.path))?;
            let kept = format!("{}{KEPT}", loaded.path);
            if !recorder.root().exists(&kept) {
                let content = recorder.root().read(&loaded.path, HIVE_MAX)?;
                recorder.write(&kept, &content, "the hive as it was before the conversion")?;
            }
            let bytes = loaded.hive.to_bytes(filetime_now());
            recorder.write(&loaded.path, &bytes, "the edited hive")?;
        }
        Ok(())
    }

    fn loaded(&mut self, which: Which) -> &mut Loaded {
        match which {
            Which::System => &mut self.system,
            Which::Software => &mut self.software,
        }
    }
}

fn load(root: &Root, system_root: &str, which: Which) -> Result<Loaded> {
    let path = format!("{system_root}/System32/config/{}", which.name());
    let Some(path) = files::find(root, &path) else {
        let message = format!("expected the registry hive {}", which.name());
        return Err(Error::new(ErrorKind::NotFound, message).at(path));
    };
    let log = |suffix: &str| {
        let log = files::read(root, &format!("{path}{suffix}"), HIVE_MAX)?;
        Ok::<_, Error>(log.unwrap_or_default())
    };
    let logs = Logs {
        log: log(".LOG")?,
        log1: log(".LOG1")?,
        log2: log(".LOG2")?,
    };
    let recovered = Hive::recover(root.read(&path, HIVE_MAX)?, &logs).map_err(failed(&path))?;
    Ok(Loaded {
        hive: recovered.hive,
        path,
        replayed: recovered.replayed,
    })
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

fn label(which: Which, path: &str, name: &str) -> String {
    let key = format!("HKLM\\{}\\{path}", which.name());
    if name.is_empty() {
        key
    } else {
        format!("{key}\\{name}")
    }
}

/// A value as a .reg file has it.
pub(crate) fn notation(value: &Value) -> String {
    match (value.kind, value.as_text(), value.as_u32()) {
        (Kind::SZ, Some(text), _) => {
            format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
        }
        (Kind::DWORD, _, Some(number)) => format!("dword:{number:08x}"),
        (kind, ..) => {
            let bytes: Vec<String> = value
                .data
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            format!("hex({:x}):{}", kind.0, bytes.join(","))
        }
    }
}

/// Seconds from 1601 to 1970.
const EPOCHS: u64 = 11_644_473_600;

fn filetime_now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.unwrap_or_default();
    (now.as_secs() + EPOCHS) * 10_000_000 + u64::from(now.subsec_nanos() / 100)
}
