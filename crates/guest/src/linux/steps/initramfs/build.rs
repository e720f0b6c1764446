//! Builds the archive: modules that are missing, the module lists of old and new together, and the few other files.

use types::DeviceKind;

use crate::Result;
use crate::linux::convert::Context;
use crate::linux::devices::Form;
use crate::linux::initrd::compress::{Effort, initrd_error};
use crate::linux::initrd::cpio::Builder;
use crate::linux::initrd::{Compression, Contents, Generator, compress};
use crate::linux::kernels;
use crate::linux::modules::Modules;
use crate::linux::mounts::mount_of;
use crate::linux::steps::device_names::{crypttab, edit_lines};
use crate::linux::{fstab, kargs};
use crate::recorder::{from_bytes, to_bytes};

use super::depmod::{self, Target};
use super::{loads, nash};

/// What a root disk on either virtio bus needs, so that the administrator may switch later.
pub(super) const DISK: [&str; 4] = ["virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod"];
/// Goes along when something is missing anyway: a network of the initramfs, and names of adapters.
const ALONG: &str = "virtio_net";

/// Names of modules that must be in the initramfs, those of the root's own layers included.
pub(super) fn needed(context: &Context<'_>, modules: &Modules) -> Vec<&'static str> {
    let layers = root_layers(context);
    let names = DISK.into_iter().chain(layers);
    names.filter(|name| modules.is_loadable(name)).collect()
}

/// What drives the root file system and what is below it. The levels of md are not known here; an image that started
/// from it has them.
fn root_layers(context: &Context<'_>) -> Vec<&'static str> {
    let storage = context.devices.storage();
    let mut names = Vec::new();
    let root = mount_of(&context.guest.mountpoints, "/");
    let Some(root) = root.and_then(|mount| storage.get(&mount.device)) else {
        return names;
    };
    let file_systems = ["ext4", "ext3", "xfs", "btrfs", "f2fs", "jfs", "reiserfs"];
    names.extend(
        file_systems
            .into_iter()
            .filter(|name| *name == root.content),
    );
    if matches!(root.kind, DeviceKind::Lv { .. } | DeviceKind::Crypt { .. }) {
        names.push("dm_mod");
    }
    if matches!(root.kind, DeviceKind::Crypt { .. }) {
        names.push("dm_crypt");
    }
    names
}

/// The archive to append, not packed; `None` when nothing is missing.
pub(super) fn archive(
    context: &mut Context<'_>,
    target: Target<'_>,
    missing: &[String],
) -> Result<Option<Vec<u8>>> {
    let Target { kver, contents, .. } = target;
    let Some(modules) = context.modules.get(kver).cloned() else {
        return Ok(None);
    };
    let existing = contents
        .dirs
        .iter()
        .chain(contents.top_links.keys())
        .cloned();
    let mut builder = Builder::with_existing(existing);
    let mut has_net = contents.modules_of(kver).contains(ALONG) || modules.is_builtin(ALONG);
    if !missing.is_empty() {
        add_modules(context, &modules, target, &mut builder)?;
        has_net = true;
    }
    if contents.renames_nics && has_net {
        for (path, text) in context.network.link_files() {
            let inside = path.trim_start_matches('/').to_owned();
            add_changed(contents, &mut builder, &inside, text.into_bytes());
        }
    }
    add_renamed(context, contents, &mut builder);
    if contents.generator == Generator::Nash {
        let all = modules.closure(context.root, &DISK);
        let new: Vec<&String> = all.iter().filter(|name| missing.contains(name)).collect();
        nash::add(context, contents, &new, &mut builder);
    }
    if contents.kept.contains_key("etc/lvm/devices/system.devices")
        && !contents.kept.contains_key("etc/lvm/lvmlocal.conf")
    {
        // A file cannot be removed by appending; this makes LVM ignore it (lvm.conf(5), devices/use_devicesfile).
        add_changed(
            contents,
            &mut builder,
            "etc/lvm/lvmlocal.conf",
            b"devices {\n\tuse_devicesfile=0\n}\n".to_vec(),
        );
    }
    Ok(if builder.is_empty() {
        None
    } else {
        Some(builder.finish())
    })
}

fn add_modules(
    context: &mut Context<'_>,
    modules: &Modules,
    target: Target<'_>,
    builder: &mut Builder,
) -> Result<()> {
    let Target { kver, contents, .. } = target;
    let mut names = needed(context, modules);
    names.push(ALONG);
    let missing = kernels::missing(context.root, modules, contents, kver, &names);
    match contents.flat_dir() {
        Some(dir) => depmod::add_flat(context, modules, dir, &missing, builder)?,
        None => depmod::add_tree(context, modules, target, &missing, builder)?,
    }
    let forced: Vec<&str> = DISK
        .into_iter()
        .filter(|name| modules.is_loadable(name))
        .collect();
    loads::add(context, modules, target, &forced, &missing, builder);
    Ok(())
}

/// Packs it as the kernel can surely read it: as the main archive is packed when that is one of those that are written
/// here, else as its configuration says, else not at all.
pub(super) fn pack(
    modules: &Modules,
    contents: &Contents,
    cpio: &[u8],
    initrd: &str,
) -> Result<Vec<u8>> {
    let kind = packing(modules, contents);
    compress::pack(kind, Effort::Normal, cpio).map_err(|error| initrd_error(initrd, error))
}

/// How an archive of ours may be packed.
pub(super) fn packing(modules: &Modules, contents: &Contents) -> Compression {
    let main = contents.main_compression();
    let written = [Compression::Gzip, Compression::Zstd, Compression::Xz];
    if written.contains(&main) {
        return main;
    }
    let known = |kind: &Compression| modules.config.reads(*kind) == Some(true);
    written.into_iter().find(known).unwrap_or(Compression::None)
}

/// Adds a file unless the initramfs has it with this content already.
pub(super) fn add_changed(
    contents: &Contents,
    builder: &mut Builder,
    path: &str,
    content: Vec<u8>,
) {
    if contents.kept.get(path) != Some(&content) {
        builder.file(&contents.real_path(path), &content);
    }
}

/// Files with device names that the initramfs carries copies of.
fn add_renamed(context: &Context<'_>, contents: &Contents, builder: &mut Builder) {
    let (devices, prefix) = (&context.devices, context.disk_prefix);
    let token = |token: &str| kargs::stable_token(devices, token, Form::Tag, prefix);
    for (path, content) in &contents.kept {
        let text = from_bytes(content);
        let new = match path.as_str() {
            "cryptroot/crypttab" | "etc/crypttab" => crypttab(&text, |spec| {
                devices.stable(spec, Some("crypto_LUKS"), Form::TagOrPath, prefix)
            }),
            "etc/fstab" => fstab::rewrite_specs(&text, |entry| {
                devices.stable(&entry.spec, Some(&entry.fs_type), Form::Tag, prefix)
            }),
            _ if path.starts_with("conf/") && path != "conf/modules" => {
                edit_lines(&text, |line| !line.starts_with('#'), token)
            }
            _ if path.starts_with("etc/cmdline.d/") => edit_lines(&text, |_| true, token),
            _ => None,
        };
        if let Some(new) = new {
            builder.file(&contents.real_path(path), &to_bytes(&new));
        }
    }
}
