//! Small disks, made by user-space tools: no file system is mounted on the host.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) const MIB: u64 = 1 << 20;
/// What was on the disk before its file systems were: free blocks that are not discarded show it.
const OLD_DATA: u8 = 0xaa;

/// A raw disk file being made.
pub(crate) struct Disk {
    pub(crate) path: PathBuf,
    file: File,
}

impl Disk {
    /// A disk full of old data.
    pub(crate) fn new(dir: &Path, name: &str, size: u64) -> Disk {
        let path = dir.join(name);
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        let block = vec![OLD_DATA; usize::try_from(MIB).unwrap()];
        for at in (0..size).step_by(block.len()) {
            file.write_all_at(&block, at).unwrap();
        }
        Disk { path, file }
    }

    /// A disk of zeroes.
    pub(crate) fn blank(dir: &Path, name: &str, size: u64) -> Disk {
        let path = dir.join(name);
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        file.set_len(size).unwrap();
        Disk { path, file }
    }

    /// Writes a partition table, as sfdisk(8) takes it.
    pub(crate) fn partition(self, script: &str) -> Disk {
        let mut sfdisk = Command::new("/usr/sbin/sfdisk")
            .args([
                "--quiet",
                "--wipe",
                "always",
                "--no-reread",
                "--no-tell-kernel",
            ])
            .arg(&self.path)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        sfdisk
            .stdin
            .take()
            .unwrap()
            .write_all(script.as_bytes())
            .unwrap();
        assert!(sfdisk.wait().unwrap().success());
        self
    }

    /// Copies the file `content` to `offset`.
    pub(crate) fn put(self, offset: u64, content: &Path) -> Disk {
        let mut from = File::open(content).unwrap();
        let mut block = vec![0; usize::try_from(MIB).unwrap()];
        let mut at = offset;
        loop {
            let len = from.read(&mut block).unwrap();
            if len == 0 {
                return self;
            }
            self.file.write_all_at(&block[..len], at).unwrap();
            at += u64::try_from(len).unwrap();
        }
    }

    /// Writes bytes.
    pub(crate) fn bytes(self, offset: u64, bytes: &[u8]) -> Disk {
        self.file.write_all_at(bytes, offset).unwrap();
        self
    }

    /// Copies `len` bytes at `offset` to a file beside the disk.
    pub(crate) fn cut(&self, offset: u64, len: u64) -> PathBuf {
        let path = self.path.with_extension("cut");
        let mut bytes = vec![0; usize::try_from(len).unwrap()];
        self.file.read_exact_at(&mut bytes, offset).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Bytes that the file occupies.
    pub(crate) fn actual_size(&self) -> u64 {
        self.file.metadata().unwrap().blocks() * 512
    }
}

/// A tree that inspection takes for a Debian called `hostname`.
pub(crate) fn tree(dir: &Path, hostname: &str, fstab: &str) -> PathBuf {
    let tree = dir.join(format!("tree-{hostname}"));
    for folder in [
        "etc",
        "usr/bin",
        "usr/lib",
        "boot/efi",
        "home",
        "var/lib/dpkg",
    ] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    let release = "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
    for (file, text) in [
        ("etc/os-release", release),
        ("etc/hostname", hostname),
        ("etc/fstab", fstab),
    ] {
        fs::write(tree.join(file), text).unwrap();
    }
    tree
}

/// An image of `size` bytes with a file system that holds `tree`, on top of old data.
pub(crate) fn ext(dir: &Path, kind: &str, tree: &Path, uuid: &str, size: u64) -> PathBuf {
    let disk = Disk::new(dir, &format!("fs-{uuid}"), size);
    let arguments = [
        "-q",
        "-F",
        "-t",
        kind,
        "-E",
        "nodiscard,lazy_itable_init=0",
        "-U",
        uuid,
        "-d",
    ];
    run(Command::new("/usr/sbin/mke2fs")
        .args(arguments)
        .arg(tree)
        .arg(&disk.path));
    disk.path
}

/// A FAT file system.
pub(crate) fn fat(dir: &Path, serial: &str, size: u64) -> PathBuf {
    let disk = Disk::new(dir, &format!("fat-{serial}"), size);
    run(Command::new("/usr/sbin/mkfs.fat")
        .args(["-F", "32", "-i", serial, "-n", "ESP"])
        .arg(&disk.path));
    disk.path
}

/// Runs a host program that must succeed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Puts the image `content` into a logical volume VG/LV on a disk without partition table. LVM wants a block device,
/// so a loop device lends its name while the metadata are written.
pub(crate) fn lvm(dir: &Path, name: &str, vg: &str, lv: &str, content: &Path) -> Disk {
    const PE_START: u64 = MIB;
    let extents = fs::metadata(content).unwrap().len() / (4 * MIB);
    let disk = Disk::new(dir, name, (extents + 4) * 4 * MIB);
    let device = run(Command::new("/usr/sbin/losetup")
        .args(["--find", "--show"])
        .arg(&disk.path));
    let device = device.trim();
    let config = format!(
        "devices{{scan_lvs=0 use_devicesfile=0 filter=[\"a|^{device}$|\",\"r|.*|\"]}} backup{{backup=0 archive=0}} \
         activation{{udev_sync=0 udev_rules=0}} global{{locking_dir=\"{}\"}}",
        dir.display()
    );
    let lvm = |arguments: &[&str]| {
        run(Command::new("/usr/sbin/lvm")
            .arg(arguments[0])
            .args(["--config", &config])
            .args(&arguments[1..]));
    };
    lvm(&["pvcreate", "-ff", "-y", device]);
    lvm(&["vgcreate", vg, device]);
    let count = extents.to_string();
    lvm(&[
        "lvcreate",
        "--driverloaded",
        "n",
        "-an",
        "-Zn",
        "-Wn",
        "-l",
        &count,
        "-n",
        lv,
        vg,
    ]);
    run(Command::new("/usr/sbin/losetup").args(["--detach", device]));
    disk.put(PE_START, content)
}

/// The image `content` inside LUKS version 1 with this passphrase.
pub(crate) fn luks(dir: &Path, name: &str, passphrase: &str, content: &Path) -> Disk {
    let path = dir.join(name);
    run(Command::new("qemu-img")
        .args([
            "convert",
            "-f",
            "raw",
            "-O",
            "luks",
            "-o",
            "key-secret=key,iter-time=50",
        ])
        .arg("--object")
        .arg(format!("secret,id=key,data={passphrase}"))
        .arg(content)
        .arg(&path));
    let file = File::options().read(true).write(true).open(&path).unwrap();
    Disk { path, file }
}

/// Half `role` of a RAID 1 array called `web01:NAME` that holds `content`: superblock version 1.2, kernel
/// include/uapi/linux/raid/md_p.h, struct mdp_superblock_1.
pub(crate) fn raid1(dir: &Path, file: &str, name: &str, role: u16, content: &Path) -> Disk {
    const DATA_OFFSET: u64 = MIB;
    let len = fs::metadata(content).unwrap().len();
    let disk = Disk::new(dir, file, DATA_OFFSET + len);
    let mut block = [0u8; 256 + 2 * 2];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &0xa92b_4efc_u32.to_le_bytes());
    put(4, &1u32.to_le_bytes());
    put(16, &[7; 16]);
    put(32, format!("web01:{name}").as_bytes());
    put(72, &1u32.to_le_bytes());
    put(80, &(len / 512).to_le_bytes());
    put(92, &2u32.to_le_bytes());
    put(128, &(DATA_OFFSET / 512).to_le_bytes());
    put(136, &(len / 512).to_le_bytes());
    put(144, &8u64.to_le_bytes());
    put(160, &u32::from(role).to_le_bytes());
    put(168, &[u8::try_from(role).unwrap() + 1; 16]);
    put(200, &10u64.to_le_bytes());
    put(208, &u64::MAX.to_le_bytes());
    put(220, &2u32.to_le_bytes());
    put(256, &0u16.to_le_bytes());
    put(258, &1u16.to_le_bytes());
    let sum: u64 = block
        .chunks(4)
        .map(|word| u64::from(u32::from_le_bytes(word.try_into().unwrap())))
        .sum();
    let checksum = u32::try_from((sum & 0xffff_ffff) + (sum >> 32)).unwrap();
    block[216..220].copy_from_slice(&checksum.to_le_bytes());
    disk.bytes(0, &[0; 8192])
        .bytes(4096, &block)
        .put(DATA_OFFSET, content)
}
