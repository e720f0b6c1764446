//! Files of the host for the guest: a tar archive on a disk of its own, known by its serial as the guest's disks are.

use std::fs::{self, File};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use types::{ConvertOptions, Customise};

const SERIAL: &str = "v2v-payload";
/// How long the disk may take to appear.
const PATIENCE: Duration = Duration::from_secs(30);

/// The archive, if the options speak of one.
pub(crate) fn open(options: &ConvertOptions) -> Result<guest::Payload> {
    let names_files =
        |change: &Customise| matches!(change, Customise::Upload { .. } | Customise::CopyIn { .. });
    if options.qemu_ga.is_none() && !options.customise.iter().any(names_files) {
        return Ok(guest::Payload::default());
    }
    let node = wait()?;
    let file = File::open(&node).context("opening the payload's disk")?;
    Ok(guest::Payload::open(file)?)
}

fn wait() -> Result<PathBuf> {
    let since = Instant::now();
    loop {
        for entry in fs::read_dir("/sys/block").context("listing /sys/block")? {
            let entry = entry?;
            let serial = fs::read_to_string(entry.path().join("serial")).unwrap_or_default();
            if serial.trim() == SERIAL {
                return Ok(PathBuf::from("/dev").join(entry.file_name()));
            }
        }
        if since.elapsed() > PATIENCE {
            bail!("the host attached no payload, and the options need one");
        }
        thread::sleep(Duration::from_millis(10));
    }
}
