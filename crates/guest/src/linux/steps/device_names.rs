//! Device names that change with the hypervisor become UUIDs, in every file that the boot depends on.
//!
//! GRUB itself needs no change: `set root='hd0,…'` and GRUB legacy's `root (hd0,0)` count the firmware's disks, of which
//! the boot disk stays the first, and `search` goes by UUID.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::Result;
use crate::linux::boot::{self, Loader, MenuEntry};
use crate::linux::convert::Context;
use crate::linux::devices::Form;
use crate::linux::{fstab, kargs};
use crate::root::join;

const WHY: &str = "device names change with the hypervisor";

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    rewrite_fstab(context)?;
    rewrite_crypttab(context)?;
    kernel_arguments(context)?;
    initramfs_tools(context)?;
    left_over(context);
    Ok(())
}

fn kernel_arguments(context: &mut Context<'_>) -> Result<()> {
    let (devices, prefix, form) = (&context.devices, context.disk_prefix, karg_form(context));
    let bare = kargs::bare_lines(context.root);
    let unknown = RefCell::new(BTreeSet::new());
    kargs::edit_all(&mut context.recorder, WHY, &|place, line| {
        let is_bare = bare
            .iter()
            .any(|(path, number)| path == place.path && *number == place.line);
        let form = if is_bare { Form::PartTag } else { form };
        kargs::map_tokens(line, |token| {
            let new = kargs::stable_token(devices, token, form, prefix);
            let root = token
                .strip_prefix("root=")
                .filter(|spec| devices.is_positional(spec));
            if let Some(spec) =
                root.filter(|spec| new.is_none() && devices.resolve(spec, None).is_none())
            {
                let entry = format!("{} names root={spec}", place.path);
                unknown.borrow_mut().insert(entry);
            }
            new
        })
    })?;
    for what in unknown.into_inner() {
        context.recorder.warn(format!(
            "{what}, which is on none of the disks; left as it is"
        ));
    }
    Ok(())
}

/// Says what is not edited: images that are signed as a whole, and loaders whose files are not read.
fn left_over(context: &mut Context<'_>) {
    let entries = boot::entries(context.root);
    for entry in entries.iter().filter(|entry| entry.loader == Loader::Uki) {
        uki(context, entry);
    }
    for (config, kind) in boot::UNREAD {
        if context.root.is_file(config) && entries.is_empty() {
            let finds = match *kind {
                "lilo" => "finds its kernel by disk sectors",
                _ => "is not edited by this program",
            };
            context.recorder.warn(format!(
                "the guest boots by {kind} ({config}), which {finds}: it is left alone; if it does not start, boot a rescue \
                 medium and install GRUB"
            ));
            context.recorder.skip(format!("{kind} is not edited"));
        }
    }
}

/// A unified kernel image keeps the arguments that it was built with.
fn uki(context: &mut Context<'_>, entry: &MenuEntry) {
    let (devices, prefix) = (&context.devices, context.disk_prefix);
    let stale: Vec<String> = entry
        .args
        .split_whitespace()
        .filter(|token| {
            kargs::stable_token(devices, token, Form::Tag, prefix).is_some_and(|new| new != *token)
        })
        .map(str::to_owned)
        .collect();
    if !stale.is_empty() {
        let message = format!(
            "{} is a unified kernel image and cannot be edited; its arguments name devices by place ({}): rebuild it \
             with UUIDs before the conversion (/etc/kernel/cmdline), or edit them in the boot menu",
            entry.source,
            stale.join(" ")
        );
        context.recorder.warn(message);
        context
            .recorder
            .skip(format!("{} cannot be edited", entry.source));
    }
}

/// A kernel without an initramfs understands no file system UUID.
fn karg_form(context: &Context<'_>) -> Form {
    let all_bare = context
        .guest
        .kernels
        .iter()
        .all(|kernel| kernel.initrd.is_none());
    if all_bare && !context.guest.kernels.is_empty() {
        Form::PartTag
    } else {
        Form::Tag
    }
}

fn rewrite_fstab(context: &mut Context<'_>) -> Result<()> {
    let (devices, prefix) = (&context.devices, context.disk_prefix);
    let mut unknown = Vec::new();
    context.recorder.edit("/etc/fstab", WHY, |text| {
        fstab::rewrite_specs(text, |entry| {
            let stable = devices.stable(&entry.spec, Some(&entry.fs_type), Form::Tag, prefix);
            let removable = entry.has("noauto") || entry.fs_type.contains("iso9660");
            let found = || devices.resolve(&entry.spec, Some(&entry.fs_type)).is_some();
            if stable.is_none() && devices.is_positional(&entry.spec) && !removable && !found() {
                unknown.push(format!("{} for {}", entry.spec, entry.target));
            }
            stable
        })
    })?;
    for entry in unknown {
        context.recorder.warn(format!(
            "/etc/fstab names {entry}, which is on none of the disks; left as it is"
        ));
    }
    Ok(())
}

fn rewrite_crypttab(context: &mut Context<'_>) -> Result<()> {
    let (devices, prefix) = (&context.devices, context.disk_prefix);
    context.recorder.edit("/etc/crypttab", WHY, |text| {
        crypttab(text, |spec| {
            devices.stable(spec, Some("crypto_LUKS"), Form::TagOrPath, prefix)
        })
    })?;
    Ok(())
}

/// The second field of crypttab(5).
pub(crate) fn crypttab(text: &str, stable: impl Fn(&str) -> Option<String>) -> Option<String> {
    fstab::rewrite(text, 1, |fields| stable(fields.get(1)?))
}

/// `RESUME=/dev/sda5` and `ROOT=…` of initramfs-tools.
fn initramfs_tools(context: &mut Context<'_>) -> Result<()> {
    let dir = "/etc/initramfs-tools/conf.d";
    let mut files: Vec<String> = context
        .root
        .names(dir)
        .iter()
        .map(|name| join(dir, name))
        .collect();
    files.push("/etc/initramfs-tools/initramfs.conf".into());
    files.push("/etc/initramfs-tools/update-initramfs.conf".into());
    for path in files
        .into_iter()
        .filter(|path| context.root.is_file(path))
        .collect::<Vec<_>>()
    {
        let (devices, prefix) = (&context.devices, context.disk_prefix);
        context.recorder.edit(&path, WHY, |text| {
            edit_lines(
                text,
                |line| !line.trim_start().starts_with('#'),
                |token| kargs::stable_token(devices, token, Form::Tag, prefix),
            )
        })?;
    }
    Ok(())
}

/// Edits the tokens of the lines that hold arguments.
pub(crate) fn edit_lines(
    text: &str,
    is_args: fn(&str) -> bool,
    new: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    let mut changed = false;
    let lines: Vec<String> = text
        .split_inclusive('\n')
        .map(|line| {
            let args = Some(line).filter(|line| is_args(line));
            let edited = args.and_then(|line| kargs::map_tokens(line, &new));
            changed |= edited.is_some();
            edited.unwrap_or_else(|| line.to_owned())
        })
        .collect();
    changed.then(|| lines.concat())
}
