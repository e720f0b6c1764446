//! A Debian-like guest as a directory, with real module lists (by depmod) and a real initramfs (by cpio).

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use types::{
    BlockDevice, ConvertOptions, ConvertOutcome, DeviceKind, GuestInfo, MacAddr, Mountpoint, Nic,
    NicNetwork, StorageMap,
};

use super::ko;
use crate::{Result, Root};

pub(crate) const KVER: &str = "6.1.0-18-amd64";
pub(crate) const ROOT_UUID: &str = "11111111-2222-4333-8444-555555555555";
pub(crate) const SWAP_UUID: &str = "22222222-2222-4333-8444-555555555555";
pub(crate) const ESP_UUID: &str = "ABCD-1234";

/// Name, exports, needs, directory below kernel/.
pub(crate) const MODULES: [(&str, &[&str], &[&str], &str); 14] = [
    ("virtio", &["virtio_register"], &[], "drivers/virtio"),
    (
        "virtio_ring",
        &["vring_new"],
        &["virtio_register"],
        "drivers/virtio",
    ),
    (
        "virtio_pci_legacy_dev",
        &["vp_legacy"],
        &[],
        "drivers/virtio",
    ),
    (
        "virtio_pci_modern_dev",
        &["vp_modern"],
        &[],
        "drivers/virtio",
    ),
    (
        "virtio_pci",
        &["vp_probe"],
        &["vring_new", "vp_legacy", "vp_modern"],
        "drivers/virtio",
    ),
    (
        "virtio_blk",
        &[],
        &["virtio_register", "vring_new"],
        "drivers/block",
    ),
    (
        "virtio_scsi",
        &[],
        &["virtio_register", "scsi_add"],
        "drivers/scsi",
    ),
    (
        "virtio_net",
        &[],
        &["virtio_register", "net_failover_create"],
        "drivers/net",
    ),
    ("virtio_console", &[], &["virtio_register"], "drivers/char"),
    (
        "net_failover",
        &["net_failover_create"],
        &["failover_register"],
        "drivers/net",
    ),
    ("failover", &["failover_register"], &[], "net/core"),
    ("scsi_mod", &["scsi_add"], &[], "drivers/scsi"),
    ("sd_mod", &[], &["scsi_add"], "drivers/scsi"),
    ("vmw_pvscsi", &[], &["scsi_add"], "drivers/scsi"),
];

/// How the modules' files are packed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packed {
    No,
    Gz,
    Xz,
    Zst,
}

/// A guest in a directory.
pub(crate) struct Tree {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) storage: StorageMap,
    pub(crate) mounts: Vec<Mountpoint>,
}

/// True when the tools are there; loud otherwise, fatal in CI.
pub(crate) fn tools(names: &[&str]) -> bool {
    let dirs = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];
    let missing: Vec<&&str> = names
        .iter()
        .filter(|name| !dirs.iter().any(|dir| Path::new(dir).join(name).exists()))
        .collect();
    assert!(
        missing.is_empty() || std::env::var_os("CI").is_none(),
        "missing in CI: {missing:?}"
    );
    if !missing.is_empty() {
        eprintln!("SKIP: needs {missing:?}");
    }
    missing.is_empty()
}

pub(crate) fn run(command: &mut Command) -> Vec<u8> {
    let output = command.stderr(Stdio::piped()).output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Passes bytes through a program.
pub(crate) fn pipe(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{command:?}");
    output.stdout
}

impl Tree {
    /// A Debian 12 with merged /usr, on sda1 (ext4) and sda2 (swap), everything by device name.
    pub(crate) fn debian() -> Self {
        let mut tree = Self {
            dir: tempfile::tempdir().unwrap(),
            storage: bios_storage(),
            mounts: Vec::new(),
        };
        for link in ["lib", "bin", "sbin"] {
            fs::create_dir_all(tree.at(&format!("/usr/{link}"))).unwrap();
            symlink(format!("usr/{link}"), tree.at(&format!("/{link}"))).unwrap();
        }
        let mut sh = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
        sh.resize(16, 0);
        sh.extend_from_slice(&[3, 0, 62, 0]);
        tree.put("/usr/bin/sh", &sh);
        for (path, text) in FILES {
            tree.put(path, text.as_bytes());
        }
        symlink("../lib/systemd/systemd", tree.at("/usr/sbin/init")).unwrap();
        tree.mounts = vec![mount("/dev/sda1", "/", "ext4")];
        tree
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    pub(crate) fn put(&self, path: &str, content: &[u8]) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Installs a kernel, its modules and their lists.
    pub(crate) fn add_kernel(&self, kver: &str, packed: Packed) {
        let dir = format!("/usr/lib/modules/{kver}");
        for (name, exports, needs, below) in MODULES {
            let alias = format!("virtio:{name}");
            let content = ko::module(name, exports, needs, &[&alias]);
            let (suffix, content) = match packed {
                Packed::No | Packed::Gz => ("", content),
                Packed::Xz => (
                    ".xz",
                    pipe(Command::new("xz").args(["--check=crc32", "-c"]), &content),
                ),
                Packed::Zst => (
                    ".zst",
                    pipe(Command::new("zstd").args(["-q", "-c"]), &content),
                ),
            };
            self.put(&format!("{dir}/kernel/{below}/{name}.ko{suffix}"), &content);
        }
        self.put(
            &format!("{dir}/modules.builtin"),
            b"kernel/fs/ext4/ext4.ko\n",
        );
        self.put(&format!("{dir}/modules.order"), b"");
        self.put(&format!("/boot/vmlinuz-{kver}"), b"kernel");
        self.put(
            &format!("/boot/config-{kver}"),
            b"CONFIG_RD_GZIP=y\nCONFIG_RD_ZSTD=y\n",
        );
        run(Command::new("depmod")
            .arg("-b")
            .arg(self.dir.path())
            .arg(kver));
        if packed == Packed::Gz {
            // Our depmod may be built without zlib, so that it makes the lists before.
            let dir = self.at(&dir);
            let script =
                "find . -name '*.ko' -exec gzip -n {} + && sed -i 's/\\.ko/.ko.gz/g' modules.dep";
            run(Command::new("sh").current_dir(dir).args(["-c", script]));
        }
    }

    /// Makes an initramfs of initramfs-tools' shape that holds these modules; `pack` gets the cpio archive.
    pub(crate) fn add_initrd(&self, kver: &str, modules: &[&str], pack: impl Fn(&[u8]) -> Vec<u8>) {
        let scratch = tempfile::tempdir().unwrap();
        let inside = scratch.path();
        let source = self.at(&format!("/usr/lib/modules/{kver}"));
        let target = inside.join(format!("usr/lib/modules/{kver}"));
        fs::create_dir_all(&target).unwrap();
        for dir in [
            "conf/conf.d",
            "scripts",
            "usr/lib/udev/rules.d",
            "usr/lib/systemd/network",
        ] {
            fs::create_dir_all(inside.join(dir)).unwrap();
        }
        symlink("usr/lib", inside.join("lib")).unwrap();
        let files = [
            ("conf/initramfs.conf", "MODULES=list\n"),
            ("conf/modules", "vmw_pvscsi\n"),
            ("conf/conf.d/resume", "RESUME=/dev/sda2\n"),
            ("scripts/functions", "# functions\n"),
            ("init", "#!/bin/sh\n"),
            (
                "usr/lib/udev/rules.d/80-net-setup-link.rules",
                "IMPORT{builtin}=\"net_setup_link\"\n",
            ),
        ];
        for (path, text) in files {
            fs::write(inside.join(path), text).unwrap();
        }
        let all = String::from_utf8(run(Command::new("find")
            .arg(&source)
            .args(["-name", "*.ko*"])))
        .unwrap();
        for path in all.lines() {
            let name = Path::new(path)
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .split('.')
                .next()
                .unwrap();
            if modules.contains(&name) {
                let to = target.join(Path::new(path).strip_prefix(&source).unwrap());
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::copy(path, to).unwrap();
            }
        }
        run(Command::new("depmod").arg("-b").arg(inside).arg(kver));
        let list = String::from_utf8(run(Command::new("find").current_dir(inside).args([
            ".",
            "-mindepth",
            "1",
        ])))
        .unwrap();
        let mut names: Vec<&str> = list.lines().collect();
        names.sort_unstable();
        let cpio = pipe(
            Command::new("cpio")
                .current_dir(inside)
                .args(["-o", "-H", "newc"]),
            names.join("\n").as_bytes(),
        );
        self.put(&format!("/boot/initrd.img-{kver}"), &pack(&cpio));
    }

    pub(crate) fn root(&self) -> Root {
        Root::open(self.dir.path()).unwrap()
    }

    pub(crate) fn inspect(&self) -> GuestInfo {
        crate::inspect(&self.root(), &self.storage, &self.mounts).unwrap()
    }

    pub(crate) fn try_convert(&self, options: &ConvertOptions) -> Result<ConvertOutcome> {
        crate::convert(
            &self.root(),
            &self.inspect(),
            &self.storage,
            options,
            &mut |_| {},
        )
    }

    pub(crate) fn convert(&self, options: &ConvertOptions) -> ConvertOutcome {
        self.try_convert(options)
            .unwrap_or_else(|error| panic!("{}", error.chain()))
    }

    /// Every path with a hash of its content or its link's target.
    pub(crate) fn fingerprint(&self) -> String {
        let script = "find . -type f -exec sha256sum {} + | sort -k2; find . -type l -printf '%p -> %l\\n' | sort";
        String::from_utf8(run(Command::new("sh")
            .current_dir(self.dir.path())
            .args(["-c", script])))
        .unwrap()
    }
}

/// Writes a file of a tree that is no Debian.
pub(crate) fn put_at(root: &Path, path: &str, content: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

pub(crate) fn mount(device: &str, path: &str, fs_type: &str) -> Mountpoint {
    Mountpoint {
        device: device.into(),
        path: path.into(),
        fs_type: fs_type.into(),
    }
}

pub(crate) fn mac(last: u8) -> MacAddr {
    MacAddr([0x00, 0x50, 0x56, 0, 0, last])
}

pub(crate) fn options(macs: &[MacAddr]) -> ConvertOptions {
    let nic = |mac: &MacAddr| Nic {
        mac: Some(*mac),
        model: None,
        network: NicNetwork::Network("default".into()),
        source_network: "VM Network".into(),
        guest_name: None,
    };
    ConvertOptions {
        nics: macs.iter().map(nic).collect(),
        ..ConvertOptions::default()
    }
}

pub(crate) fn device(
    name: &str,
    kind: DeviceKind,
    content: &str,
    uuid: Option<&str>,
) -> BlockDevice {
    let partuuid = match &kind {
        DeviceKind::Partition { number, .. } => Some(format!("deadbeef-{number:02}")),
        _ => None,
    };
    BlockDevice {
        name: name.into(),
        kind,
        virtual_size: 1 << 30,
        start: None,
        content: content.into(),
        uuid: uuid.map(str::to_owned),
        label: None,
        partuuid,
        partlabel: None,
        parttype: None,
    }
}

pub(crate) fn disk(index: u32, table: &str) -> BlockDevice {
    let name = format!("/dev/sd{}", types::disk_letters(index));
    device(
        &name,
        DeviceKind::Disk {
            disk: index,
            table: table.into(),
        },
        "",
        None,
    )
}

pub(crate) fn part(disk: u32, number: u32, content: &str, uuid: Option<&str>) -> BlockDevice {
    let name = format!("/dev/sd{}{number}", types::disk_letters(disk));
    device(&name, DeviceKind::Partition { disk, number }, content, uuid)
}

fn bios_storage() -> StorageMap {
    let devices = vec![
        disk(0, "dos"),
        part(0, 1, "ext4", Some(ROOT_UUID)),
        part(0, 2, "swap", Some(SWAP_UUID)),
    ];
    StorageMap { devices }
}

const FILES: [(&str, &str); 16] = [
    (
        "/etc/os-release",
        "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n",
    ),
    ("/etc/hostname", "web01\n"),
    (
        "/etc/fstab",
        "# <file system> <mount point>\n/dev/sda1 /    ext4 errors=remount-ro 0 1\n/dev/sda2\tnone swap sw 0 0\n/dev/sr0 /media/cdrom0 udf,iso9660 user,noauto 0 0\n",
    ),
    ("/etc/crypttab", "# none\n"),
    (
        "/etc/default/grub",
        "GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX=\"console=ttyS0 resume=/dev/sda2\"\n",
    ),
    (
        "/boot/grub/grub.cfg",
        "set default=\"0\"\nmenuentry 'Debian' $menuentry_id_option 'simple' {\n\tset root='hd0,msdos1'\n\
         \tlinux /boot/vmlinuz-6.1.0-18-amd64 root=/dev/sda1 ro console=ttyS0 resume=/dev/sda2\n\tinitrd /boot/initrd.img-6.1.0-18-amd64\n}\n",
    ),
    ("/boot/grub/device.map", "(hd0)\t/dev/sda\n"),
    ("/boot/grub/i386-pc/core.img", "core"),
    ("/etc/initramfs-tools/modules", "# list\nvmw_pvscsi\n"),
    ("/etc/initramfs-tools/conf.d/resume", "RESUME=/dev/sda2\n"),
    ("/usr/sbin/update-initramfs", "#!/bin/sh\n"),
    ("/usr/lib/systemd/systemd", "systemd"),
    (
        "/usr/lib/udev/rules.d/80-net-setup-link.rules",
        "IMPORT{builtin}=\"net_setup_link\"\n",
    ),
    (
        "/etc/network/interfaces",
        "source /etc/network/interfaces.d/*\n\nauto lo\niface lo inet loopback\n\nauto ens192\niface ens192 inet static\n\taddress 10.0.2.77/24\n",
    ),
    (
        "/var/lib/dpkg/status",
        "Package: open-vm-tools\nStatus: install ok installed\n\nPackage: qemu-guest-agent\nStatus: install ok installed\n",
    ),
    ("/etc/adjtime", "0.0 0 0.0\n0\nUTC\n"),
];
