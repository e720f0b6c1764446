//! Builds the archive: modules that are missing, the module lists of old and new together, and the few other files.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::Path;

use crate::hostcmd;
use crate::linux::convert::Context;
use crate::linux::devices::Form;
use crate::linux::initrd::compress::{MODULE_MAX, gzip, initrd_error};
use crate::linux::initrd::cpio::{Builder, Entry, S_IFMT, S_IFREG};
use crate::linux::initrd::{self, Compression, Contents, Generator};
use crate::linux::modules::module_name;
use crate::linux::steps::device_names::{crypttab, edit_lines};
use crate::linux::steps::keep_drivers::append_modules;
use crate::linux::{fstab, kargs};
use crate::recorder::{from_bytes, to_bytes};
use crate::root::join;
use crate::{Error, ErrorKind, Result};

/// What the root disk and the network on virtio need; what a kernel does not have is left out.
const WANTED: [&str; 7] = [
    "virtio", "virtio_ring", "virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "virtio_net",
];
/// Loaded by name, as the second belt beside udev's modalias.
const FORCED: [&str; 4] = ["virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod"];
/// Modules of one initramfs, unpacked for depmod, are at most this many bytes together.
const EXTRACT_MAX: u64 = 512 << 20;
/// Lists that depmod reads and does not write (depmod(8)).
const DEPMOD_INPUTS: [&str; 3] = ["modules.order", "modules.builtin", "modules.builtin.modinfo"];

/// The archive to append, not packed; `None` when nothing is missing.
pub(super) fn archive(
    context: &Context<'_>,
    kver: &str,
    initrd: &str,
    contents: &Contents,
    needs_modules: bool,
) -> Result<Option<Vec<u8>>> {
    let existing = contents.dirs.iter().chain(contents.top_links.keys()).cloned();
    let mut builder = Builder::with_existing(existing);
    let mut has_net = contents.modules_of(kver).contains("virtio_net");
    if needs_modules {
        add_modules(context, kver, initrd, contents, &mut builder)?;
        add_forced(contents, &mut builder, &forced(context, kver));
        has_net = true;
    }
    let builtin_net = context.modules.get(kver).is_some_and(|modules| modules.is_builtin("virtio_net"));
    if contents.renames_nics && (has_net || builtin_net) {
        for (path, text) in context.network.link_files() {
            let inside = path.trim_start_matches('/').to_owned();
            add_changed(contents, &mut builder, &inside, text.into_bytes());
        }
    }
    add_renamed(context, contents, &mut builder);
    if contents.kept.contains_key("etc/lvm/devices/system.devices") && !contents.kept.contains_key("etc/lvm/lvmlocal.conf") {
        // A file cannot be removed by appending; this makes LVM ignore it (lvm.conf(5), devices/use_devicesfile).
        add_changed(contents, &mut builder, "etc/lvm/lvmlocal.conf", b"devices {\n\tuse_devicesfile=0\n}\n".to_vec());
    }
    Ok(if builder.is_empty() { None } else { Some(builder.finish()) })
}

fn forced(context: &Context<'_>, kver: &str) -> Vec<&'static str> {
    let modules = context.modules.get(kver);
    FORCED.into_iter().filter(|name| modules.is_some_and(|m| m.has(name) && !m.is_builtin(name))).collect()
}

/// Packs it as the kernel can surely read it: gzip when it says so, plain otherwise.
pub(super) fn pack(context: &Context<'_>, kver: &str, contents: &Contents, cpio: Vec<u8>, initrd: &str) -> Result<Vec<u8>> {
    let config = context.root.text(&format!("/boot/config-{kver}")).unwrap_or_default();
    let says_so = config.lines().any(|line| line.trim() == "CONFIG_RD_GZIP=y");
    let proven = super::main_compression(contents) == Compression::Gzip;
    if says_so || proven { gzip(&cpio).map_err(|error| initrd_error(initrd, error)) } else { Ok(cpio) }
}

/// Adds a file unless the initramfs has it with this content already.
fn add_changed(contents: &Contents, builder: &mut Builder, path: &str, content: Vec<u8>) {
    if contents.kept.get(path) != Some(&content) {
        builder.file(&contents.real_path(path), &content);
    }
}

/// The forced-load list of whatever runs inside the initramfs.
fn add_forced(contents: &Contents, builder: &mut Builder, names: &[&str]) {
    match contents.generator {
        Generator::InitramfsTools => {
            let old = from_bytes(contents.kept.get("conf/modules").map_or(&[][..], Vec::as_slice));
            if let Some(new) = append_modules(&old, names) {
                builder.file("conf/modules", &to_bytes(&new));
            }
        }
        Generator::Dracut => {
            // dracut.cmdline(7): loaded before udev is triggered.
            let args: Vec<String> = names.iter().map(|name| format!("rd.driver.pre={name}")).collect();
            let text = format!("{}\n", args.join(" "));
            add_changed(contents, builder, "etc/cmdline.d/99-v2v-virtio.conf", text.into_bytes());
        }
        Generator::Mkinitcpio | Generator::Mkinitfs | Generator::Unknown => {}
    }
}

/// Files with device names that the initramfs carries copies of.
fn add_renamed(context: &Context<'_>, contents: &Contents, builder: &mut Builder) {
    let (devices, prefix) = (&context.devices, context.disk_prefix);
    let token = |token: &str| kargs::stable_token(devices, token, Form::Tag, prefix);
    for (path, content) in &contents.kept {
        let text = from_bytes(content);
        let new = match path.as_str() {
            "cryptroot/crypttab" | "etc/crypttab" => {
                crypttab(&text, |spec| devices.stable(spec, Some("crypto_LUKS"), Form::TagOrPath, prefix))
            }
            "etc/fstab" => fstab::rewrite_specs(&text, |entry| {
                devices.stable(&entry.spec, Some(&entry.fs_type), Form::Tag, prefix)
            }),
            _ if path.starts_with("conf/") && path != "conf/modules" => edit_lines(&text, |line| !line.starts_with('#'), token),
            _ if path.starts_with("etc/cmdline.d/") => edit_lines(&text, |_| true, token),
            _ => None,
        };
        if let Some(new) = new {
            builder.file(&contents.real_path(path), &to_bytes(&new));
        }
    }
}

/// Adds the missing modules and the lists of all modules together, made by our depmod in a scratch directory.
fn add_modules(context: &Context<'_>, kver: &str, initrd: &str, contents: &Contents, builder: &mut Builder) -> Result<()> {
    let Some(modules) = context.modules.get(kver) else { return Ok(()) };
    let io = |error: io::Error| Error::io("preparing a scratch directory for depmod", error);
    let scratch = tempfile::Builder::new().prefix("v2v-depmod-").tempdir().map_err(io)?;
    let tree = scratch.path().join("usr/lib/modules").join(safe_name(kver)?);
    std::fs::create_dir_all(&tree).map_err(io)?;
    // depmod of either persuasion finds the tree: /lib/modules or /usr/lib/modules.
    std::os::unix::fs::symlink("usr/lib", scratch.path().join("lib")).map_err(io)?;
    let inside = contents.module_dir(kver);
    extract_modules(context, initrd, &inside, &tree)?;
    let have = contents.modules_of(kver);
    let names: Vec<&str> = WANTED.into_iter().filter(|name| modules.has(name)).collect();
    for name in modules.closure(context.root, &names) {
        let (Some(path), Some(relative)) = (modules.path(&name), modules.relative_path(&name)) else { continue };
        if have.contains(&name) {
            continue;
        }
        let content = context.root.read(&path, MODULE_MAX)?;
        put(&tree, relative, &mut content.as_slice()).map_err(|error| Error::io("copying the module", error).at(&path))?;
        builder.file(&format!("{inside}/{relative}"), &content);
    }
    for input in DEPMOD_INPUTS {
        if let Ok(content) = context.root.read(&join(&modules.dir, input), MODULE_MAX) {
            std::fs::write(tree.join(input), content).map_err(io)?;
        }
    }
    let empty = scratch.path().join("depmod.d");
    std::fs::create_dir(&empty).map_err(io)?;
    hostcmd::run("depmod", &["-C", &empty.to_string_lossy(), "-b", &scratch.path().to_string_lossy(), kver])?;
    for (name, content) in lists(&tree).map_err(io)? {
        builder.file(&format!("{inside}/{name}"), &content);
    }
    Ok(())
}

/// What depmod wrote; refuses a list without the driver that all this is for, which a depmod that cannot read the
/// modules' compression would leave.
fn lists(tree: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut lists = BTreeMap::new();
    for entry in std::fs::read_dir(tree)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("modules.") && !DEPMOD_INPUTS.contains(&name.as_str()) && entry.file_type()?.is_file() {
            lists.insert(name, std::fs::read(entry.path())?);
        }
    }
    let dep = lists.get("modules.dep").map(|dep| String::from_utf8_lossy(dep).into_owned()).unwrap_or_default();
    if !dep.contains("virtio") {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "our depmod cannot read this kernel's modules"));
    }
    Ok(lists)
}

/// Copies the modules that the initramfs carries into the scratch tree.
fn extract_modules(context: &Context<'_>, initrd: &str, inside: &str, tree: &Path) -> Result<()> {
    let mut left = EXTRACT_MAX;
    let mut over = false;
    let mut visit = |entry: &Entry, data: &mut dyn Read| {
        let below = entry.name.strip_prefix(inside).and_then(|rest| rest.strip_prefix('/'));
        let Some(below) = below.filter(|below| entry.mode & S_IFMT == S_IFREG && module_name(below).is_some()) else {
            return Ok(());
        };
        match left.checked_sub(u64::from(entry.len)) {
            Some(rest) => left = rest,
            None => over = true,
        }
        if over { Ok(()) } else { put(tree, below, data) }
    };
    initrd::for_each(context.root, initrd, &mut visit)?;
    if over {
        let message = format!("its modules take more than the {EXTRACT_MAX} bytes accepted");
        return Err(Error::new(ErrorKind::Limit, message).at(initrd));
    }
    Ok(())
}

/// Writes a file below the scratch tree; the name is the guest's, so it must be a plain one.
fn put(tree: &Path, relative: &str, data: &mut dyn Read) -> io::Result<()> {
    if relative.split('/').any(|part| matches!(part, "" | "." | "..")) {
        let message = format!("expected a plain path of a module, found {relative:?}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let path = tree.join(relative);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut file = std::fs::File::create(path)?;
    io::copy(data, &mut file)?;
    file.flush()
}

fn safe_name(kver: &str) -> Result<&str> {
    let plain = !kver.starts_with(['.', '-']) && kver.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    if plain && !kver.is_empty() { Ok(kver) } else { Err(Error::corrupt(format!("odd kernel version {kver:?}"))) }
}
