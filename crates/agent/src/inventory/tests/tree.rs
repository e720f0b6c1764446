//! A fake /sys, /proc, /dev and /run in a temporary folder.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use wire::inventory::{Disk, Inventory};

use crate::inventory::{Paths, detect};

/// One machine.
pub(super) struct Tree(TempDir);

impl Tree {
    pub(super) fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for dir in [
            "sys/block",
            "sys/class/block",
            "sys/class/net",
            "proc",
            "dev",
            "run",
        ] {
            fs::create_dir_all(tree.path(dir)).unwrap();
        }
        tree
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    pub(super) fn paths(&self) -> Paths {
        Paths::below(self.0.path())
    }

    pub(super) fn detect(&self) -> Inventory {
        detect(&self.paths())
    }

    /// Files with contents.
    pub(super) fn files(&self, files: &[(&str, &str)]) -> &Self {
        for (path, content) in files {
            self.file(path, format!("{content}\n"));
        }
        self
    }

    pub(super) fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// A symbolic link to another place in the tree.
    pub(super) fn link(&self, path: &str, to: &str) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(self.path(to), path).unwrap();
        self
    }

    /// A PCI function at a place below /sys/devices, e.g. `pci0000:00/0000:00:1f.2`.
    pub(super) fn pci(&self, place: &str, driver: &str, class: &str) -> &Self {
        let dir = format!("sys/devices/{place}");
        self.files(&[
            (&format!("{dir}/class"), class),
            (&format!("{dir}/vendor"), "0x8086"),
            (&format!("{dir}/device"), "0x10d3"),
        ]);
        fs::create_dir_all(self.path(&format!("sys/bus/pci/drivers/{driver}"))).unwrap();
        self.link(
            &format!("{dir}/driver"),
            &format!("sys/bus/pci/drivers/{driver}"),
        )
    }

    /// A block device of some MiB at a place, with attributes.
    pub(super) fn block(&self, name: &str, place: &str, mib: u64, more: &[(&str, &str)]) -> &Self {
        let entry = name.replace('/', "!");
        let device = format!("sys/devices/{place}");
        let dir = format!("{device}/block/{entry}");
        self.file(&format!("{dir}/size"), (mib * 2048).to_string());
        fs::create_dir_all(self.path(&device)).unwrap();
        self.link(&format!("{dir}/device"), &device);
        self.link(&format!("sys/block/{entry}"), &dir);
        self.link(&format!("sys/class/block/{entry}"), &dir);
        for (attribute, value) in more {
            self.file(&format!("{dir}/{attribute}"), value);
        }
        let file = self.path(&format!("dev/{name}"));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::File::create(file).unwrap().set_len(mib << 20).unwrap();
        self
    }

    /// A SCSI or SATA disk with a model and a serial number.
    pub(super) fn scsi(&self, name: &str, place: &str, mib: u64, serial: &str) -> &Self {
        let mut page = vec![0, 0x80, 0, u8::try_from(serial.len()).unwrap()];
        page.extend(serial.as_bytes());
        self.block(
            name,
            place,
            mib,
            &[
                ("device/vendor", "ATA     "),
                ("device/model", "DISK 9000       "),
            ],
        );
        self.file(&format!("sys/devices/{place}/vpd_pg80"), page);
        self.file(
            &format!("sys/devices/{place}/wwid"),
            format!("naa.5000{serial}"),
        )
    }

    /// A partition that is a member of something.
    pub(super) fn partition(&self, disk: &str, name: &str) -> &Self {
        let real = fs::canonicalize(self.path(&format!("sys/block/{disk}"))).unwrap();
        fs::create_dir_all(real.join(name)).unwrap();
        symlink(
            real.join(name),
            self.path(&format!("sys/class/block/{name}")),
        )
        .unwrap();
        self
    }

    /// An array or a map made of these.
    pub(super) fn made_of(
        &self,
        name: &str,
        mib: u64,
        more: &[(&str, &str)],
        of: &[&str],
    ) -> &Self {
        self.block(name, &format!("virtual/{name}"), mib, more);
        for member in of {
            self.link(
                &format!("sys/devices/virtual/{name}/block/{name}/slaves/{member}"),
                &format!("sys/class/block/{member}"),
            );
        }
        self
    }

    /// An Ethernet interface at a place.
    pub(super) fn nic(&self, name: &str, place: &str, mac: &str, more: &[(&str, &str)]) -> &Self {
        let dir = format!("sys/devices/{place}/net/{name}");
        self.files(&[
            (&format!("{dir}/address"), mac),
            (&format!("{dir}/type"), "1"),
            (&format!("{dir}/addr_assign_type"), "0"),
        ]);
        for (attribute, value) in more {
            self.file(&format!("{dir}/{attribute}"), value);
        }
        self.link(&format!("{dir}/device"), &format!("sys/devices/{place}"));
        self.link(&format!("sys/class/net/{name}"), &dir)
    }

    /// Puts bytes on a disk.
    pub(super) fn put(&self, disk: &str, offset: u64, bytes: &[u8]) -> &Self {
        use std::os::unix::fs::FileExt;
        let file = fs::OpenOptions::new()
            .write(true)
            .open(self.path(&format!("dev/{disk}")));
        file.unwrap().write_all_at(bytes, offset).unwrap();
        self
    }
}

/// Names of all disks, those that are left out in brackets.
pub(super) fn order(inventory: &Inventory) -> Vec<String> {
    let name = |disk: &Disk| match disk.left_out.as_str() {
        "" => disk.name.clone(),
        _ => format!("({})", disk.name),
    };
    inventory.disks.iter().map(name).collect()
}

pub(super) fn disk<'a>(inventory: &'a Inventory, name: &str) -> &'a Disk {
    inventory
        .disks
        .iter()
        .find(|disk| disk.name == name)
        .unwrap()
}

/// An MBR with a signature and one active partition of this type.
pub(super) fn mbr(signature: u32, kind: u8, start: u32, count: u32) -> Vec<u8> {
    let mut sector = vec![0u8; 512];
    sector[440..444].copy_from_slice(&signature.to_le_bytes());
    sector[446] = 0x80;
    sector[450] = kind;
    sector[454..458].copy_from_slice(&start.to_le_bytes());
    sector[458..462].copy_from_slice(&count.to_le_bytes());
    sector[510..512].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// Runs a tool; its standard input is `input`.
pub(super) fn run(program: &str, args: &[&str], on: &Path, input: &str) {
    use std::io::Write;
    let mut child = std::process::Command::new(program)
        .args(args)
        .arg(on)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {stderr}");
}
