//! Whole conversions of guests that want out, or want the converter to hang.
//!
//! Each case is a Debian with one evil change. It is inspected and converted on a thread that must end in time; whatever
//! comes of it, nothing beside the guest may have changed, and what is said must be fit for a terminal.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use types::{ConvertOutcome, GuestInfo, StorageMap};

use super::super::tree::{self, KVER, Packed, Tree, options, run, tools};
use crate::Root;

/// A conversion of such a small guest takes a tenth of a second; the machine may be busy with others.
const TIME_MAX: Duration = Duration::from_secs(15);
const SECRET: &str = "/dev/sda1 / ext4 defaults 0 1\nroot=/dev/sda1 of the host\n";
const OLD: [&str; 3] = ["scsi_mod", "sd_mod", "vmw_pvscsi"];

/// Paths that some step reads or writes.
const TOUCHED: [&str; 34] = [
    "/etc/fstab",
    "/etc/crypttab",
    "/etc/os-release",
    "/etc/hostname",
    "/etc/passwd",
    "/etc/adjtime",
    "/etc/inittab",
    "/etc/default/grub",
    "/etc/default",
    "/etc/initramfs-tools/modules",
    "/etc/initramfs-tools",
    "/etc/dracut.conf.d",
    "/etc/modprobe.d",
    "/etc/network/interfaces",
    "/etc/network",
    "/etc/netplan",
    "/etc/systemd/network",
    "/etc/systemd/system",
    "/etc/systemd",
    "/etc/udev/rules.d",
    "/etc/udev",
    "/etc/selinux/config",
    "/etc/X11/xorg.conf",
    "/etc/lvm",
    "/boot/grub/grub.cfg",
    "/boot/grub/device.map",
    "/boot/grub",
    "/boot/loader/entries",
    "/boot/initrd.img-6.1.0-18-amd64",
    "/boot",
    "/usr/lib/modules/6.1.0-18-amd64/modules.dep",
    "/usr/lib/modules/6.1.0-18-amd64",
    "/usr/lib/modules",
    "/var/lib/dpkg/status",
];

/// The guest of which copies are made evil.
fn base() -> Option<Tree> {
    if !tools(&["depmod", "cpio", "cp"]) {
        return None;
    }
    let tree = Tree::debian();
    tree.add_kernel(KVER, Packed::No);
    tree.add_initrd(KVER, &OLD, <[u8]>::to_vec);
    tree.put("/etc/passwd", b"root:x:0:0::/root:/bin/sh\n");
    Some(tree)
}

/// Files are synced one by one, of which a disk makes minutes here; nothing of it is about disks.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// A guest beside files of the host.
struct Case {
    dir: tempfile::TempDir,
    storage: StorageMap,
    mounts: Vec<types::Mountpoint>,
}

/// What came of a conversion.
struct Done {
    guest: Result<GuestInfo, String>,
    outcome: Result<ConvertOutcome, String>,
}

impl Done {
    fn said(&self) -> Vec<String> {
        let mut said: Vec<String> = self.guest.as_ref().err().cloned().into_iter().collect();
        if let Ok(guest) = &self.guest {
            said.extend([guest.product_name.clone(), guest.version.clone()]);
            said.extend(guest.hostname.clone());
        }
        match &self.outcome {
            Ok(outcome) => {
                said.extend(outcome.warnings.iter().cloned());
                said.extend(outcome.steps.iter().map(|step| step.reason.clone()));
                said.extend(outcome.changes.iter().map(|change| change.why.clone()));
            }
            Err(error) => said.push(error.clone()),
        }
        said
    }
}

impl Case {
    fn new(base: &Tree) -> Self {
        let dir = scratch();
        for path in ["host/fstab", "host/modules/1.0/modules.dep", "host/initrd"] {
            tree::put_at(dir.path(), path, SECRET.as_bytes());
        }
        let guest = dir.path().join("guest");
        run(Command::new("cp")
            .arg("-a")
            .arg(base.dir.path())
            .arg(&guest));
        Self {
            dir,
            storage: base.storage.clone(),
            mounts: base.mounts.clone(),
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir
            .path()
            .join("guest")
            .join(path.trim_start_matches('/'))
    }

    fn put(&self, path: &str, content: &[u8]) {
        tree::put_at(&self.dir.path().join("guest"), &path[1..], content);
    }

    /// Takes away what is there, whatever it is, and makes room for something else.
    fn clear(&self, path: &str) -> PathBuf {
        let at = self.at(path);
        run(Command::new("rm").arg("-rf").arg(&at));
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        at
    }

    /// All beside the guest: path, inode, time of change, content or target.
    fn host(&self) -> Vec<String> {
        let mut all = Vec::new();
        let mut todo = vec![self.dir.path().to_owned()];
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let meta = path.symlink_metadata().unwrap();
                if path.ends_with("guest") {
                    continue;
                }
                let content = fs::read_to_string(&path).unwrap_or_default();
                let (ino, ctime) = (meta.ino(), (meta.ctime(), meta.ctime_nsec()));
                all.push(format!("{} {ino} {ctime:?} {content}", path.display()));
                if meta.is_dir() {
                    todo.push(path);
                }
            }
        }
        all.sort();
        all
    }

    /// Inspects and converts; panics when that takes too long, touches the host or says what no terminal should get.
    fn convert(&self, what: &str) -> Done {
        let before = self.host();
        let (send, receive) = mpsc::channel();
        let (at, storage, mounts) = (self.at(""), self.storage.clone(), self.mounts.clone());
        std::thread::spawn(move || {
            let root = Root::open(&at).unwrap();
            let guest = crate::inspect(&root, &storage, &mounts).map_err(|error| error.chain());
            let outcome = guest.clone().and_then(|guest| {
                let options = options(&[tree::mac(1)]);
                crate::convert(&root, &guest, &storage, &options, &mut |_| {})
                    .map_err(|error| error.chain())
            });
            // Nobody listens any more when it took too long.
            let _ = send.send(Done { guest, outcome });
        });
        let done = receive
            .recv_timeout(TIME_MAX)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(self.host(), before, "{what}: the host was touched");
        for said in done.said() {
            let raw = |c: char| c.is_control();
            assert!(!said.contains(raw), "{what}: {said:?}");
            assert!(said.len() < 4096, "{what}: {} bytes said", said.len());
        }
        done
    }

    /// [`convert`](Self::convert) for a case that is no reason to refuse.
    fn converts(&self, what: &str) -> ConvertOutcome {
        let done = self.convert(what);
        done.outcome
            .unwrap_or_else(|error| panic!("{what}: {error}"))
    }
}

#[test]
fn links_lead_nowhere_but_into_the_guest() {
    let Some(base) = base() else { return };
    for path in TOUCHED {
        for target in ["/", "..", "self", "host", "up"] {
            let case = Case::new(&base);
            let at = case.clear(path);
            let host = case.dir.path().join(if path.contains("modules") {
                "host/modules"
            } else if path.contains('.') || path.contains("fstab") {
                "host/fstab"
            } else {
                "host"
            });
            let up = format!(
                "{}{}",
                "../".repeat(24),
                host.display().to_string().trim_start_matches('/')
            );
            let target = match target {
                "self" => at.file_name().unwrap().to_str().unwrap().to_owned(),
                "host" => host.display().to_string(),
                "up" => up,
                other => other.to_owned(),
            };
            symlink(&target, &at).unwrap();
            case.convert(&format!("{path} -> {target}"));
        }
    }
}

#[test]
fn what_is_no_file_is_not_opened() {
    let Some(base) = base() else { return };
    let kinds: [(&str, &[&str]); 4] = [
        ("fifo", &["p"]),
        ("socket", &[]),
        ("null", &["c", "1", "3"]),
        ("directory", &[]),
    ];
    for path in TOUCHED {
        for (kind, args) in kinds {
            let case = Case::new(&base);
            let at = case.clear(path);
            match kind {
                "socket" => drop(std::os::unix::net::UnixListener::bind(&at)),
                "directory" => fs::create_dir_all(&at).unwrap(),
                _ => {
                    let status = Command::new("mknod").arg(&at).args(args).status().unwrap();
                    if !status.success() {
                        eprintln!("SKIP: no right to make a device");
                        continue;
                    }
                }
            }
            let done = case.convert(&format!("{path} is a {kind}"));
            if path.contains("initrd.img") {
                // No kernel can start: emulated disks, or a refusal, and never virtio.
                let bus = done.outcome.map(|outcome| outcome.caps.block_bus);
                assert_ne!(bus, Ok(types::BlockBus::VirtioBlk), "{kind}");
            }
        }
    }
}

#[test]
fn huge_files_are_not_read() {
    let Some(base) = base() else { return };
    for path in TOUCHED {
        let case = Case::new(&base);
        let at = case.clear(path);
        let file = fs::File::create(&at).unwrap();
        file.set_len(1 << 30).unwrap();
        let done = case.convert(&format!("{path} of 1 GiB"));
        if path == "/etc/fstab" || path == "/boot/grub/grub.cfg" {
            let said = done.said().join("\n");
            assert!(
                said.contains(path) && said.contains("larger than"),
                "{said}"
            );
        }
    }
}

/// What is written is a new inode: another name of the file, in the guest or beside it, keeps its content.
#[test]
fn hard_links_are_never_written_through() {
    let Some(base) = base() else { return };
    let case = Case::new(&base);
    let host = case.dir.path().join("host");
    let paths = [
        "/etc/fstab",
        "/etc/default/grub",
        "/etc/initramfs-tools/modules",
        "/boot/grub/grub.cfg",
        "/boot/grub/device.map",
        &format!("/boot/initrd.img-{KVER}"),
    ];
    for (number, path) in paths.iter().enumerate() {
        fs::hard_link(case.at(path), host.join(number.to_string())).unwrap();
    }
    let content = |number: usize| fs::read(host.join(number.to_string())).unwrap();
    let before: Vec<Vec<u8>> = (0..paths.len()).map(content).collect();
    // Times of links' changes are those of the shared inode: compare contents, not `host`.
    let root = Root::open(&case.at("")).unwrap();
    let guest = crate::inspect(&root, &case.storage, &case.mounts).unwrap();
    let options = options(&[tree::mac(1)]);
    crate::convert(&root, &guest, &case.storage, &options, &mut |_| {}).unwrap();
    for (number, path) in paths.iter().enumerate() {
        assert_eq!(content(number), before[number], "{path}");
        assert_ne!(fs::read(case.at(path)).unwrap(), before[number], "{path}");
    }
}

#[test]
fn names_with_newlines_and_escapes_stay_names() {
    let Some(base) = base() else { return };
    let evil: [&[u8]; 4] = [
        b"a\n/etc/shadow",
        b"\x1b[2J\x1b]0;owned\x07.conf",
        b"caf\xe9\xff.cfg",
        b"-rf",
    ];
    let dirs = [
        "/etc/network/interfaces.d",
        "/etc/netplan",
        "/etc/NetworkManager/system-connections",
        "/etc/systemd/network",
        "/etc/systemd/system",
        "/etc/modprobe.d",
        "/etc/default/grub.d",
        "/etc/initramfs-tools/conf.d",
        "/etc/udev/rules.d",
        "/boot/loader/entries",
        "/boot",
        "/usr/lib/modules",
        "/etc/init.d",
        "/var/lib/pacman/local",
    ];
    for dir in dirs {
        let case = Case::new(&base);
        for name in evil {
            let name = OsStr::from_bytes(
                &name
                    .iter()
                    .map(|&c| if c == b'/' { b'_' } else { c })
                    .collect::<Vec<_>>(),
            )
            .to_owned();
            let at = case.at(dir).join(&name);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            if dir.ends_with("modules") {
                // A kernel that is not there, and one that is.
                fs::create_dir_all(at.join("kernel")).unwrap();
                fs::write(at.join("modules.dep"), "kernel/\u{1b}[31m.ko: \n").unwrap();
                fs::write(at.join("vmlinuz"), "kernel").unwrap();
            } else {
                let text = "title \u{1b}[31mx\nlinux /vmlinuz-\u{1b}[2J\noptions root=/dev/sda1\u{7}\n\
                            iface ens\u{1b}192 inet dhcp\n[Match]\nName=en\u{7}s3\nMACAddress=00:0c:29:01:02:03\n[connection]\n\
                            id=\u{1b}]0;x\ntype=ethernet\ninterface-name=e\u{8}th0\n";
                fs::write(at, text).unwrap();
            }
        }
        case.convert(dir);
    }
    let case = Case::new(&base);
    case.put(
        "/etc/os-release",
        "PRETTY_NAME=\"\u{1b}[2Jroot shell\"\nID=debian\nVERSION_ID=\"\u{7}12\"\n".as_bytes(),
    );
    case.put("/etc/hostname", b"\x1b[31mhost\x07\n");
    case.put(
        "/etc/fstab",
        b"/dev/sda1 / ext4 defaults 0 1\n/dev/sdq\x1b[2J /mnt\x07\x1b]0;x\x07 ext4 defaults 0 0\n",
    );
    case.converts("os-release, hostname and fstab");
}

#[test]
fn crowds_end() {
    let Some(base) = base() else { return };
    let many = |count: usize, line: &dyn Fn(usize) -> String| -> Vec<u8> {
        (0..count).map(line).collect::<String>().into_bytes()
    };
    let files: [(&str, Vec<u8>); 9] = [
        (
            "/etc/fstab",
            many(100_000, &|n| {
                format!("/dev/sdb{n} /mnt/{n} ext4 defaults 0 0\n")
            }),
        ),
        (
            "/etc/crypttab",
            many(100_000, &|n| format!("c{n} /dev/sdb{n} none luks\n")),
        ),
        (
            "/boot/grub/grub.cfg",
            many(10_000, &|n| {
                format!(
                    "menuentry 'x{n}' {{\n linux /boot/vmlinuz-{n} root=/dev/sda1\n initrd /boot/initrd-{n}\n}}\n"
                )
            }),
        ),
        (
            "/boot/grub/grub.cfg",
            "submenu 'a' {\n".repeat(100_000).into_bytes(),
        ),
        (
            "/boot/extlinux/extlinux.conf",
            many(10_000, &|n| {
                format!("LABEL l{n}\n LINUX /vmlinuz-{n}\n APPEND root=/dev/sda1\n")
            }),
        ),
        (
            "/boot/grub/menu.lst",
            many(10_000, &|n| {
                format!("title t{n}\nkernel /vmlinuz-{n} root=/dev/sda1\n")
            }),
        ),
        (
            "/etc/network/interfaces",
            many(100_000, &|n| {
                format!("auto eth{n}\niface eth{n} inet dhcp\n")
            }),
        ),
        (
            "/etc/udev/rules.d/70-persistent-net.rules",
            many(20_000, &|n| {
                format!(
                    "ATTR{{address}}==\"00:0c:29:00:{:02x}:{:02x}\", NAME=\"eth{n}\"\n",
                    n / 256 % 256,
                    n % 256
                )
            }),
        ),
        (
            "/etc/netplan/a.yaml",
            "a:\n"
                .repeat(100)
                .chars()
                .chain("[".repeat(200_000).chars())
                .collect::<String>()
                .into_bytes(),
        ),
    ];
    for (path, content) in files {
        let case = Case::new(&base);
        case.clear(path);
        case.put(path, &content);
        let done = case.convert(&format!("{} bytes of {path}", content.len()));
        let warnings = done.outcome.map(|outcome| outcome.warnings.len());
        assert!(warnings.clone().unwrap_or(0) < 2000, "{path}: {warnings:?}");
    }
}

#[test]
fn wide_directories_end() {
    let Some(base) = base() else { return };
    for (dir, suffix, count) in [
        ("/usr/lib/modules", "", 50_000),
        ("/boot/loader/entries", ".conf", 100_000),
        ("/boot", ".img", 100_000),
        ("/etc/network/interfaces.d", "", 100_000),
        ("/etc/systemd/network", ".network", 100_000),
        ("/etc/systemd/system", ".service", 100_000),
        ("/etc/modprobe.d", ".conf", 100_000),
        ("/etc/udev/rules.d", ".rules", 100_000),
    ] {
        let case = Case::new(&base);
        let at = case.at(dir);
        fs::create_dir_all(&at).unwrap();
        let first = at.join(format!("0{suffix}"));
        let is_modules = dir.ends_with("modules");
        if !is_modules {
            fs::write(&first, "linux /vmlinuz\n").unwrap();
        }
        for number in 1..count {
            let path = at.join(format!("initrd-{number}{suffix}"));
            if is_modules {
                fs::create_dir(path).unwrap();
            } else {
                fs::hard_link(&first, &path)
                    .or_else(|_| fs::write(&path, "x"))
                    .unwrap();
            }
        }
        case.convert(&format!("{count} entries in {dir}"));
    }
}

#[test]
fn circles_and_depth_end() {
    let Some(base) = base() else { return };
    let deep = "d/".repeat(1500);
    type Make<'m> = &'m dyn Fn(&Case);
    let cases: [(&str, Make<'_>); 8] = [
        ("interfaces", &|case| {
            case.put("/etc/network/interfaces", b"source /etc/network/*\nsource /etc/network/interfaces\nsource ../../../../*\nsource-directory /\n")
        }),
        ("extlinux", &|case| {
            case.put("/boot/extlinux/extlinux.conf", b"INCLUDE extlinux.conf\nINCLUDE /boot/extlinux/extlinux.conf\nMENU INCLUDE ../../../host/fstab\n")
        }),
        ("grub.cfg", &|case| {
            case.put("/boot/grub/grub.cfg", b"configfile /boot/grub/grub.cfg\nsource /boot/grub/custom.cfg\nsource ${prefix}/grub.cfg\n")
        }),
        ("xinclude of wicked", &|case| {
            case.put(
                "/etc/wicked/common.xml",
                b"<include name=\"common.xml\"/>\n",
            )
        }),
        ("dhcpcd", &|case| {
            case.put(
                "/etc/modprobe.conf",
                b"include /etc/modprobe.conf\ninclude /\n",
            )
        }),
        ("a directory in itself", &|case| {
            symlink(".", case.at("/usr/lib/modules/loop")).unwrap()
        }),
        ("grub.d", &|case| {
            fs::create_dir_all(case.at("/etc/default")).unwrap();
            symlink("..", case.at("/etc/default/grub.d")).unwrap();
        }),
        ("depth", &|case| {
            let top = case.at("/usr/lib/modules/9.9.9");
            fs::create_dir_all(&top).unwrap();
            let mut mkdir = Command::new("mkdir");
            run(mkdir.current_dir(&top).args(["-p", &deep[..3000]]));
            let mut mkdir = Command::new("mkdir");
            run(mkdir
                .current_dir(case.at("/boot"))
                .args(["-p", &deep[..3000]]));
        }),
    ];
    for (what, make) in cases {
        let case = Case::new(&base);
        make(&case);
        case.convert(what);
    }
}

#[test]
fn numbers_of_any_size_are_only_numbers() {
    let Some(base) = base() else { return };
    let numbers = [
        "-1",
        "18446744073709551616",
        "99999999999999999999999999999999",
        "0x7fffffff",
        "1e400",
        "\u{661}",
    ];
    for number in numbers {
        let case = Case::new(&base);
        let cfg = fs::read_to_string(case.at("/boot/grub/grub.cfg")).unwrap();
        case.put(
            "/boot/grub/grub.cfg",
            cfg.replace("\"0\"", &format!("\"{number}>{number}\""))
                .as_bytes(),
        );
        case.put("/boot/grub/menu.lst", format!("default {number}\nfallback {number}\ntitle x\nroot (hd{number},{number})\nkernel /vmlinuz\n").as_bytes());
        case.put(
            "/etc/default/grub",
            format!("GRUB_DEFAULT={number}\nGRUB_TIMEOUT={number}\n").as_bytes(),
        );
        case.put("/etc/fstab", format!("/dev/sda1 / ext4 defaults {number} {number}\n/dev/sda{number} /x ext4 0\n/dev/md{number} /y ext4\nUUID={number} /z\n").as_bytes());
        case.put(
            "/etc/network/interfaces",
            format!(
                "iface eth{number} inet static\n address 10.0.0.1/{number}\n netmask {number}\n"
            )
            .as_bytes(),
        );
        case.put("/etc/netplan/a.yaml", format!("network:\n  version: {number}\n  vlans:\n    v: {{id: {number}, link: eth{number}}}\n").as_bytes());
        case.put(
            "/boot/loader/entries/x.conf",
            format!("version {number}\nlinux /x+{number}-{number}\n").as_bytes(),
        );
        case.put(
            &format!("/boot/loader/entries/y+{number}-{number}.conf"),
            b"linux /x\n",
        );
        case.put(
            "/boot/grub/grubenv",
            format!("# GRUB Environment Block\nsaved_entry={number}\nnext_entry={number}\n")
                .as_bytes(),
        );
        case.put(
            &format!("/usr/lib/modules/{number}.{number}/modules.dep"),
            b"a.ko: a.ko\n",
        );
        case.put(
            "/etc/adjtime",
            format!("{number} {number} {number}\n{number}\n").as_bytes(),
        );
        case.convert(number);
    }
}

#[test]
fn a_parent_that_is_a_link_out_is_the_guests_own() {
    let Some(base) = base() else { return };
    let case = Case::new(&base);
    let host = case.dir.path().join("host");
    // As in a guest whose /etc/systemd was moved: the link is absolute, and means the guest's directory.
    fs::create_dir_all(case.at("/srv/systemd")).unwrap();
    let at = case.clear("/etc/systemd");
    symlink("/srv/systemd", at).unwrap();
    let outcome = case.converts("moved");
    assert!(case.at("/srv/systemd/network/10-v2v-ens192.link").is_file());
    assert!(
        outcome
            .changes
            .iter()
            .any(|change| change.path.contains("10-v2v-ens192.link"))
    );
    assert!(!Path::new("/srv/systemd/network/10-v2v-ens192.link").exists());
    assert_eq!(fs::read_dir(host).unwrap().count(), 3);
}
