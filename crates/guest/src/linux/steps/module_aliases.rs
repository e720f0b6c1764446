//! modprobe.d(5) and modprobe.conf: aliases by which old systems load the drivers of their disks and adapters, and lines
//! that keep virtio from being loaded.
//!
//! Red Hat up to RHEL 5 loads `eth0` and, in an initramfs of mkinitrd, every `scsi_hostadapterN` by alias.

use std::collections::BTreeSet;

use crate::Result;
use crate::linux::convert::Context;
use crate::linux::kargs::map_tokens;
use crate::root::join;

/// Read by mkinitrd of Red Hat.
const MODPROBE_CONF: &str = "/etc/modprobe.conf";
/// Loaded by mkinitrd in this order; what a kernel does not have is left out.
const DISK: [&str; 3] = ["virtio_pci", "virtio_blk", "virtio_scsi"];
/// An alias to one of these is no driver of an adapter.
const NO_DRIVER: [&str; 6] = ["off", "bonding", "dummy", "bridge", "8021q", "tun"];
/// Kernel arguments that keep modules from being loaded (kernel-parameters.txt, modprobe(8), dracut.cmdline(7)).
const BLACKLISTS: [&str; 3] = [
    "module_blacklist=",
    "modprobe.blacklist=",
    "rd.driver.blacklist=",
];
/// Where they are written.
const KERNEL_ARGS: [&str; 5] = [
    "/etc/default/grub",
    "/etc/kernel/cmdline",
    "/boot/grub/grub.cfg",
    "/boot/grub2/grub.cfg",
    "/boot/grub/menu.lst",
];
const WHY: &str = "the alias named a driver of the old machine";

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    let mut files = vec![MODPROBE_CONF.to_owned()];
    let dir = "/etc/modprobe.d";
    let names = context.root.names(dir);
    files.extend(names.iter().map(|name| join(dir, name)));
    files.retain(|path| context.root.is_file(path));
    warn_blacklists(context, &files);
    let has = |context: &Context<'_>, name: &str| {
        let modules = context.modules.get(&context.start_kernel);
        modules.is_some_and(|modules| modules.has(name))
    };
    if has(context, "virtio_net") {
        for path in &files {
            context.recorder.edit(path, WHY, adapters)?;
        }
    }
    let disk: Vec<&str> = DISK.into_iter().filter(|name| has(context, name)).collect();
    if disk.len() > 1 {
        context
            .recorder
            .edit(MODPROBE_CONF, WHY, |text| host_adapters(text, &disk))?;
    }
    Ok(())
}

/// `alias eth0 e1000`.
fn adapters(text: &str) -> Option<String> {
    map_lines(text, |words| match words {
        ["alias", name, driver, ..] if is_ethernet(name) && !NO_DRIVER.contains(driver) => {
            (*driver != "virtio_net").then(|| format!("alias {name} virtio_net"))
        }
        _ => None,
    })
}

fn is_ethernet(name: &str) -> bool {
    let number = name.strip_prefix("eth").unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// The first aliases of host adapters get the drivers, the others stay; without any, mkinitrd does not go by them.
fn host_adapters(text: &str, drivers: &[&str]) -> Option<String> {
    let alias = |words: &[&str]| match words {
        ["alias", name, driver, ..] if name.starts_with("scsi_hostadapter") => {
            Some(((*name).to_owned(), (*driver).to_owned()))
        }
        _ => None,
    };
    let have: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| alias(&line.split_whitespace().collect::<Vec<_>>()))
        .collect();
    if have.is_empty() {
        return None;
    }
    let named: BTreeSet<&str> = have.iter().map(|(_, driver)| driver.as_str()).collect();
    let mut todo = drivers.iter().filter(|name| !named.contains(**name));
    let new = map_lines(text, |words| {
        let (name, driver) = alias(words)?;
        if drivers.contains(&driver.as_str()) {
            return None;
        }
        Some(format!("alias {name} {}", todo.next()?))
    });
    let rest: Vec<&&str> = todo.collect();
    if rest.is_empty() {
        return new;
    }
    let mut out = new.unwrap_or_else(|| text.to_owned());
    if !out.ends_with('\n') {
        out.push('\n');
    }
    let free = (1..).filter(|number| {
        let name = format!("scsi_hostadapter{number}");
        !have.iter().any(|(have, _)| *have == name)
    });
    for (driver, number) in rest.into_iter().zip(free) {
        out.push_str(&format!("alias scsi_hostadapter{number} {driver}\n"));
    }
    Some(out)
}

/// Replaces lines; `None` when none changes.
fn map_lines(text: &str, mut new: impl FnMut(&[&str]) -> Option<String>) -> Option<String> {
    let mut changed = false;
    let lines: Vec<String> = text
        .split_inclusive('\n')
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let Some(text) = new(&words) else {
                return line.to_owned();
            };
            changed = true;
            let end = if line.ends_with('\n') { "\n" } else { "" };
            format!("{text}{end}")
        })
        .collect();
    changed.then(|| lines.concat())
}

fn warn_blacklists(context: &mut Context<'_>, files: &[String]) {
    let mut found = Vec::new();
    for path in files {
        let text = context.root.text(path).unwrap_or_default();
        found.extend(blocked(&text).map(|name| (path.clone(), name)));
    }
    for path in KERNEL_ARGS {
        let text = context.root.text(path).unwrap_or_default();
        // Only for its walk over the arguments.
        map_tokens(&text, |token| {
            let list = BLACKLISTS.iter().find_map(|key| token.strip_prefix(key))?;
            let names = list.split(',').filter(|name| name.starts_with("virtio"));
            found.extend(names.map(|name| (path.to_owned(), name.to_owned())));
            None
        });
    }
    for (path, name) in found {
        context.recorder.warn(format!(
            "{path} keeps {name} from being loaded: the guest may not find its disks or adapters; take it out"
        ));
    }
}

/// Names of virtio modules that are blacklisted, or whose loading is replaced by a program that does nothing.
fn blocked(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = match words.as_slice() {
            ["blacklist", name, ..] => name,
            ["install", name, program, ..]
                if program.ends_with("/true") || program.ends_with("/false") || *program == ":" =>
            {
                name
            }
            _ => return None,
        };
        name.starts_with("virtio").then(|| name.replace('-', "_"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RHEL5: &str = "alias eth0 vmxnet\nalias eth1 e1000\nalias bond0 bonding\nalias scsi_hostadapter mptbase\n\
        alias scsi_hostadapter1 mptspi\n# mine\nalias scsi_hostadapter2 ata_piix\noptions bonding mode=1\n";

    #[test]
    fn aliases_of_adapters_and_host_adapters_become_virtio() {
        let new = adapters(RHEL5).unwrap();
        assert!(
            new.starts_with("alias eth0 virtio_net\nalias eth1 virtio_net\nalias bond0 bonding\n")
        );
        assert_eq!(adapters(&new), None);
        let new = host_adapters(&new, &["virtio_pci", "virtio_blk"]).unwrap();
        assert!(new.contains(
            "alias scsi_hostadapter virtio_pci\nalias scsi_hostadapter1 virtio_blk\n# mine\nalias scsi_hostadapter2 ata_piix\n"
        ));
        assert_eq!(host_adapters(&new, &["virtio_pci", "virtio_blk"]), None);
        assert_eq!(
            host_adapters(
                "alias scsi_hostadapter ata_piix",
                &["virtio_pci", "virtio_blk"]
            )
            .as_deref(),
            Some("alias scsi_hostadapter virtio_pci\nalias scsi_hostadapter1 virtio_blk\n")
        );
        assert_eq!(host_adapters("alias eth0 e1000\n", &["virtio_pci"]), None);
    }

    #[test]
    fn blacklists_of_virtio_are_found() {
        let text = "blacklist pcspkr\nblacklist virtio-net\ninstall virtio_blk /bin/true\ninstall virtio_scsi /sbin/modprobe x\n#blacklist virtio_pci\n";
        let found: Vec<String> = blocked(text).collect();
        assert_eq!(found, ["virtio_net", "virtio_blk"]);
    }
}
