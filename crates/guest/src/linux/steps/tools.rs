//! Services of other hypervisors' guest tools: disabled, and their packages listed for removal.
//!
//! Disabling is what `systemctl disable`, `update-rc.d disable` and an upstart override do, done to the files.

use crate::Result;
use crate::linux::convert::Context;
use crate::root::{Kind, join};

/// Units and init scripts, without suffix, by hypervisor.
const SERVICES: [&str; 27] = [
    // VMware
    "open-vm-tools", "vmtoolsd", "vgauth", "vgauthd", "vmware-tools", "vmware-tools-thinprint", "vmware-vmblock-fuse",
    "run-vmblock\\x2dfuse", "open-vm-tools-vmblock",
    // VirtualBox
    "vboxadd", "vboxadd-service", "vboxadd-x11", "vboxservice", "virtualbox-guest-utils", "vboxclient",
    // Hyper-V
    "hv-kvp-daemon", "hv-vss-daemon", "hv-fcopy-daemon", "hypervkvpd", "hypervvssd", "hypervfcopyd",
    "hv-fcopy-uio-daemon",
    // Xen
    "xe-linux-distribution", "xe-daemon", "xendomains",
    // Parallels
    "prltoolsd", "prltools",
];
const SUFFIXES: [&str; 4] = [".service", ".mount", ".socket", ".path"];
const WHY: &str = "belongs to another hypervisor's guest tools";

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    systemd(context)?;
    sysv(context)?;
    upstart(context)?;
    advise(context);
    Ok(())
}

fn is_tool(unit: &str) -> bool {
    let stem = SUFFIXES.iter().find_map(|suffix| unit.strip_suffix(suffix)).unwrap_or(unit);
    SERVICES.contains(&stem)
}

/// Removes links that enable such a unit: below /etc in `*.wants`, `*.requires`, and aliases. What the vendor enables
/// below /usr/lib is masked instead, as its files are the package's.
fn systemd(context: &mut Context<'_>) -> Result<()> {
    let etc = "/etc/systemd/system";
    for entry in context.root.list(etc)? {
        let path = join(etc, &entry.name);
        match entry.kind {
            Kind::Dir if is_dependency_dir(&entry.name) => {
                for name in context.root.names(&path) {
                    if is_tool(&name) || is_tool(&link_target(context, &join(&path, &name))) {
                        context.recorder.remove(&join(&path, &name), WHY)?;
                    }
                }
            }
            Kind::Symlink => {
                let target = context.root.read_link(&path)?;
                let base = target.rsplit('/').next().unwrap_or_default();
                if target != "/dev/null" && (is_tool(&entry.name) || is_tool(base)) {
                    context.recorder.remove(&path, WHY)?;
                }
            }
            _ => {}
        }
    }
    for lib in ["/lib/systemd/system", "/usr/lib/systemd/system"] {
        for dir in context.root.names(lib).into_iter().filter(|name| is_dependency_dir(name)) {
            for name in context.root.names(&join(lib, &dir)) {
                let own = join(etc, &name);
                if is_tool(&name) && context.root.link_meta(&own).is_err() {
                    context.recorder.symlink(&own, "/dev/null", WHY)?;
                }
            }
        }
    }
    Ok(())
}

fn is_dependency_dir(name: &str) -> bool {
    name.ends_with(".wants") || name.ends_with(".requires")
}

fn link_target(context: &Context<'_>, path: &str) -> String {
    let target = context.root.read_link(path).unwrap_or_default();
    target.rsplit('/').next().unwrap_or_default().to_owned()
}

/// `S20vboxadd` becomes `K80vboxadd`, as update-rc.d(8) does.
fn sysv(context: &mut Context<'_>) -> Result<()> {
    for level in ["0", "1", "2", "3", "4", "5", "6", "S"] {
        for dir in [format!("/etc/rc{level}.d"), format!("/etc/rc.d/rc{level}.d")] {
            let is_own_dir = context.root.link_meta(&dir).is_ok_and(|meta| meta.kind == Kind::Dir);
            if !is_own_dir || dir.contains("rcS") {
                continue;
            }
            for name in context.root.names(&dir) {
                let Some(rest) = name.strip_prefix('S') else { continue };
                let Some((number, service)) = rest.split_at_checked(2) else { continue };
                let Ok(number) = number.parse::<u8>() else { continue };
                if is_tool(service) {
                    let killed = format!("{dir}/K{:02}{service}", 100u8.saturating_sub(number).min(99));
                    context.recorder.rename(&join(&dir, &name), &killed, WHY)?;
                }
            }
        }
    }
    Ok(())
}

/// Upstart reads JOB.override (init(5)).
fn upstart(context: &mut Context<'_>) -> Result<()> {
    if context.guest.init != "upstart" {
        return Ok(());
    }
    for name in context.root.names("/etc/init") {
        if let Some(job) = name.strip_suffix(".conf").filter(|job| is_tool(job)) {
            context.recorder.write(&format!("/etc/init/{job}.override"), b"manual\n", WHY)?;
        }
    }
    Ok(())
}

fn advise(context: &mut Context<'_>) {
    let tools = &context.guest.hypervisor_tools;
    if tools.is_empty() {
        return;
    }
    let list = tools.join(" ");
    let command = match context.guest.package_format.as_str() {
        "dpkg" => format!("apt-get purge {list}"),
        "rpm" => format!("dnf remove {list}"),
        "apk" => format!("apk del {list}"),
        "pacman" => format!("pacman -R {list}"),
        _ => format!("remove {list}"),
    };
    context.recorder.warn(format!("guest tools of another hypervisor are disabled; to remove them: {command}"));
}
