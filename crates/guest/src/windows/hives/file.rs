//! A hive as files: it and its logs, the untouched copies, the new file.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use registry::{Hive, Logs};

use super::{Which, failed};
use crate::root::split;
use crate::windows::files;
use crate::{Error, ErrorKind, Recorder, Result, Root};

/// No hive is larger: SOFTWARE has 300 MiB on machines with much software, and all of it is in memory.
const HIVE_MAX: u64 = 512 << 20;
/// A log is written into its hive long before this.
const LOG_MAX: u64 = 256 << 20;
/// What was there before the conversion.
const KEPT: &str = ".pre-v2v";
const LOGS: [&str; 3] = [".LOG", ".LOG1", ".LOG2"];
/// What a conversion adds to a hive, generously.
const GROWTH: u64 = 8 << 20;

/// A hive and where it is.
#[derive(Debug)]
pub(super) struct HiveFile {
    pub(super) hive: Hive,
    /// As spelled on the disk.
    pub(super) path: String,
    /// Log entries without which the file is not what Windows would load.
    replayed: u32,
}

impl HiveFile {
    /// Reads it, its logs replayed.
    pub(super) fn open(root: &Root, system_root: &str, which: Which) -> Result<Self> {
        let path = format!("{system_root}/System32/config/{}", which.name());
        let Some(path) = files::find(root, &path) else {
            let message = format!("expected the registry hive {}", which.name());
            return Err(Error::new(ErrorKind::NotFound, message).at(path));
        };
        let log = |suffix: &str| {
            let log = files::read(root, &format!("{path}{suffix}"), LOG_MAX)?;
            Ok::<_, Error>(log.unwrap_or_default())
        };
        let [log, log1, log2] = LOGS.map(log);
        let logs = Logs {
            log: log?,
            log1: log1?,
            log2: log2?,
        };
        let recovered = Hive::recover(root.read(&path, HIVE_MAX)?, &logs).map_err(failed(&path))?;
        if recovered.replayed > 0 {
            let replayed = recovered.replayed;
            tracing::info!("{path}: {replayed} log entries were replayed");
        }
        Ok(Self {
            hive: recovered.hive,
            path,
            replayed: recovered.replayed,
        })
    }

    /// Writes it if a step changed it. What is written is read back and walked first, all of it.
    pub(super) fn save(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        if !self.hive.is_changed() {
            return Ok(());
        }
        let bytes = self.hive.to_bytes(filetime_now());
        let written = Hive::open(bytes.clone()).and_then(|hive| hive.verify());
        written.map_err(failed(&self.path))?;
        self.keep(recorder)?;
        let before = recorder.hash(&self.path)?;
        let root = recorder.root();
        root.replace(&self.path, 0o644, |file| file.write_all(&bytes))?;
        let after = recorder.hash(&self.path)?;
        let why = match self.replayed {
            0 => "the edited hive".to_owned(),
            replayed => format!("the edited hive; {replayed} log entries were replayed before"),
        };
        recorder.record(&self.path, Some(before), Some(after), &why);
        Ok(())
    }

    /// Copies the file, and a dirty one's logs before it: where the copy is, its logs are.
    fn keep(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let root = recorder.root();
        let kept = format!("{}{KEPT}", self.path);
        if root.exists(&kept) {
            return Ok(());
        }
        let mut copies = Vec::new();
        if self.replayed > 0 {
            let logs = LOGS.iter().filter_map(|suffix| {
                let log = files::find(root, &format!("{}{suffix}", self.path))?;
                Some((log, format!("{kept}{suffix}")))
            });
            copies.extend(logs);
        }
        copies.push((self.path.clone(), kept));
        for (from, to) in copies {
            let mut source = root.open_file(&from)?;
            root.replace_like(&to, &from, 0o644, |file| {
                io::copy(&mut source, file).map(|_| ())
            })?;
            let hash = recorder.hash(&to)?;
            let why = "the hive as it was before the conversion";
            recorder.record(&to, None, Some(hash), why);
        }
        Ok(())
    }

    /// Bytes that its untouched copies take, and those that the new file takes while the old one is there.
    fn space(&self, root: &Root) -> Result<(u64, u64)> {
        let len = root.meta(&self.path)?.len;
        if root.exists(&format!("{}{KEPT}", self.path)) {
            return Ok((0, len + GROWTH));
        }
        let logs = LOGS
            .iter()
            .filter_map(|suffix| files::find(root, &format!("{}{suffix}", self.path)))
            .filter_map(|log| root.meta(&log).ok())
            .map(|meta| meta.len);
        let logs: u64 = if self.replayed > 0 { logs.sum() } else { 0 };
        Ok((len + logs, len + GROWTH))
    }
}

/// See [`Registry::check_space`](super::Registry::check_space).
pub(super) fn check_space(root: &Root, hives: &[&HiveFile]) -> Result<()> {
    let (mut kept, mut new) = (0, 0);
    for hive in hives {
        let (copies, file) = hive.space(root)?;
        kept += copies;
        new = file.max(new);
    }
    let Some(hive) = hives.first() else {
        return Ok(());
    };
    let (dir, _) = split(&hive.path)?;
    let free = root.free_bytes(dir)?;
    let wanted: u64 = kept + new;
    if free < wanted {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let message = format!(
            "expected {} MiB free for the edited registry and its untouched copy, found {} MiB",
            mib(wanted),
            free >> 20
        );
        return Err(Error::new(ErrorKind::Refused, message).at(dir));
    }
    Ok(())
}

/// Seconds from 1601 to 1970.
const EPOCHS: u64 = 11_644_473_600;

fn filetime_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default();
    (now.as_secs() + EPOCHS) * 10_000_000 + u64::from(now.subsec_nanos() / 100)
}
