//! Xen's consoles become the serial one; a serial console that is there stays.

use crate::Result;
use crate::linux::convert::Context;
use crate::linux::kargs::console_line;
use crate::linux::steps::device_names::{edit_grubenv, karg_files};

const WHY: &str = "Xen's console does not exist on KVM; the serial console does";

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    for file in karg_files(context) {
        let is_args = file.is_args;
        context.recorder.edit(&file.path, WHY, |text| {
            let mut changed = false;
            let lines: Vec<String> = text
                .split_inclusive('\n')
                .map(|line| match if is_args(line) { console_line(line) } else { None } {
                    Some(new) => {
                        changed = true;
                        new
                    }
                    None => line.to_owned(),
                })
                .collect();
            changed.then(|| lines.concat())
        })?;
    }
    edit_grubenv(context, WHY, &console_line)?;
    inittab(context)?;
    serial_getty(context)
}

fn inittab(context: &mut Context<'_>) -> Result<()> {
    for file in ["/etc/inittab", "/etc/securetty"] {
        context.recorder.edit(file, WHY, |text| {
            let has_serial = text.lines().any(|line| !line.starts_with('#') && line.contains("ttyS0"));
            let mut changed = false;
            let lines: Vec<String> = text
                .split_inclusive('\n')
                .map(|line| {
                    let xen = ["hvc0", "xvc0"].into_iter().find(|name| line.contains(name));
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
    for name in ["hvc0", "xvc0"] {
        let link = format!("{dir}/serial-getty@{name}.service");
        let Ok(target) = context.root.read_link(&link) else { continue };
        context.recorder.symlink(&format!("{dir}/serial-getty@ttyS0.service"), &target, WHY)?;
        context.recorder.remove(&link, WHY)?;
    }
    Ok(())
}
