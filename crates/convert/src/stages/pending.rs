//! The report's file: its place is proved before the target gets anything final, its content is complete only after.

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use crate::report::Report;
use crate::{Error, Result};

/// A report that will appear whole or not at all. Until then it has no name (O_TMPFILE, open(2)), so that even a kill
/// leaves nothing.
pub(super) struct Pending {
    path: PathBuf,
    /// `None` where the file system knows no nameless files, or the report goes into something that is no file.
    nameless: Option<File>,
}

impl Pending {
    /// Takes the room that the report will need, about.
    pub(super) fn create(path: &Path, report: &Report) -> Result<Self> {
        let mut pending = Self {
            path: path.to_owned(),
            nameless: None,
        };
        pending.reserve(report).map_err(failed(path))?;
        Ok(pending)
    }

    fn reserve(&mut self, report: &Report) -> io::Result<()> {
        let special = fs::metadata(&self.path).is_ok_and(|meta| !meta.is_file());
        if special {
            return Ok(());
        }
        let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        match rustix::fs::open(folder(&self.path), flags, mode) {
            Ok(fd) => {
                let mut file = File::from(fd);
                file.write_all(&text(report)?)?;
                self.nameless = Some(file);
                Ok(())
            }
            // NFS and some FUSE file systems have none; open(2) has ISDIR of kernels that know no O_TMPFILE.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => File::options()
                .append(true)
                .create(true)
                .open(&self.path)
                .map(drop),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the complete report and gives it its name.
    pub(super) fn write(self, report: &Report) -> Result<()> {
        self.finish(report).map_err(failed(&self.path))
    }

    fn finish(&self, report: &Report) -> io::Result<()> {
        let text = text(report)?;
        let Some(mut file) = self.nameless.as_ref() else {
            return fs::write(&self.path, &text);
        };
        file.rewind()?;
        file.write_all(&text)?;
        file.set_len(text.len() as u64)?;
        file.sync_all()?;
        let own = format!("/proc/self/fd/{}", file.as_raw_fd());
        let link = |path: &Path| {
            rustix::fs::linkat(CWD, &own, CWD, path, AtFlags::SYMLINK_FOLLOW)
                .map_err(io::Error::from)
        };
        match link(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let name = format!(".v2v-report-{}", std::process::id());
                let beside = folder(&self.path).join(name);
                link(&beside)?;
                fs::rename(&beside, &self.path).inspect_err(|_| drop(fs::remove_file(&beside)))
            }
            result => result,
        }
    }
}

fn text(report: &Report) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(report)?;
    text.push(b'\n');
    Ok(text)
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.display().to_string();
    move |source| Error::Report { path, source }
}

#[cfg(test)]
mod tests {
    use types::{Arch, BlockBus, GuestCaps, GuestInfo, Machine, MachineType, NetBus};

    use super::*;
    use crate::report::{SCHEMA, TargetFiles, Treatment};

    fn report() -> Report {
        let source = Machine::bare("web", types::Hypervisor::Unknown);
        Report {
            schema: SCHEMA,
            v2v: "1".into(),
            conversion: Treatment::Converted,
            source,
            guest: GuestInfo::default(),
            steps: Vec::new(),
            changes: Vec::new(),
            warnings: vec!["look here".into()],
            concerns: Vec::new(),
            caps: GuestCaps {
                block_bus: BlockBus::VirtioBlk,
                net_bus: NetBus::Virtio,
                virtio_rng: true,
                virtio_balloon: true,
                virtio_serial: true,
                pvpanic: true,
                machine: MachineType::Q35,
                arch: Arch::X86_64,
                rtc_utc: true,
                boot_disk: None,
                firmware: None,
            },
            boot_entries: Vec::new(),
            space: Vec::new(),
            disks: Vec::new(),
            target: TargetFiles::default(),
        }
    }

    #[test]
    fn a_report_appears_whole_and_replaces_an_older_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.json");
        for (old, name) in [
            (None, "a"),
            (Some("older, and very much longer".repeat(9999)), "b"),
        ] {
            if let Some(old) = old {
                fs::write(&path, old).unwrap();
            }
            let mut report = report();
            let pending = Pending::create(&path, &report).unwrap();
            report.target.domain = Some(name.into());
            pending.write(&report).unwrap();
            let read: Report = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            assert_eq!(read, report);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_dropped_report_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        drop(Pending::create(&dir.path().join("r.json"), &report()).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_not_there_is_found_out_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let error = Pending::create(&dir.path().join("no/r.json"), &report());
        assert!(matches!(error, Err(Error::Report { .. })));
    }

    #[test]
    fn the_names_of_a_report_stay() {
        let value = serde_json::to_value(report()).unwrap();
        let mut names: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        names.sort();
        let want = "boot_entries caps changes concerns conversion disks guest schema source space steps target v2v warnings";
        assert_eq!(names.join(" "), want);
        assert_eq!(value["conversion"], "converted");
    }
}
