//! Logins on Xen's consoles move to the serial one; a serial console that is there stays.

use crate::Result;
use crate::linux::convert::Context;
use crate::root::join;

const WHY: &str = "Xen's console does not exist on KVM; the serial console does";
const XEN: [&str; 2] = ["hvc0", "xvc0"];

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    inittab(context)?;
    serial_getty(context)?;
    upstart(context)?;
    for (dir, start) in SERVICES {
        service(context, dir, start)?;
    }
    context
        .recorder
        .not_needed("no login is on a console of Xen");
    Ok(())
}

/// Directories with a link for each getty, and how its name begins: OpenRC, runit.
const SERVICES: [(&str, &str); 3] = [
    ("/etc/runlevels/default", "agetty."),
    ("/etc/runit/runsvdir/default", "agetty-"),
    ("/var/service", "agetty-"),
];

/// The service's own file is a link to a common one (OpenRC), or exists for ttyS0 as well (runit).
fn service(context: &mut Context<'_>, dir: &str, start: &str) -> Result<()> {
    for name in XEN {
        let link = join(dir, &format!("{start}{name}"));
        let Ok(target) = context.root.read_link(&link) else {
            continue;
        };
        let new_target = target.replace(name, "ttyS0");
        let of_service = join("/etc/init.d", &format!("{start}{name}"));
        if let Ok(common) = context.root.read_link(&of_service) {
            let new = join("/etc/init.d", &format!("{start}ttyS0"));
            context.recorder.symlink(&new, &common, WHY)?;
        } else if !context.root.exists(&new_target) {
            continue;
        }
        let new = join(dir, &format!("{start}ttyS0"));
        context.recorder.symlink(&new, &new_target, WHY)?;
        context.recorder.remove(&link, WHY)?;
    }
    Ok(())
}

/// /etc/init/hvc0.conf becomes ttyS0.conf.
fn upstart(context: &mut Context<'_>) -> Result<()> {
    for name in XEN {
        let (from, to) = (format!("/etc/init/{name}.conf"), "/etc/init/ttyS0.conf");
        if !context.root.is_file(&from) || context.root.exists(to) {
            continue;
        }
        let text = context.root.read(&from, crate::CONFIG_MAX)?;
        let new = crate::recorder::from_bytes(&text).replace(name, "ttyS0");
        context
            .recorder
            .write(to, &crate::recorder::to_bytes(&new), WHY)?;
        context.recorder.remove(&from, WHY)?;
    }
    Ok(())
}

fn inittab(context: &mut Context<'_>) -> Result<()> {
    for file in ["/etc/inittab", "/etc/securetty"] {
        context.recorder.edit(file, WHY, |text| {
            let has_serial = text
                .lines()
                .any(|line| !line.starts_with('#') && line.contains("ttyS0"));
            let mut changed = false;
            let lines: Vec<String> = text
                .split_inclusive('\n')
                .map(|line| {
                    let xen = XEN.into_iter().find(|name| line.contains(name));
                    match xen {
                        Some(name) if !line.starts_with('#') && !has_serial => {
                            changed = true;
                            line.replace(name, "ttyS0")
                        }
                        _ => line.to_owned(),
                    }
                })
                .collect();
            changed.then(|| lines.concat())
        })?;
    }
    Ok(())
}

fn serial_getty(context: &mut Context<'_>) -> Result<()> {
    let dir = "/etc/systemd/system/getty.target.wants";
    for name in XEN {
        let link = format!("{dir}/serial-getty@{name}.service");
        let Ok(target) = context.root.read_link(&link) else {
            continue;
        };
        context
            .recorder
            .symlink(&format!("{dir}/serial-getty@ttyS0.service"), &target, WHY)?;
        context.recorder.remove(&link, WHY)?;
    }
    Ok(())
}
