//! Kernel arguments: in which files they are, and how their tokens are edited.
//!
//! Tokens stand between blanks and quotes, some with a list of `key=value` in them. An assignment's name may be glued
//! to the first (`GRUB_CMDLINE_LINUX=quiet`, `# kopt=root=/dev/sda1`).

use crate::linux::boot::place::Places;
use crate::linux::boot::{self, GRUB_DIRS, extlinux, grub_legacy, grub2, grubenv};
use crate::linux::devices::{Devices, Form};
use crate::root::join;
use crate::{Recorder, Result, Root};

/// Arguments (and variables of initramfs-tools) whose value is a device.
const DEVICE_KEYS: [&str; 16] = [
    "root",
    "resume",
    "real_root",
    "real_resume",
    "swap",
    "boot",
    "cryptdevice",
    "cryptroot",
    "crypt_root",
    "cryptkey",
    "luks_data",
    "source",
    "journal_dev",
    "mount.usr",
    "rd.luks.data",
    "usr",
];
/// Assignments whose value begins with the first argument, besides those known by their start.
const ASSIGNMENTS: [&str; 7] = [
    "kopt",
    "xenkopt",
    "defoptions",
    "altoptions",
    "kernelopts",
    "default_kernel_opts",
    "kernel_cmdline",
];
/// Directories with files of arguments, and which of them.
const FRAGMENTS: [(&str, &str); 5] = [
    ("/etc/default/grub.d", ".cfg"),
    ("/etc/cmdline.d", ".conf"),
    ("/etc/kernel/cmdline.d", ".conf"),
    ("/etc/dracut.conf.d", ".conf"),
    ("/etc/sysconfig/grub.d", ""),
];
/// Files in one such directory that are looked at.
const FRAGMENTS_MAX: usize = 256;

/// A file with kernel arguments, and which of its lines hold them.
#[derive(Clone, Debug)]
pub(crate) struct KargFile {
    pub(crate) path: String,
    pub(crate) is_args: fn(&str) -> bool,
}

/// Every file of the boot loaders and generators that holds kernel arguments, but GRUB's environment blocks: menus, and
/// what the next update-grub, kernel-install, update-extlinux or dracut makes menus and images from.
pub(crate) fn files(root: &Root) -> Vec<KargFile> {
    let places = Places::of(root);
    let mut files: Vec<KargFile> = Vec::new();
    let mut add = |path: String, is_args: fn(&str) -> bool| files.push(KargFile { path, is_args });
    for path in grub2::configs(root, &places) {
        add(path, grub2::is_args);
    }
    for dir in GRUB_DIRS {
        add(format!("{dir}/custom.cfg"), grub2::is_args);
    }
    add("/etc/grub.d/40_custom".into(), grub2::is_args);
    for path in grub_legacy::configs(root, &places) {
        add(path, grub_legacy::is_args);
    }
    for top in &places.tops {
        let dir = join(top, "loader/entries");
        for name in root.names(&dir).iter().take(FRAGMENTS_MAX) {
            add(join(&dir, name), |line| first_word(line) == "options");
        }
    }
    for path in extlinux::configs(root, &places) {
        add(path, extlinux::is_args);
    }
    add("/etc/default/grub".into(), is_assignment);
    for (dir, end) in FRAGMENTS {
        for name in root
            .names(dir)
            .iter()
            .filter(|name| name.ends_with(end))
            .take(FRAGMENTS_MAX)
        {
            let whole = dir.ends_with("cmdline.d");
            add(
                join(dir, name),
                if whole { is_whole } else { is_assignment },
            );
        }
    }
    for path in ["/etc/kernel/cmdline", "/etc/cmdline"] {
        add(path.into(), is_whole);
    }
    for path in [
        "/etc/dracut.conf",
        "/etc/default/extlinux",
        "/etc/default/u-boot",
        "/etc/sysconfig/bootloader",
        "/etc/kernel/uki.conf",
    ] {
        add(path.into(), is_assignment);
    }
    add("/etc/update-extlinux.conf".into(), |line| {
        is_assignment(line) || line.trim_start().starts_with("root=")
    });
    let mut seen = Vec::new();
    files.retain(|file| {
        let Ok(meta) = root.meta(&file.path) else {
            return false;
        };
        let inode = (meta.dev, meta.ino);
        let new = meta.kind == crate::Kind::File && !seen.contains(&inode);
        seen.push(inode);
        new
    });
    files
}

fn is_whole(line: &str) -> bool {
    !line.trim_start().starts_with('#')
}

/// A shell assignment of arguments: `GRUB_CMDLINE_LINUX=`, `default_kernel_opts=`, SUSE's `DEFAULT_APPEND=`, ….
fn is_assignment(line: &str) -> bool {
    let Some((name, _)) = line.trim_start().split_once('=') else {
        return false;
    };
    let name = name.trim_end().trim_end_matches('+');
    name.starts_with("GRUB_CMDLINE_")
        || name.ends_with("_APPEND")
        || name.eq_ignore_ascii_case("cmdline")
        || matches!(
            name,
            "default_kernel_opts"
                | "kernel_cmdline"
                | "EXTLINUX_ROOT"
                | "EXTLINUX_PARAMETERS"
                | "U_BOOT_ROOT"
                | "U_BOOT_PARAMETERS"
                | "SUSE_BTRFS_SNAPSHOT_BOOTING_ARGS"
        )
}

fn first_word(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}

/// Which line of which file is edited.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'p> {
    pub(crate) path: &'p str,
    /// From 1; 0 in an environment block.
    pub(crate) line: usize,
}

/// Gives each line of arguments to `new`, in every file and environment block, and writes what comes back.
pub(crate) fn edit_all(
    recorder: &mut Recorder<'_>,
    why: &str,
    new: &dyn Fn(Place<'_>, &str) -> Option<String>,
) -> Result<()> {
    let root = recorder.root();
    for file in files(root) {
        recorder.edit(&file.path, why, |text| edit_lines(&file, text, new))?;
    }
    for path in grub2::grubenvs(root, &Places::of(root)) {
        let place = Place {
            path: &path,
            line: 0,
        };
        let mut too_long = false;
        recorder.edit(&path, why, |block| {
            grubenv::edit(block, "kernelopts", |args| new(place, args)).unwrap_or_else(|()| {
                too_long = true;
                None
            })
        })?;
        if too_long {
            recorder.warn(format!(
                "{path} has no room for the new kernel arguments; left as it is"
            ));
            recorder.skip(format!("{path} is full"));
        }
    }
    Ok(())
}

fn edit_lines(
    file: &KargFile,
    text: &str,
    new: &dyn Fn(Place<'_>, &str) -> Option<String>,
) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut changed = false;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let place = Place {
            path: &file.path,
            line: number + 1,
        };
        let edited = if (file.is_args)(line) {
            new(place, line)
        } else {
            None
        };
        changed |= edited.is_some();
        out.push_str(edited.as_deref().unwrap_or(line));
    }
    changed.then_some(out)
}

/// Files and lines of the menu entries that have no initramfs.
pub(crate) fn bare_lines(root: &Root) -> Vec<(String, usize)> {
    boot::entries(root)
        .into_iter()
        .filter(boot::MenuEntry::is_bare)
        .map(|entry| (entry.source, entry.line))
        .collect()
}

/// Replaces each token for which `new` returns something, and drops it with one blank when that is empty; `None` when
/// none changes.
pub(crate) fn map_tokens(
    text: &str,
    mut new: impl FnMut(&str) -> Option<String>,
) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut changed = false;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(is_boundary).unwrap_or(rest.len());
        let (token, mut tail) = rest.split_at(end);
        let (name, bare) = unglue(token);
        out.push_str(name);
        match if bare.is_empty() { None } else { new(bare) } {
            Some(value) if value != bare => {
                if value.is_empty() && name.is_empty() && out.ends_with([' ', '\t']) {
                    out.pop();
                } else if value.is_empty() {
                    tail = tail.strip_prefix([' ', '\t']).unwrap_or(tail);
                }
                out.push_str(&value);
                changed = true;
            }
            _ => out.push_str(bare),
        }
        let boundary = tail
            .chars()
            .next()
            .filter(|&c| is_boundary(c))
            .map_or(0, char::len_utf8);
        let (skipped, tail) = tail.split_at(boundary);
        out.push_str(skipped);
        rest = tail;
    }
    changed.then_some(out)
}

fn is_boundary(c: char) -> bool {
    c.is_ascii_whitespace() || matches!(c, '"' | '\'')
}

/// Splits `NAME=` from a token.
fn unglue(token: &str) -> (&str, &str) {
    let Some(at) = token.find('=') else {
        return ("", token);
    };
    let (name, _) = token.split_at(at);
    let name = name.trim_end_matches('+');
    // `RESUME=/dev/sda2` of initramfs-tools is an argument itself.
    let assigns = ["GRUB_CMDLINE_", "EXTLINUX_", "U_BOOT_"]
        .iter()
        .any(|start| name.starts_with(start))
        || name.ends_with("_APPEND")
        || ASSIGNMENTS.contains(&name);
    if assigns {
        token.split_at(at + 1)
    } else {
        ("", token)
    }
}

/// `root=UUID=…` for `root=/dev/sda1`, the same inside `cryptopts=…,source=/dev/sda2`, and `cryptdevice=DEV:NAME`.
pub(crate) fn stable_token(
    devices: &Devices<'_>,
    token: &str,
    form: Form,
    prefix: &str,
) -> Option<String> {
    if let Some(keyed) = stable_key(devices, token) {
        return Some(keyed);
    }
    let mut changed = false;
    let parts: Vec<String> = token
        .split(',')
        .map(|part| match stable_part(devices, part, form, prefix) {
            Some(new) => {
                changed = true;
                new
            }
            None => part.to_owned(),
        })
        .collect();
    changed.then(|| parts.join(","))
}

/// `rd.luks.key=PATH:DEV[:LUKS]` (dracut.cmdline(7)).
fn stable_key(devices: &Devices<'_>, token: &str) -> Option<String> {
    let (key, value) = token.split_once('=')?;
    if !matches!(key, "rd.luks.key" | "rd_LUKS_KEYPATH") {
        return None;
    }
    let mut changed = false;
    let fields: Vec<String> = value
        .split(':')
        .map(|field| match devices.stable(field, None, Form::Tag, "vd") {
            Some(new) if new.starts_with("UUID=") => {
                changed = true;
                new
            }
            _ => field.to_owned(),
        })
        .collect();
    changed.then(|| format!("{key}={}", fields.join(":")))
}

fn stable_part(devices: &Devices<'_>, part: &str, form: Form, prefix: &str) -> Option<String> {
    let (keys, value) = part.rsplit_once('=')?;
    let key = keys.rsplit('=').next()?.to_ascii_lowercase();
    if key == "device" {
        // btrfs takes a path only (btrfs(5), `device=`), and its UUID is that of all its devices.
        let device = devices
            .resolve(value, None)
            .filter(|_| devices.is_positional(value))?;
        let partuuid = device.partuuid.as_ref()?;
        return Some(format!("{keys}=/dev/disk/by-partuuid/{partuuid}"));
    }
    if !DEVICE_KEYS.contains(&key.as_str()) {
        return None;
    }
    // A by-path name has colons of its own, so the longest name that means something is taken.
    let ends = value
        .match_indices(':')
        .map(|(at, _)| at)
        .chain([value.len()]);
    for end in ends.collect::<Vec<_>>().into_iter().rev() {
        let (spec, tail) = value.split_at_checked(end)?;
        if let Some(stable) = devices.stable(spec, None, form, prefix) {
            return Some(format!("{keys}={stable}{tail}"));
        }
    }
    None
}

/// What becomes of an argument that only another hypervisor has a use for.
///
/// Left alone, since they say nothing wrong on KVM: `nomodeset`, `vga=`, `video=`, `elevator=`, `rootdelay=`,
/// `xen_emul_unplug=` and parameters of drivers that find no device, `net.ifnames=` and `biosdevname=` (the network
/// step keeps the names whatever they say), real serial consoles, memory and CPU limits.
pub(crate) fn hypervisor_line(text: &str) -> Option<String> {
    let serial = text
        .split(is_boundary)
        .map(|token| unglue(token).1)
        .any(|token| token == "console=ttyS0" || token.starts_with("console=ttyS0,"));
    let mut made = serial;
    map_tokens(text, |token| {
        let (key, value) = token.split_once('=')?;
        let first = value.split(',').next()?;
        match key {
            "console" if matches!(first, "hvc0" | "xvc0" | "hvc" | "xvc") => {
                let new = if made {
                    String::new()
                } else {
                    "console=ttyS0".to_owned()
                };
                made = true;
                Some(new)
            }
            "earlyprintk" if first == "xen" => Some(value.replacen("xen", "earlyprintk=ttyS0", 1)),
            "earlycon" if first.starts_with("xen") => Some(String::new()),
            "xencons" => Some(String::new()),
            // The kernel would say at each boot that there is no such clock, and take kvm-clock.
            "clocksource" if first == "xen" || first.starts_with("hyperv_clocksource") => {
                Some(String::new())
            }
            // A list that forbids virtio was right on the old machine and stops the new one.
            "modprobe.blacklist"
            | "module_blacklist"
            | "rd.driver.blacklist"
            | "rd_driver_blacklist"
            | "rdblacklist"
            | "blacklist" => {
                let left: Vec<&str> = value
                    .split(',')
                    .filter(|name| !name.starts_with("virtio"))
                    .collect();
                let same = left.len() == value.split(',').count();
                let new = if left.is_empty() {
                    String::new()
                } else {
                    format!("{key}={}", left.join(","))
                };
                (!same).then_some(new)
            }
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_keep_what_is_between_them() {
        let text = "GRUB_CMDLINE_LINUX=\"quiet  root=a\troot=b\" # 'x'\n";
        let new = map_tokens(text, |token| (token == "root=b").then(|| "root=c".into())).unwrap();
        assert_eq!(new, text.replace("root=b", "root=c"));
        assert_eq!(map_tokens(text, |_| None), None);
    }

    #[test]
    fn a_dropped_token_takes_one_blank_along() {
        let drop = |text: &str| map_tokens(text, |token| (token == "x").then(String::new));
        for (text, want) in [
            ("a x b", "a b"),
            ("x b", "b"),
            ("a x\n", "a\n"),
            ("V=\"x b\"", "V=\"b\""),
            ("V=\"a x\"", "V=\"a\""),
            ("GRUB_CMDLINE_LINUX=x", "GRUB_CMDLINE_LINUX="),
            ("x", ""),
        ] {
            assert_eq!(drop(text).as_deref(), Some(want), "{text}");
        }
    }

    #[test]
    fn xens_console_becomes_the_serial_one() {
        for (text, want) in [
            ("ro console=hvc0 quiet", Some("ro console=ttyS0 quiet")),
            (
                "console=ttyS0,115200 console=hvc0",
                Some("console=ttyS0,115200"),
            ),
            (
                "console=tty0 console=hvc0",
                Some("console=tty0 console=ttyS0"),
            ),
            (
                "GRUB_CMDLINE_LINUX=console=hvc0",
                Some("GRUB_CMDLINE_LINUX=console=ttyS0"),
            ),
            ("# kopt=console=xvc0 ro", Some("# kopt=console=ttyS0 ro")),
            (
                "earlyprintk=xen,keep xencons=tty ro",
                Some("earlyprintk=ttyS0,keep ro"),
            ),
            ("console=tty0 console=ttyS0", None),
            (
                "nomodeset vga=791 elevator=noop net.ifnames=0 xen_emul_unplug=never",
                None,
            ),
        ] {
            assert_eq!(hypervisor_line(text).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn virtio_is_forbidden_no_longer() {
        for (text, want) in [
            (
                "ro modprobe.blacklist=virtio_blk,nouveau",
                Some("ro modprobe.blacklist=nouveau"),
            ),
            ("ro module_blacklist=virtio_pci quiet", Some("ro quiet")),
            ("rd.driver.blacklist=nouveau clocksource=tsc", None),
            ("ro clocksource=hyperv_clocksource_tsc_page", Some("ro")),
        ] {
            assert_eq!(hypervisor_line(text).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn assignments_of_arguments_are_known() {
        for line in [
            "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"",
            "GRUB_CMDLINE_LINUX+=\" x\"",
            "default_kernel_opts=\"quiet\"",
            "kernel_cmdline=\"root=/dev/sda1\"",
            "DEFAULT_APPEND=\"resume=/dev/sda1\"",
            "EXTLINUX_ROOT=\"root=/dev/sda1\"",
        ] {
            assert!(is_assignment(line), "{line}");
        }
        assert!(!is_assignment("# GRUB_CMDLINE_LINUX=x") && !is_assignment("GRUB_TIMEOUT=5"));
    }
}
