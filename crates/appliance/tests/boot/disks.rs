//! Small disks, made by user-space tools: no file system is mounted on the host.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::md::Superblock;

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

    /// A disk that is there already.
    pub(crate) fn at(path: &Path) -> Disk {
        let file = File::options().read(true).write(true).open(path).unwrap();
        Disk {
            path: path.to_owned(),
            file,
        }
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

    /// UUID of what is on it.
    pub(crate) fn uuid(&self) -> String {
        let told = run(Command::new("/usr/sbin/blkid")
            .args(["-p", "-s", "UUID", "-o", "value"])
            .arg(&self.path));
        told.trim().to_owned()
    }

    /// Where allocation group `index` of an XFS begins: its superblock has the size of a block at 4 and the blocks of a
    /// group at 84, big-endian (XFS Algorithms & Data Structures, "Superblocks").
    pub(crate) fn ag_offset(&self, index: u64) -> u64 {
        let field = |at| {
            let mut bytes = [0; 4];
            self.file.read_exact_at(&mut bytes, at).unwrap();
            u64::from(u32::from_be_bytes(bytes))
        };
        index * field(4) * field(84)
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

/// Makes the disk a volume group, and lets `work` go on with lvm(8). LVM wants a block device, so a loop device lends its name
/// while the metadata are written.
pub(crate) fn volume_group(dir: &Path, disk: &Disk, vg: &str, work: impl FnOnce(&dyn Fn(&[&str]))) {
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
    work(&lvm);
    run(Command::new("/usr/sbin/losetup").args(["--detach", device]));
}

/// Puts the image `content` into a logical volume VG/LV on a disk without partition table.
pub(crate) fn lvm(dir: &Path, name: &str, vg: &str, lv: &str, content: &Path) -> Disk {
    const PE_START: u64 = MIB;
    let extents = fs::metadata(content).unwrap().len() / (4 * MIB);
    let disk = Disk::new(dir, name, (extents + 4) * 4 * MIB);
    let count = extents.to_string();
    volume_group(dir, &disk, vg, |lvm| {
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
    });
    disk.put(PE_START, content)
}

/// The image `content` inside LUKS version 1 with this passphrase, its key derivation cheap: cryptsetup makes the header,
/// and QEMU, which needs no device mapper, encrypts what is inside.
pub(crate) fn luks(dir: &Path, name: &str, passphrase: &str, content: &Path) -> Disk {
    const HEADER: u64 = 2 * MIB;
    let disk = Disk::blank(dir, name, HEADER + fs::metadata(content).unwrap().len());
    let key = dir.join(format!("{name}.key"));
    fs::write(&key, passphrase).unwrap();
    run(Command::new("/usr/sbin/cryptsetup")
        .args([
            "luksFormat",
            "--type",
            "luks1",
            "--batch-mode",
            "--pbkdf-force-iterations",
            "1000",
            "--key-file",
        ])
        .args([&key, &disk.path]));
    run(Command::new("qemu-img")
        .args(["convert", "-n", "-f", "raw", "--object"])
        .arg(format!("secret,id=key,data={passphrase}"))
        .arg(content)
        .arg("--target-image-opts")
        .arg(format!(
            "driver=luks,key-secret=key,file.filename={}",
            disk.path.display()
        )));
    disk
}

/// Half `role` of a RAID 1 array called `web01:NAME` that holds `content`: superblock version 1.2.
pub(crate) fn raid1(dir: &Path, file: &str, name: &str, role: u16, content: &Path) -> Disk {
    const DATA_OFFSET: u64 = MIB;
    let len = fs::metadata(content).unwrap().len();
    let disk = Disk::new(dir, file, DATA_OFFSET + len);
    let block = Superblock {
        set: 7,
        name,
        level: 1,
        size: len / 512,
        members: 2,
        data_at: DATA_OFFSET / 512,
        at: 8,
        role,
        device: u8::try_from(role).unwrap() + 1,
        ..Superblock::default()
    }
    .to_bytes();
    disk.bytes(0, &[0; 8192])
        .bytes(4096, &block)
        .put(DATA_OFFSET, content)
}

/// The same with LUKS version 2.
pub(crate) fn luks2(dir: &Path, name: &str, passphrase: &str, content: &Path) -> Disk {
    let disk = luks(dir, name, passphrase, content);
    run(Command::new("/usr/sbin/cryptsetup")
        .args(["--batch-mode", "convert", "--type", "luks2"])
        .arg(&disk.path));
    disk
}

/// Like [`lvm`], with the volume `root`, and `lost` on a second disk that is gone.
pub(crate) fn partial_lvm(dir: &Path, name: &str, vg: &str, content: &Path) -> Disk {
    const PE_START: u64 = MIB;
    let extents = fs::metadata(content).unwrap().len() / (4 * MIB);
    let disk = Disk::new(dir, name, (extents + 4) * 4 * MIB);
    let gone = Disk::new(dir, &format!("{name}.gone"), 32 * MIB);
    let devices = [&disk, &gone].map(|disk| {
        let told = run(Command::new("/usr/sbin/losetup")
            .args(["--find", "--show"])
            .arg(&disk.path));
        told.trim().to_owned()
    });
    let [here, there] = &devices;
    let lvm = |arguments: &[&str]| {
        let config = format!(
            "devices{{scan_lvs=0 use_devicesfile=0 filter=[\"a|^{here}$|\",\"a|^{there}$|\",\"r|.*|\"]}} \
             backup{{backup=0 archive=0}} activation{{udev_sync=0 udev_rules=0}} global{{locking_dir=\"{}\"}}",
            dir.display()
        );
        run(Command::new("/usr/sbin/lvm")
            .arg(arguments[0])
            .args(["--config", &config])
            .args(&arguments[1..]));
    };
    lvm(&["pvcreate", "-ff", "-y", here, there]);
    lvm(&["vgcreate", vg, here, there]);
    let quiet = ["--driverloaded", "n", "-an", "-Zn", "-Wn"];
    let create = |name: &str, extents: u64, on: &str| {
        let extents = extents.to_string();
        lvm(&[
            &["lvcreate"],
            &quiet[..],
            &["-l", &extents, "-n", name, vg, on],
        ]
        .concat());
    };
    create("root", extents, here);
    create("lost", 2, there);
    for device in &devices {
        run(Command::new("/usr/sbin/losetup").args(["--detach", device]));
    }
    disk.put(PE_START, content)
}

/// Half 0 of a RAID 1 array whose other half is gone, with its superblock at the end: version 1.0 or
/// 0.90 (kernel include/uapi/linux/raid/md_p.h, struct mdp_superblock_s). `name` is the preferred minor
/// number in the latter.
pub(crate) fn array(dir: &Path, file: &str, version: &str, name: &str, content: &Path) -> Disk {
    let len = fs::metadata(content).unwrap().len();
    let disk = Disk::new(dir, file, len + MIB).put(0, content);
    if version == "0.90" {
        // In the last whole 64 KiB of the member.
        return disk.bytes(
            len + MIB - 64 * 1024,
            &superblock_0_90(name.parse().unwrap(), len),
        );
    }
    // At least 8 KiB and less than 12 KiB before the end, on 4 KiB.
    let at = len + MIB - 8192;
    let block = Superblock {
        set: 9,
        name,
        level: 1,
        size: len / 512,
        members: 2,
        at: at / 512,
        device: 3,
        ..Superblock::default()
    };
    disk.bytes(at, &block.to_bytes())
}

/// 1024 words; the states of 27 disks, 32 words each, begin at word 128, this disk's at 992.
fn superblock_0_90(minor: u32, len: u64) -> Vec<u8> {
    let mut block = vec![0u8; 4096];
    let mut put = |word: usize, value: u32| {
        block[word * 4..word * 4 + 4].copy_from_slice(&value.to_le_bytes())
    };
    put(0, 0xa92b_4efc);
    put(2, 90);
    put(5, 0x1234_5678);
    put(6, 1_700_000_000);
    put(7, 1);
    put(8, u32::try_from(len / 1024).unwrap());
    for (word, value) in [
        (9, 2),
        (10, 2),
        (11, minor),
        (13, 0xaaaa_0001),
        (14, 0xaaaa_0002),
        (15, 0xaaaa_0003),
    ] {
        put(word, value);
    }
    // Clean; two working disks.
    for (word, value) in [(32, 1_700_000_000), (33, 1), (34, 2), (35, 2), (39, 10)] {
        put(word, value);
    }
    // Number, major, minor, role, state: active and in sync (bits 1 and 2).
    for disk in 0..2u32 {
        let at = 128 + 32 * usize::try_from(disk).unwrap();
        for (field, value) in [(0, disk), (1, 8), (2, 16 * disk), (3, disk), (4, 6)] {
            put(at + field, value);
        }
    }
    for (field, value) in [(1, 8), (4, 6)] {
        put(992 + field, value);
    }
    let sum: u64 = words(&block).sum();
    let checksum = u32::try_from((sum & 0xffff_ffff) + (sum >> 32)).unwrap();
    block[38 * 4..39 * 4].copy_from_slice(&checksum.to_le_bytes());
    block
}

pub(crate) fn words(block: &[u8]) -> impl Iterator<Item = u64> {
    block
        .chunks(4)
        .map(|word| u64::from(u32::from_le_bytes(word.try_into().unwrap())))
}

/// True when this host's kernel has the file system; says so loudly when not.
pub(crate) fn host_can_mount(kind: &str) -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let can = known.lines().any(|line| line.trim() == kind);
    if !can {
        testkit::skip(&format!("this kernel has no {kind}"));
    }
    can
}

/// Mounts the disk through a loop device while `work` runs.
pub(crate) fn mounted(dir: &Path, disk: &Disk, kind: &str, work: impl FnOnce(&Path)) {
    let point = dir.join("mounted");
    fs::create_dir_all(&point).unwrap();
    run(Command::new("mount")
        .args(["-t", kind, "-o", "loop"])
        .arg(&disk.path)
        .arg(&point));
    let unmount = Unmount(&point);
    work(&point);
    drop(unmount);
}

struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}
