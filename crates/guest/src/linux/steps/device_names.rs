//! Device names that change with the hypervisor become UUIDs, in every file that the boot depends on.
//!
//! GRUB itself needs no change: `set root='hd0,…'` counts the firmware's disks, of which the boot disk stays the first,
//! and `search` goes by UUID.

use types::DeviceKind;

use crate::linux::convert::Context;
use crate::linux::devices::Form;
use crate::linux::{boot, fstab, kargs};
use crate::root::join;
use crate::Result;

const WHY: &str = "device names change with the hypervisor";
/// A GRUB environment block is exactly this long, padded with `#` (GRUB manual 2.06, section 16.4).
const GRUBENV_LEN: usize = 1024;

/// A file with kernel arguments, and which of its lines hold them.
pub(crate) struct KargFile {
    pub(crate) path: String,
    pub(crate) is_args: fn(&str) -> bool,
}

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    rewrite_fstab(context)?;
    rewrite_crypttab(context)?;
    let form = karg_form(context);
    for file in karg_files(context) {
        let (devices, prefix, is_args) = (&context.devices, context.disk_prefix, file.is_args);
        let edit = |text: &str| edit_lines(text, is_args, |token| kargs::stable_token(devices, token, form, prefix));
        context.recorder.edit(&file.path, WHY, edit)?;
    }
    let (devices, prefix) = (&context.devices, context.disk_prefix);
    let stable = |text: &str| kargs::map_tokens(text, |token| kargs::stable_token(devices, token, form, prefix));
    grubenv(&mut context.recorder, context.root, WHY, &stable)?;
    initramfs_tools(context)?;
    device_map(context)?;
    debconf(context)?;
    if context.root.is_file("/etc/lilo.conf") && !boot_loader_known(context) {
        context.recorder.warn("the guest boots by LILO, which finds its kernel by disk sectors and is left alone");
    }
    Ok(())
}

fn boot_loader_known(context: &Context<'_>) -> bool {
    !context.guest.boot_loaders.is_empty()
}

/// A kernel without an initramfs understands no file system UUID.
fn karg_form(context: &Context<'_>) -> Form {
    let all_bare = context.guest.kernels.iter().all(|kernel| kernel.initrd.is_none());
    if all_bare && !context.guest.kernels.is_empty() { Form::PartTag } else { Form::Tag }
}

fn rewrite_fstab(context: &mut Context<'_>) -> Result<()> {
    let (devices, prefix) = (&context.devices, context.disk_prefix);
    let mut unknown = Vec::new();
    context.recorder.edit("/etc/fstab", WHY, |text| {
        fstab::rewrite_specs(text, |entry| {
            let stable = devices.stable(&entry.spec, Some(&entry.fs_type), Form::Tag, prefix);
            let removable = entry.has("noauto") || entry.fs_type.contains("iso9660");
            if stable.is_none() && devices.is_positional(&entry.spec) && !removable {
                if devices.resolve(&entry.spec, Some(&entry.fs_type)).is_none() {
                    unknown.push(format!("{} for {}", entry.spec, entry.target));
                }
            }
            stable
        })
    })?;
    for entry in unknown {
        context.recorder.warn(format!("/etc/fstab names {entry}, which is on none of the disks; left as it is"));
    }
    Ok(())
}

fn rewrite_crypttab(context: &mut Context<'_>) -> Result<()> {
    let (devices, prefix) = (&context.devices, context.disk_prefix);
    context.recorder.edit("/etc/crypttab", WHY, |text| crypttab(text, |spec| {
        devices.stable(spec, Some("crypto_LUKS"), Form::TagOrPath, prefix)
    }))?;
    Ok(())
}

/// The second field of crypttab(5).
pub(crate) fn crypttab(text: &str, stable: impl Fn(&str) -> Option<String>) -> Option<String> {
    fstab::rewrite(text, 1, |fields| stable(fields.get(1)?))
}

/// Every file of the boot loaders and generators that holds kernel arguments.
pub(crate) fn karg_files(context: &Context<'_>) -> Vec<KargFile> {
    let root = context.root;
    let mut files = Vec::new();
    let mut add = |path: String, is_args: fn(&str) -> bool| files.push(KargFile { path, is_args });
    for dir in boot::GRUB_DIRS {
        add(format!("{dir}/grub.cfg"), is_grub_linux);
        add(format!("{dir}/custom.cfg"), is_grub_linux);
        add(format!("{dir}/menu.lst"), is_legacy_kernel);
        add(format!("{dir}/grub.conf"), is_legacy_kernel);
    }
    add("/etc/default/grub".into(), is_grub_default);
    for name in root.names("/etc/default/grub.d") {
        add(join("/etc/default/grub.d", &name), is_grub_default);
    }
    add("/etc/kernel/cmdline".into(), |_| true);
    add("/etc/cmdline".into(), |_| true);
    let mut tops = vec!["/boot".to_owned()];
    if let Some(esp) = context.esp() {
        for vendor in boot::vendors(root, &esp) {
            if let Some(config) = boot::find_ci(root, &vendor, "grub.cfg") {
                add(config, is_grub_linux);
            }
        }
        tops.push(esp);
    }
    for top in tops {
        let dir = format!("{top}/loader/entries");
        for name in root.names(&dir) {
            add(join(&dir, &name), |line| first_word(line) == "options");
        }
    }
    for path in ["/boot/extlinux/extlinux.conf", "/boot/extlinux.conf", "/boot/syslinux/syslinux.cfg"] {
        add(path.into(), |line| first_word(line).eq_ignore_ascii_case("append"));
    }
    add("/etc/update-extlinux.conf".into(), |line| line.starts_with("default_kernel_opts="));
    files.retain(|file| root.is_file(&file.path));
    files
}

fn first_word(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}

fn is_grub_linux(line: &str) -> bool {
    let kernelopts = line.trim_start().starts_with("set kernelopts=");
    kernelopts || matches!(first_word(line), "linux" | "linux16" | "linuxefi" | "multiboot" | "multiboot2" | "module" | "module2")
}

/// Debian's menu.lst keeps its defaults in comments: `# kopt=root=/dev/hda1 ro`.
fn is_legacy_kernel(line: &str) -> bool {
    first_word(line) == "kernel" || line.starts_with("# kopt")
}

fn is_grub_default(line: &str) -> bool {
    let name = line.trim_start().split('=').next().unwrap_or_default();
    name.starts_with("GRUB_CMDLINE_LINUX") || name == "GRUB_CMDLINE_XEN" || name == "GRUB_CMDLINE_XEN_DEFAULT"
}

/// Edits the tokens of the lines that hold arguments.
pub(crate) fn edit_lines(text: &str, is_args: fn(&str) -> bool, new: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut changed = false;
    for line in text.split_inclusive('\n') {
        match if is_args(line) { edit_args(line, &new) } else { None } {
            Some(edited) => {
                out.push_str(&edited);
                changed = true;
            }
            None => out.push_str(line),
        }
    }
    changed.then_some(out)
}

/// An assignment's name is glued to its first argument: `NAME="root=…`, `NAME=root=…`, `# kopt=root=…`.
fn edit_args(line: &str, new: &impl Fn(&str) -> Option<String>) -> Option<String> {
    kargs::map_tokens(line, |token| new(token))
}

/// Edits the `kernelopts` of GRUB's environment blocks.
pub(crate) fn edit_grubenv(context: &mut Context<'_>, why: &str, edit: &dyn Fn(&str) -> Option<String>) -> Result<()> {
    grubenv(&mut context.recorder, context.root, why, edit)
}

fn grubenv(
    recorder: &mut crate::Recorder<'_>,
    root: &crate::Root,
    why: &str,
    edit: &dyn Fn(&str) -> Option<String>,
) -> Result<()> {
    for dir in boot::GRUB_DIRS {
        let path = format!("{dir}/grubenv");
        let mut too_long = false;
        if !root.is_file(&path) {
            continue;
        }
        recorder.edit(&path, why, |text| {
            let body = text.trim_end_matches('#');
            let lines: Vec<String> = body
                .split_inclusive('\n')
                .map(|line| line.strip_prefix("kernelopts=").and_then(|args| Some(format!("kernelopts={}", edit(args)?))).unwrap_or_else(|| line.to_owned()))
                .collect();
            let new = lines.concat();
            too_long = new.len() > GRUBENV_LEN;
            (new != body && !too_long).then(|| format!("{new}{}", "#".repeat(GRUBENV_LEN - new.len())))
        })?;
        if too_long {
            recorder.warn(format!("{path} has no room for kernel arguments with UUIDs; left as it is"));
        }
    }
    Ok(())
}

/// `RESUME=/dev/sda5` and `ROOT=…` of initramfs-tools.
fn initramfs_tools(context: &mut Context<'_>) -> Result<()> {
    let dir = "/etc/initramfs-tools/conf.d";
    let mut files: Vec<String> = context.root.names(dir).iter().map(|name| join(dir, name)).collect();
    files.push("/etc/initramfs-tools/initramfs.conf".into());
    files.push("/etc/initramfs-tools/update-initramfs.conf".into());
    for path in files.into_iter().filter(|path| context.root.is_file(path)).collect::<Vec<_>>() {
        let (devices, prefix) = (&context.devices, context.disk_prefix);
        context.recorder.edit(&path, WHY, |text| {
            edit_lines(text, |line| !line.trim_start().starts_with('#'), |token| {
                kargs::stable_token(devices, token, Form::Tag, prefix)
            })
        })?;
    }
    Ok(())
}

/// `(hd0) /dev/sda` of GRUB: grub-install goes by it.
fn device_map(context: &mut Context<'_>) -> Result<()> {
    for dir in boot::GRUB_DIRS {
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
    let rename = |spec: &str| {
        let device = if devices.is_positional(spec) { devices.resolve(spec, None) } else { None };
        device.and_then(|device| devices.renamed(device, prefix)).unwrap_or_else(|| spec.to_owned())
    };
    context.recorder.edit(path, "the next upgrade of grub installs to the disk's new name", |text| {
        let mut ours = false;
        let lines: Vec<String> = text
            .split_inclusive('\n')
            .map(|line| {
                if let Some(name) = line.strip_prefix("Name:") {
                    ours = matches!(name.trim(), "grub-pc/install_devices" | "grub-efi/install_devices");
                }
                match line.strip_prefix("Value:") {
                    Some(value) if ours && !value.trim().is_empty() => {
                        let disks: Vec<String> = value.split(',').map(|spec| rename(spec.trim())).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_with_arguments_are_edited() {
        let text = "menuentry 'root=/dev/sda1' {\n\tset root='hd0,msdos1'\n\tlinux /vmlinuz root=/dev/sda1 ro\n}\n";
        let new = edit_lines(text, is_grub_linux, |token| (token == "root=/dev/sda1").then(|| "root=UUID=1".into()));
        assert_eq!(new.unwrap(), text.replace("uz root=/dev/sda1", "uz root=UUID=1"));
        assert!(is_grub_default("GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"") && !is_grub_default("# GRUB_CMDLINE_LINUX=x"));
    }
}
