//! Phony guests: the trees of many distributions as they really look, converted, and what became of them as golden files.
//!
//! A tree is data: files with the contents that the distribution has, its kernels with module lists by the real depmod,
//! initramfs files of its generator's shape packed by the real programs, and the storage below. The golden file of each
//! is read as the administrator of that distribution would read it: what is wrong in it is a bug.
//!
//! After a wanted change: `INSTA_UPDATE=always cargo test -p guest --lib phony`, and read the difference.

mod arch_alpine;
mod debian;
mod golden;
mod image_based;
mod independent;
mod old;
mod redhat;
pub(super) mod shapes;
mod suse;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use types::{ConvertOptions, DeviceKind};

use super::inspect::fixtures;
use super::ko;
use super::tree::{self, MODULES, Packed, Tree, device, disk, mac, mount, options, pipe, run};
use crate::linux::packages::tests::header;
use shapes::Shape;

const TOOLS: [&str; 11] = [
    "depmod", "cpio", "gzip", "xz", "zstd", "lz4", "lzma", "bzip2", "diff", "tar", "sqlite3",
];
/// What the initramfs of a guest of VMware holds.
pub(super) const VMWARE: [&str; 3] = ["scsi_mod", "sd_mod", "vmw_pvscsi"];
/// UUIDs by what they are of.
pub(super) const ROOT: &str = tree::ROOT_UUID;
pub(super) const SWAP: &str = tree::SWAP_UUID;
pub(super) const ESP: &str = tree::ESP_UUID;
pub(super) const BOOT: &str = "33333333-2222-4333-8444-555555555555";
pub(super) const DATA: &str = "44444444-2222-4333-8444-555555555555";

/// Where the programs and libraries are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// /bin, /sbin and /lib are directories.
    Split,
    /// They are links into /usr.
    Merged,
    /// /bin, /sbin and /usr/sbin are all /usr/bin (Arch, Fedora 42).
    OneBin,
}

/// A kernel as its package installs it.
#[derive(Clone, Copy)]
pub(super) struct Kernel {
    pub(super) version: &'static str,
    pub(super) image: &'static str,
    pub(super) packed: Packed,
    /// Modules that are built in.
    pub(super) builtin: &'static [&'static str],
    /// Modules that it does not have.
    pub(super) without: &'static [&'static str],
    /// Lines of its configuration in /boot; none is no such file.
    pub(super) config: &'static str,
}

/// No module missing or built in.
pub(super) const KERNEL: Kernel = Kernel {
    version: "",
    image: "",
    packed: Packed::No,
    builtin: &[],
    without: &[],
    config: "CONFIG_RD_GZIP=y\nCONFIG_RD_XZ=y\nCONFIG_RD_ZSTD=y\n",
};

/// A guest that is being made.
pub(super) struct Os {
    name: &'static str,
    pub(super) tree: Tree,
    pub(super) options: ConvertOptions,
    initrds: Vec<String>,
}

/// Begins a guest; `None`, said loudly, where tools are missing.
pub(super) fn os(name: &'static str, layout: Layout) -> Option<Os> {
    if !tree::tools(&TOOLS) {
        return None;
    }
    let tree = Tree {
        // Files are synced one by one: in memory that takes no time.
        dir: tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap()),
        storage: types::StorageMap {
            devices: Vec::new(),
        },
        mounts: Vec::new(),
    };
    let links: &[(&str, &str)] = match layout {
        Layout::Split => &[],
        Layout::Merged => &[
            ("/lib", "usr/lib"),
            ("/lib64", "usr/lib64"),
            ("/bin", "usr/bin"),
            ("/sbin", "usr/sbin"),
        ],
        Layout::OneBin => &[
            ("/lib", "usr/lib"),
            ("/bin", "usr/bin"),
            ("/sbin", "usr/bin"),
            ("/usr/sbin", "bin"),
        ],
    };
    for dir in ["usr/bin", "usr/lib", "etc", "boot", "var/lib", "proc"] {
        fs::create_dir_all(tree.at(dir)).unwrap();
    }
    for (path, target) in links {
        let inside = tree.at(path).parent().unwrap().join(target);
        fs::create_dir_all(inside).unwrap();
        symlink(target, tree.at(path)).unwrap();
    }
    let mut sh = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
    sh.resize(16, 0);
    sh.extend_from_slice(&[3, 0, 62, 0]);
    tree.put("/bin/sh", &sh);
    let mut options = options(&[mac(1)]);
    options.nics[0].guest_name = None;
    Some(Os {
        name,
        tree,
        options,
        initrds: Vec::new(),
    })
}

impl Os {
    /// Writes files from one text: `=== PATH` begins a file, `=== PATH -> TARGET` is a link, `=== PATH/` a directory.
    /// `@ROOT@` and its like stand for UUIDs.
    pub(super) fn files(self, text: &str) -> Self {
        let uuids = [
            ("@ROOT@", ROOT),
            ("@SWAP@", SWAP),
            ("@ESP@", ESP),
            ("@BOOT@", BOOT),
            ("@DATA@", DATA),
        ];
        let text = uuids
            .iter()
            .fold(format!("\n{text}"), |text, (mark, uuid)| {
                text.replace(mark, uuid)
            });
        for part in text.split("\n=== ").skip(1) {
            let (head, content) = part.split_once('\n').unwrap_or((part, ""));
            let parent = |path: &str| {
                fs::create_dir_all(self.tree.at(path).parent().unwrap()).unwrap();
            };
            if let Some((path, target)) = head.split_once(" -> ") {
                parent(path);
                symlink(target, self.tree.at(path)).unwrap();
            } else if head.ends_with('/') {
                fs::create_dir_all(self.tree.at(head)).unwrap();
            } else if head.ends_with("/grubenv") {
                // A block of exactly 1024 bytes.
                let mut block = content.trim_end_matches('\n').as_bytes().to_vec();
                block.push(b'\n');
                block.resize(1024, b'#');
                self.tree.put(head, &block);
            } else if content.is_empty() || content.ends_with('\n') {
                self.tree.put(head, content.as_bytes());
            } else {
                self.tree.put(head, format!("{content}\n").as_bytes());
            }
        }
        self
    }

    /// A file of the fixtures' tree of a distribution.
    pub(super) fn release_file(self, of: &str, path: &str) -> Option<Self> {
        let content = fixture(&format!("{of}{path}"))?;
        self.tree.put(path, &content);
        Some(self)
    }

    /// As many adapters.
    pub(super) fn nics(mut self, count: u8) -> Self {
        let macs: Vec<_> = (1..=count).map(mac).collect();
        self.options = options(&macs);
        self
    }

    /// A package database of rpm 4.16 or later with these, by SQLite.
    pub(super) fn rpms(self, names: &[&str]) -> Self {
        let path = self.tree.at("/usr/lib/sysimage/rpm/rpmdb.sqlite");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut sql =
            "CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL);\n"
                .to_owned();
        for name in names {
            let hex = crate::recorder::hex(&header(name, "1.0", 8));
            sql += &format!("INSERT INTO Packages (blob) VALUES (x'{hex}');\n");
        }
        pipe(Command::new("sqlite3").arg(&path), sql.as_bytes());
        self
    }

    /// os-release as the distribution ships it, from the fixtures; `None` without them.
    pub(super) fn release(self, of: &str) -> Option<Self> {
        let content = release(of)?;
        self.tree.put("/usr/lib/os-release", &content);
        if !self.tree.at("/etc/os-release").exists() {
            symlink("../usr/lib/os-release", self.tree.at("/etc/os-release")).unwrap();
        }
        Some(self)
    }

    pub(super) fn disk(mut self, index: u32, table: &str) -> Self {
        self.tree.storage.devices.push(disk(index, table));
        self
    }

    /// A partition, mounted unless `at` is empty.
    pub(super) fn part(mut self, number: u32, fs_type: &str, uuid: &str, at: &str) -> Self {
        let index = self.disks() - 1;
        let uuid = (!uuid.is_empty()).then_some(uuid);
        let mut part = tree::part(index, number, fs_type, uuid);
        if fs_type == "vfat" {
            part.parttype = Some(crate::linux::mounts::ESP_TYPE.into());
        }
        self.mount(&part.name, at, fs_type);
        self.tree.storage.devices.push(part);
        self
    }

    /// A label for the last device.
    pub(super) fn label(mut self, label: &str) -> Self {
        self.tree.storage.devices.last_mut().unwrap().label = Some(label.into());
        self
    }

    /// A logical volume.
    pub(super) fn lv(mut self, vg: &str, lv: &str, fs_type: &str, uuid: &str, at: &str) -> Self {
        let name = format!("/dev/{vg}/{lv}");
        let kind = DeviceKind::Lv {
            vg: vg.into(),
            lv: lv.into(),
        };
        self.mount(&name, at, fs_type);
        let lv = device(&name, kind, fs_type, Some(uuid));
        self.tree.storage.devices.push(lv);
        self
    }

    /// An opened LUKS volume.
    pub(super) fn crypt(
        mut self,
        name: &str,
        parent: &str,
        fs_type: &str,
        uuid: &str,
        at: &str,
    ) -> Self {
        let kind = DeviceKind::Crypt {
            parent: parent.into(),
        };
        self.mount(name, at, fs_type);
        let crypt = device(name, kind, fs_type, Some(uuid));
        self.tree.storage.devices.push(crypt);
        self
    }

    fn mount(&mut self, name: &str, at: &str, fs_type: &str) {
        if !at.is_empty() {
            fs::create_dir_all(self.tree.at(at)).unwrap();
            self.tree.mounts.push(mount(name, at, fs_type));
        }
    }

    fn disks(&self) -> u32 {
        let is_disk = |device: &&types::BlockDevice| matches!(device.kind, DeviceKind::Disk { .. });
        u32::try_from(self.tree.storage.devices.iter().filter(is_disk).count()).unwrap()
    }

    pub(super) fn kernel(self, kernel: Kernel) -> Self {
        let dir = self.tree.at(&format!("/lib/modules/{}", kernel.version));
        for (path, content) in modules(&kernel) {
            tree::put_at(&dir, &path, &content);
        }
        self.tree.put(kernel.image, b"kernel");
        if !kernel.config.is_empty() {
            self.tree.put(
                &format!("/boot/config-{}", kernel.version),
                kernel.config.as_bytes(),
            );
        }
        self
    }

    /// NixOS has no /lib/modules: its modules are in the store.
    pub(super) fn modules_to(self, kver: &str, to: &str) -> Self {
        let to = self.tree.at(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::rename(self.tree.at(&format!("/lib/modules/{kver}")), to).unwrap();
        fs::remove_dir_all(self.tree.at("/lib")).unwrap();
        self
    }

    /// An initramfs of this shape with the drivers of VMware.
    pub(super) fn initrd(self, path: &str, kver: &str, shape: Shape, pack: &[&str]) -> Self {
        self.initrd_with(path, kver, shape, pack, &VMWARE)
    }

    pub(super) fn initrd_with(
        mut self,
        path: &str,
        kver: &str,
        shape: Shape,
        pack: &[&str],
        modules: &[&str],
    ) -> Self {
        let source = self.tree.at(&format!("/lib/modules/{kver}"));
        let cpio = shapes::archive(&source, kver, shape, modules);
        let packed = match pack {
            [] => cpio,
            [program, args @ ..] => pipe(Command::new(program).args(args), &cpio),
        };
        let early = if shape.early {
            shapes::early()
        } else {
            Vec::new()
        };
        self.tree.put(path, &[early, packed].concat());
        self.initrds.push(path.to_owned());
        self
    }

    /// Converts it and compares all that became of it with the golden file.
    pub(super) fn check(self) {
        let text = golden::report(&self.tree, &self.options, &self.initrds);
        insta::assert_snapshot!(self.name, text);
    }
}

fn fixture(path: &str) -> Option<Vec<u8>> {
    let mut tar = Command::new("tar");
    tar.arg("-xJOf").arg(fixtures()?).arg(format!("os/{path}"));
    Some(run(&mut tar))
}

/// os-release of a distribution, in /etc or /usr/lib of its tree.
fn release(of: &str) -> Option<Vec<u8>> {
    let list = run(Command::new("tar").arg("-tJf").arg(fixtures()?));
    let list = String::from_utf8(list).unwrap();
    let path = list
        .lines()
        .find(|path| path.starts_with(&format!("os/{of}/")) && path.ends_with("/os-release"))
        .unwrap_or_else(|| panic!("no os-release of {of}"));
    fixture(path.strip_prefix("os/").unwrap())
}

/// Files of a directory.
type Content = Vec<(String, Vec<u8>)>;

/// Files of a module directory, made once for each kind of kernel.
fn modules(kernel: &Kernel) -> Content {
    static MADE: OnceLock<Mutex<HashMap<String, Content>>> = OnceLock::new();
    let key = format!(
        "{} {:?} {:?}",
        suffix(kernel.packed),
        kernel.builtin,
        kernel.without
    );
    let mut made = MADE.get_or_init(Mutex::default).lock().unwrap();
    made.entry(key)
        .or_insert_with(|| make_modules(kernel))
        .clone()
}

fn suffix(packed: Packed) -> &'static str {
    match packed {
        Packed::No => "",
        Packed::Gz => ".gz",
        Packed::Xz => ".xz",
        Packed::Zst => ".zst",
    }
}

fn make_modules(kernel: &Kernel) -> Content {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("lib/modules/1.0");
    let mut builtin = "kernel/fs/ext4/ext4.ko\n".to_owned();
    for (name, exports, needs, below) in MODULES {
        if kernel.without.contains(&name) {
            continue;
        }
        if kernel.builtin.contains(&name) {
            builtin += &format!("kernel/{below}/{name}.ko\n");
            continue;
        }
        let content = ko::module(name, exports, needs, &[&format!("virtio:{name}")]);
        let path = format!("kernel/{below}/{name}.ko");
        match kernel.packed {
            Packed::Xz => {
                let content = pipe(Command::new("xz").args(["--check=crc32", "-c"]), &content);
                tree::put_at(&dir, &format!("{path}.xz"), &content);
            }
            Packed::Zst => {
                let content = pipe(Command::new("zstd").args(["-q", "-c"]), &content);
                tree::put_at(&dir, &format!("{path}.zst"), &content);
            }
            Packed::No | Packed::Gz => tree::put_at(&dir, &path, &content),
        }
    }
    tree::put_at(&dir, "modules.builtin", builtin.as_bytes());
    tree::put_at(&dir, "modules.order", b"");
    run(Command::new("depmod")
        .arg("-b")
        .arg(scratch.path())
        .arg("1.0"));
    if kernel.packed == Packed::Gz {
        let script =
            "find . -name '*.ko' -exec gzip -n {} + && sed -i 's/\\.ko/.ko.gz/g' modules.dep";
        run(Command::new("sh").current_dir(&dir).args(["-c", script]));
    }
    let mut files = Vec::new();
    golden::walk(&dir, Path::new(""), &mut |path, full| {
        if full.is_file() {
            files.push((path.to_owned(), fs::read(full).unwrap()));
        }
    });
    files
}
