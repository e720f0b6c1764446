//! Where the guest's own updates install its boot loader: names of disks that are remembered in files.
//!
//! They become the disks' new names. GRUB's numbers (`(hd0)`) stay: the boot disk stays the firmware's first.

use types::DeviceKind;

use crate::Result;
use crate::linux::boot::GRUB_DIRS;
use crate::linux::boot::grub2::replace_lines;
use crate::linux::convert::Context;
use crate::linux::devices::Devices;
use crate::linux::fstab;

const WHY: &str = "the next update of the boot loader installs it to the disk's new name";

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    device_map(context)?;
    debconf(context)?;
    install_device(context)?;
    sysconfig(context)?;
    context
        .recorder
        .not_needed("no file remembers a disk for the boot loader");
    Ok(())
}

/// The new name of a disk or partition, for a name that says a place.
fn renamed(devices: &Devices<'_>, spec: &str, prefix: &str) -> Option<String> {
    let device = devices
        .resolve(spec, None)
        .filter(|_| devices.is_positional(spec))?;
    devices.renamed(device, prefix)
}

/// SUSE's list: a device, or `activate` and `generic_mbr`, on each line.
fn install_device(context: &mut Context<'_>) -> Result<()> {
    let (devices, prefix) = (&context.devices, context.disk_prefix);
    context
        .recorder
        .edit("/etc/default/grub_installdevice", WHY, |text| {
            Some(replace_lines(text, |line| {
                renamed(devices, line.trim(), prefix)
            }))
        })?;
    Ok(())
}

/// `boot=/dev/sda` of Red Hat's GRUB legacy.
fn sysconfig(context: &mut Context<'_>) -> Result<()> {
    let (devices, prefix) = (&context.devices, context.disk_prefix);
    // Since GRUB 2 this is a link to /etc/default/grub, which has no such line.
    context.recorder.edit("/etc/sysconfig/grub", WHY, |text| {
        Some(replace_lines(text, |line| {
            let new = renamed(devices, line.strip_prefix("boot=")?.trim(), prefix)?;
            Some(format!("boot={new}"))
        }))
    })?;
    Ok(())
}

/// `(hd0) /dev/sda` of GRUB: grub-install goes by it.
fn device_map(context: &mut Context<'_>) -> Result<()> {
    for dir in GRUB_DIRS {
        let path = format!("{dir}/device.map");
        if !context.root.is_file(&path) {
            continue;
        }
        let (devices, prefix) = (&context.devices, context.disk_prefix);
        context.recorder.edit(&path, WHY, |text| {
            fstab::rewrite(text, 1, |fields| {
                let [drive, spec, ..] = fields else { return None };
                let number = drive.strip_prefix("(hd")?.strip_suffix(')')?.parse::<u32>().ok()?;
                if !devices.is_positional(spec) {
                    return None;
                }
                let by_number = || {
                    let is_it = |kind: &DeviceKind| matches!(kind, DeviceKind::Disk { disk, .. } if *disk == number);
                    devices.storage().devices.iter().find(|device| is_it(&device.kind))
                };
                devices.renamed(devices.resolve(spec, None).or_else(by_number)?, prefix)
            })
        })?;
    }
    Ok(())
}

/// Debian's grub packages install the boot loader on the disks that debconf remembers; on a name that is gone, the next
/// upgrade asks or fails.
fn debconf(context: &mut Context<'_>) -> Result<()> {
    let path = "/var/cache/debconf/config.dat";
    if !context.root.is_file(path) || context.guest.package_format != "dpkg" {
        return Ok(());
    }
    let (devices, prefix) = (&context.devices, context.disk_prefix);
    let rename = |spec: &str| renamed(devices, spec, prefix).unwrap_or_else(|| spec.to_owned());
    context.recorder.edit(path, WHY, |text| {
        let mut ours = false;
        let lines: Vec<String> = text
            .split_inclusive('\n')
            .map(|line| {
                if let Some(name) = line.strip_prefix("Name:") {
                    ours = matches!(
                        name.trim(),
                        "grub-pc/install_devices" | "grub-efi/install_devices"
                    );
                }
                match line.strip_prefix("Value:") {
                    Some(value) if ours && !value.trim().is_empty() => {
                        let disks: Vec<String> =
                            value.split(',').map(|spec| rename(spec.trim())).collect();
                        format!("Value: {}\n", disks.join(", "))
                    }
                    _ => line.to_owned(),
                }
            })
            .collect();
        let new = lines.concat();
        (new != text).then_some(new)
    })?;
    Ok(())
}
