//! The /init of Red Hat's mkinitrd up to RHEL 5: a list of commands for nash, which runs them in order and knows nothing
//! of aliases. Loading drivers means commands before the root is looked for.
//!
//! ```text
//!   insmod /lib/sd_mod.ko … | ours | stabilized … mkblkdevs … lvm vgscan … resume DEV … mkrootdev … DEV … mount /sysroot
//! ```

use crate::linux::convert::Context;
use crate::linux::initrd::Contents;
use crate::linux::initrd::cpio::Builder;
use crate::recorder::{from_bytes, to_bytes};

/// Commands that look for disks: drivers must be there before the first of them that follows a driver.
const LOOKS: [&str; 10] = [
    "stabilized",
    "mkdmnod",
    "mkblkdevs",
    "lvm",
    "resume",
    "mkrootdev",
    "raidautorun",
    "mdadm",
    "dmraid",
    "mount",
];

/// Adds an /init that loads these modules and names the disks as they will be.
pub(super) fn add(
    context: &Context<'_>,
    contents: &Contents,
    modules: &[&String],
    builder: &mut Builder,
) {
    let Some(old) = contents.kept.get("init") else {
        return;
    };
    let old = from_bytes(old);
    let is_flat = contents.flat_dir().is_some();
    let new = with_loads(&old, modules, is_flat);
    let (devices, prefix) = (&context.devices, context.disk_prefix);
    let new = with_devices(&new, |spec| {
        let path = if spec.starts_with('/') {
            spec.to_owned()
        } else {
            format!("/dev/{spec}")
        };
        if !devices.is_positional(&path) {
            return None;
        }
        let device = devices.resolve(&path, None)?;
        let renamed = devices.renamed(device, prefix)?;
        Some(if spec.starts_with('/') {
            renamed
        } else {
            renamed.trim_start_matches("/dev/").to_owned()
        })
    });
    if new != old {
        builder.program("init", &to_bytes(&new));
    }
}

fn word(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}

fn with_loads(text: &str, modules: &[&String], is_flat: bool) -> String {
    let loaded = |name: &str| {
        text.lines().any(|line| {
            let loads = matches!(word(line), "insmod" | "modprobe");
            let names = line.split_whitespace().skip(1);
            loads && names.map(bare).any(|found| found == name)
        })
    };
    let new: Vec<String> = modules
        .iter()
        .filter(|name| !loaded(name))
        .map(|name| {
            let load = if is_flat {
                format!("insmod /lib/{name}.ko")
            } else {
                format!("modprobe -q {name}")
            };
            format!("echo \"Loading {name}.ko module\"\n{load}\n")
        })
        .collect();
    if new.is_empty() {
        return text.to_owned();
    }
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let at = insertion(&lines);
    let (before, after) = lines.split_at_checked(at).unwrap_or((&lines, &[]));
    // Device nodes for what the new drivers found.
    let nodes = lines.iter().any(|line| word(line) == "mkblkdevs");
    let nodes = if nodes { "mkblkdevs\n" } else { "" };
    format!(
        "{}{}{nodes}{}",
        before.concat(),
        new.concat(),
        after.concat()
    )
}

/// `virtio_blk` of `/lib/virtio-blk.ko`.
fn bare(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or_default();
    file.trim_end_matches(".ko").replace('-', "_")
}

/// Index of the line before which drivers are loaded: where the first run of loads ends that a look for disks follows.
fn insertion(lines: &[&str]) -> usize {
    let loads = |line: &&str| matches!(word(line), "insmod" | "modprobe");
    let first = lines.iter().position(&loads);
    let looks = |line: &&str| {
        let is_root = word(line) != "mount" || line.contains("/sysroot");
        LOOKS.contains(&word(line)) && is_root
    };
    let start = first.unwrap_or(0);
    let rest = lines.get(start..).unwrap_or_default();
    let look = match first {
        Some(_) => rest.iter().position(&looks),
        // Without any driver the nodes made at the start are no look for disks.
        None => rest
            .iter()
            .position(|line| looks(line) && word(line) != "mkblkdevs"),
    };
    let end = look.map_or(lines.len(), |look| start + look);
    let run = lines.get(start..end).unwrap_or_default();
    run.iter()
        .rposition(loads)
        .map_or(end, |last| start + last + 1)
}

fn with_devices(text: &str, rename: impl Fn(&str) -> Option<String>) -> String {
    let lines = text.split_inclusive('\n').map(|line| {
        if !matches!(word(line), "mkrootdev" | "resume") {
            return line.to_owned();
        }
        let body = line.trim_end();
        let end = line.strip_prefix(body).unwrap_or_default();
        match body
            .rsplit_once(' ')
            .and_then(|(head, spec)| Some((head, rename(spec)?)))
        {
            Some((head, new)) => format!("{head} {new}{end}"),
            None => line.to_owned(),
        }
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INIT: &str = "#!/bin/nash\n\nmount -t proc /proc /proc\nsetquiet\necho Creating block device nodes.\nmkblkdevs\n\
        echo \"Loading scsi_mod.ko module\"\ninsmod /lib/scsi_mod.ko \necho \"Loading sd_mod.ko module\"\ninsmod /lib/sd_mod.ko \n\
        echo Waiting for driver initialization.\nstabilized --hash --interval 250 /proc/scsi/scsi\nmkblkdevs\nresume /dev/sda2\n\
        echo Creating root device.\nmkrootdev -t ext3 -o defaults,ro sda1\necho Mounting root filesystem.\nmount /sysroot\n\
        echo Switching to new root and running init.\nswitchroot\n";

    #[test]
    fn drivers_are_loaded_before_disks_are_looked_for() {
        let names = ["virtio".to_owned(), "sd_mod".into(), "virtio_blk".into()];
        let names: Vec<&String> = names.iter().collect();
        let new = with_loads(INIT, &names, true);
        let at = |text: &str| new.find(text).unwrap();
        assert!(at("insmod /lib/sd_mod.ko") < at("insmod /lib/virtio.ko"));
        assert!(at("insmod /lib/virtio.ko\n") < at("insmod /lib/virtio_blk.ko\n"));
        assert!(at("insmod /lib/virtio_blk.ko\nmkblkdevs\n") < at("stabilized"));
        assert_eq!(new.matches("insmod /lib/sd_mod.ko").count(), 1);
        assert_eq!(with_loads(&new, &names, true), new);
        let bare = "#!/bin/nash\nmkblkdevs\nmkrootdev -t ext3 hda1\nmount /sysroot\n";
        assert_eq!(
            with_loads(bare, &names[2..], false),
            "#!/bin/nash\nmkblkdevs\necho \"Loading virtio_blk.ko module\"\nmodprobe -q virtio_blk\nmkblkdevs\nmkrootdev -t ext3 hda1\nmount /sysroot\n"
        );
    }

    #[test]
    fn devices_are_renamed_as_they_are_written() {
        let rename = |spec: &str| match spec {
            "sda1" => Some("vda1".to_owned()),
            "/dev/sda2" => Some("/dev/vda2".into()),
            _ => None,
        };
        let new = with_devices(INIT, rename);
        assert!(new.contains("mkrootdev -t ext3 -o defaults,ro vda1\n"));
        assert!(new.contains("resume /dev/vda2\n"));
        assert_eq!(new.len(), INIT.len());
    }
}
