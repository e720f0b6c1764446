//! Files of the host for the guest: a tar archive on a disk of its own, known by its serial as the guest's disks are.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use types::{ConvertOptions, Customise, OsType};

const SERIAL: &str = "v2v-payload";
/// How long the disk may take to appear.
const PATIENCE: Duration = Duration::from_secs(30);

/// The archive, if the options speak of one; for Windows, which may find drivers in it, also if there just is one.
pub(crate) fn open(options: &ConvertOptions, os: OsType) -> Result<guest::Payload> {
    let names_files =
        |change: &Customise| matches!(change, Customise::Upload { .. } | Customise::CopyIn { .. });
    if options.qemu_ga.is_none() && !options.customise.iter().any(names_files) {
        // The host attaches it before the appliance starts: by the time of a conversion it is there.
        return match find()? {
            Some(node) if os == OsType::Windows => read(&node),
            _ => Ok(guest::Payload::default()),
        };
    }
    read(&wait()?)
}

fn read(node: &Path) -> Result<guest::Payload> {
    let file = File::open(node).context("opening the payload's disk")?;
    Ok(guest::Payload::open(file)?)
}

fn wait() -> Result<PathBuf> {
    let since = Instant::now();
    loop {
        if let Some(node) = find()? {
            return Ok(node);
        }
        if since.elapsed() > PATIENCE {
            bail!("the host attached no payload, and the options need one");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn find() -> Result<Option<PathBuf>> {
    for entry in fs::read_dir("/sys/block").context("listing /sys/block")? {
        let entry = entry?;
        let serial = fs::read_to_string(entry.path().join("serial")).unwrap_or_default();
        if serial.trim() == SERIAL {
            return Ok(Some(PathBuf::from("/dev").join(entry.file_name())));
        }
    }
    Ok(None)
}
