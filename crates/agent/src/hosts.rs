//! The machines that an agent may run on: the real one, and one whose disks were named by options.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use wire::inventory::{Disk, DiskKind};

use crate::app::{Detected, Host, NetworkView};
use crate::config::InterfaceConfig;
use crate::disks::{DiskSpec, FileMedium};
use crate::parts;

const SECTOR: u32 = 512;

/// This machine.
#[derive(Debug)]
pub(crate) struct Machine {
    /// In place of what was found.
    pub(crate) machine_id: Option<[u8; 32]>,
}

impl Host for Machine {
    fn detect(&self) -> Detected {
        let mut inventory = parts::detect();
        if let Some(id) = self.machine_id {
            inventory.machine_id = id.to_vec();
        }
        let disks = inventory.disks.iter().map(spec).collect();
        Detected { inventory, disks }
    }

    fn configure(&self, interfaces: &[InterfaceConfig]) -> Result<(), String> {
        parts::configure(interfaces)
    }

    fn network(&self) -> NetworkView {
        parts::network()
    }
}

/// How a disk of the inventory is opened.
fn spec(disk: &Disk) -> DiskSpec {
    DiskSpec {
        name: disk.name.clone(),
        // Linux writes a slash in a device name as `!` in sysfs.
        path: Path::new("/dev").join(disk.name.replace('!', "/")),
        virtual_size: disk.virtual_size,
        logical_sector_size: disk.logical_sector_size,
        physical_sector_size: disk.physical_sector_size,
    }
}

/// This machine with other disks: `--disk`. Its network is left as it is.
#[derive(Debug)]
pub(crate) struct Given {
    machine_id: Option<[u8; 32]>,
    disks: Vec<(Disk, DiskSpec)>,
}

impl Given {
    /// Looks at the files or devices.
    pub(crate) fn new(paths: &[PathBuf], machine_id: Option<[u8; 32]>) -> Result<Self, String> {
        let disks = paths
            .iter()
            .zip(1..)
            .map(|(path, number)| look_at(path, number));
        Ok(Self {
            machine_id,
            disks: disks.collect::<Result<_, _>>()?,
        })
    }
}

impl Host for Given {
    fn detect(&self) -> Detected {
        let mut inventory = parts::detect();
        inventory.disks = self.disks.iter().map(|(disk, _)| disk.clone()).collect();
        inventory.machine_id = match self.machine_id {
            Some(id) => id.to_vec(),
            // Other files are another machine.
            None => {
                let mut hasher = blake3::Hasher::new();
                hasher.update(&inventory.machine_id);
                for (_, spec) in &self.disks {
                    hasher.update(spec.path.as_os_str().as_encoded_bytes());
                    hasher.update(&spec.virtual_size.to_le_bytes());
                }
                hasher.finalize().as_bytes().to_vec()
            }
        };
        let disks = self.disks.iter().map(|(_, spec)| spec.clone()).collect();
        Detected { inventory, disks }
    }

    fn configure(&self, _interfaces: &[InterfaceConfig]) -> Result<(), String> {
        Ok(())
    }

    fn network(&self) -> NetworkView {
        parts::network()
    }
}

fn look_at(path: &Path, number: u32) -> Result<(Disk, DiskSpec), String> {
    let wrong = |error: std::io::Error| format!("--disk {}: {error}", path.display());
    let path = path.canonicalize().map_err(wrong)?;
    let kind = fs::metadata(&path).map_err(wrong)?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(format!(
            "--disk {}: expected a file or a disk",
            path.display()
        ));
    }
    let size = FileMedium::open(&path)
        .and_then(|medium| medium.byte_len())
        .map_err(wrong)?;
    if size == 0 {
        return Err(format!("--disk {}: it is empty", path.display()));
    }
    let base = path.file_name().unwrap_or_default().to_string_lossy();
    let (name, logical, physical) = if kind.is_block_device() {
        let queue = |what: &str| {
            let text = fs::read_to_string(format!("/sys/class/block/{base}/queue/{what}"));
            text.ok()
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(SECTOR)
        };
        let sizes = (queue("logical_block_size"), queue("physical_block_size"));
        (base.into_owned(), sizes.0, sizes.1)
    } else {
        (format!("disk{number}"), SECTOR, SECTOR)
    };
    let disk = Disk {
        name: name.clone(),
        kind: if kind.is_file() {
            DiskKind::File
        } else {
            DiskKind::Plain
        }
        .into(),
        virtual_size: size,
        logical_sector_size: logical,
        physical_sector_size: physical,
        extents_known: kind.is_file(),
        ..Disk::default()
    };
    let spec = DiskSpec {
        name,
        path,
        virtual_size: size,
        logical_sector_size: logical,
        physical_sector_size: physical,
    };
    Ok((disk, spec))
}
