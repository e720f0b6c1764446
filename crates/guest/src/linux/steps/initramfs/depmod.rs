//! Missing modules into the archive, with lists of old and new modules together: udev, kmod and busybox in the initramfs then
//! find the drivers by the aliases of the devices. Where the lists that there are do not say enough ([`Lists`]), our own depmod
//! makes them in a scratch directory.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::path::Path;

use crate::hostcmd;
use crate::linux::convert::Context;
use crate::linux::initrd;
use crate::linux::initrd::Contents;
use crate::linux::initrd::compress::{MODULE_MAX, unpack_module};
use crate::linux::initrd::cpio::{Builder, Entry, S_IFMT, S_IFREG};
use crate::linux::modules::{Modules, module_name};
use crate::root::join;
use crate::{Error, ErrorKind, Result};

use super::lists::Lists;

/// Modules of one initramfs, unpacked for depmod, are at most this many bytes together.
const EXTRACT_MAX: u64 = 512 << 20;
/// Lists that depmod reads and does not write (depmod(8)).
const DEPMOD_INPUTS: [&str; 3] = [
    "modules.order",
    "modules.builtin",
    "modules.builtin.modinfo",
];

/// depmod is often built without zlib (Debian's is) and then passes over such modules.
const GZ: &str = ".ko.gz";
/// Modules of that kind, in the scratch directory.
const GZ_LIST: &str = "v2v-gz";
/// Stands in for it in the scratch directory: of the same length, so that it can be put back in binary lists.
const FOR_GZ: &str = ".ko.xz";

/// What modules are added to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'t> {
    /// The kernel.
    pub(super) kver: &'t str,
    /// Path of the initramfs in the guest.
    pub(super) initrd: &'t str,
    /// What it carries.
    pub(super) contents: &'t Contents,
}

/// Adds these modules, in files beside those that the initramfs has, without lists.
pub(super) fn add_flat(
    context: &Context<'_>,
    modules: &Modules,
    dir: &str,
    names: &[String],
    builder: &mut Builder,
) -> Result<()> {
    for name in names {
        let Some(path) = modules.path(name) else {
            continue;
        };
        let packed = context.root.read(&path, MODULE_MAX)?;
        let content = unpack_module(packed)
            .map_err(|error| Error::io("unpacking the module", error).at(&path))?;
        builder.file(&format!("{dir}/{name}.ko"), &content);
    }
    Ok(())
}

/// Adds these modules where the initramfs has those of this kernel, and the lists of all.
pub(super) fn add_tree(
    context: &Context<'_>,
    modules: &Modules,
    target: Target<'_>,
    names: &[String],
    builder: &mut Builder,
) -> Result<()> {
    let inside = target.contents.module_dir(safe_name(target.kver)?);
    let mut added = Vec::new();
    for name in names {
        let (Some(path), Some(relative)) = (modules.path(name), modules.relative_path(name)) else {
            continue;
        };
        let content = context.root.read(&path, MODULE_MAX)?;
        builder.file(&format!("{inside}/{relative}"), &content);
        added.push((relative, content));
    }
    let lists = Lists {
        root: context.root,
        modules,
        contents: target.contents,
        kver: target.kver,
        added: names,
    };
    let lists = match lists.with_added() {
        Some(lists) => lists,
        None => by_depmod(context, modules, target, &added)?,
    };
    for (name, content) in lists {
        builder.file(&format!("{inside}/{name}"), &content);
    }
    Ok(())
}

/// The lists as our own depmod makes them of all modules.
fn by_depmod(
    context: &Context<'_>,
    modules: &Modules,
    target: Target<'_>,
    added: &[(&str, Vec<u8>)],
) -> Result<BTreeMap<String, Vec<u8>>> {
    let Target { kver, initrd, .. } = target;
    let io = |error: io::Error| Error::io("preparing a scratch directory for depmod", error);
    let scratch = tempfile::Builder::new()
        .prefix("v2v-depmod-")
        .tempdir()
        .map_err(io)?;
    let tree = scratch.path().join("usr/lib/modules").join(kver);
    std::fs::create_dir_all(&tree).map_err(io)?;
    // depmod of either persuasion finds the tree: /lib/modules or /usr/lib/modules.
    std::os::unix::fs::symlink("usr/lib", scratch.path().join("lib")).map_err(io)?;
    let inside = target.contents.module_dir(kver);
    extract_modules(context, initrd, &inside, &tree)?;
    for (relative, content) in added {
        put(&tree, relative, &mut content.as_slice())
            .map_err(|error| Error::io("copying the module", error).at(relative))?;
    }
    for input in DEPMOD_INPUTS {
        if let Ok(content) = context.root.read(&join(&modules.dir, input), MODULE_MAX) {
            std::fs::write(tree.join(input), content).map_err(io)?;
        }
    }
    run_depmod(scratch.path(), kver)?;
    let mut all = lists(&tree).map_err(io)?;
    put_back_gz(&tree, &mut all).map_err(io)?;
    let old = target.contents.lists.get(&format!("{inside}/modules.dep"));
    if old.is_some_and(|old| old.starts_with(b"/"))
        && let Some(dep) = all.get_mut("modules.dep")
    {
        *dep = absolute(dep, &format!("/lib/modules/{kver}"));
    }
    Ok(all)
}

fn run_depmod(base: &Path, kver: &str) -> Result<()> {
    let empty = base.join("depmod.d");
    std::fs::create_dir(&empty)
        .map_err(|error| Error::io("preparing a scratch directory for depmod", error))?;
    let (empty, base) = (empty.to_string_lossy(), base.to_string_lossy());
    hostcmd::run("depmod", &["-C", &empty, "-b", &base, kver])
}

/// modprobe of module-init-tools before 3.5 (SLES 10, RHEL 5) knows absolute paths only.
fn absolute(dep: &[u8], dir: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(dep);
    let line = |line: &str| {
        let (path, needs) = line.split_once(':').unwrap_or((line, ""));
        let needs = needs.split_whitespace();
        let needs: String = needs.map(|need| format!(" {dir}/{need}")).collect();
        format!("{dir}/{path}:{needs}\n")
    };
    text.lines().map(line).collect::<String>().into_bytes()
}

/// What depmod wrote; refuses a list without the driver that all this is for, which a depmod that cannot read the
/// modules' compression would leave.
fn lists(tree: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut lists = BTreeMap::new();
    for entry in std::fs::read_dir(tree)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("modules.")
            && !DEPMOD_INPUTS.contains(&name.as_str())
            && entry.file_type()?.is_file()
        {
            lists.insert(name, std::fs::read(entry.path())?);
        }
    }
    let dep = lists
        .get("modules.dep")
        .map(|dep| String::from_utf8_lossy(dep).into_owned())
        .unwrap_or_default();
    if !dep.contains("virtio") {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "our depmod cannot read this kernel's modules",
        ));
    }
    Ok(lists)
}

/// Copies the modules that the initramfs carries into the scratch tree.
fn extract_modules(context: &Context<'_>, initrd: &str, inside: &str, tree: &Path) -> Result<()> {
    let mut left = EXTRACT_MAX;
    let mut over = false;
    let mut visit = |entry: &Entry, data: &mut dyn Read| {
        let below = entry
            .name
            .strip_prefix(inside)
            .and_then(|rest| rest.strip_prefix('/'));
        let Some(below) =
            below.filter(|below| entry.mode & S_IFMT == S_IFREG && module_name(below).is_some())
        else {
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
    if relative
        .split('/')
        .any(|part| matches!(part, "" | "." | ".."))
    {
        let message = format!("expected a plain path of a module, found {relative:?}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let path = match relative.strip_suffix(GZ) {
        Some(stem) => tree.join(format!("{stem}{FOR_GZ}")),
        None => tree.join(relative),
    };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut file = std::fs::File::create(path)?;
    if relative.ends_with(GZ) {
        let mut packed = Vec::new();
        data.take(MODULE_MAX).read_to_end(&mut packed)?;
        // depmod goes by the content, not by the name, so that an unpacked one will do.
        file.write_all(&unpack_module(packed)?)?;
        list_gz(tree, relative)?;
    } else {
        io::copy(data, &mut file)?;
    }
    file.flush()
}

/// Notes a module that stands under another name.
fn list_gz(tree: &Path, relative: &str) -> io::Result<()> {
    let mut list = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(tree.join(GZ_LIST))?;
    writeln!(list, "{relative}")
}

/// Puts the right names into what depmod wrote.
fn put_back_gz(tree: &Path, lists: &mut BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    let noted = match std::fs::read_to_string(tree.join(GZ_LIST)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let names: BTreeSet<&str> = noted.lines().collect();
    for (_, content) in lists
        .iter_mut()
        .filter(|(name, _)| name.starts_with("modules.dep"))
    {
        let mut at = 0;
        let ending = FOR_GZ.as_bytes();
        while let Some(found) = content
            .get(at..)
            .and_then(|rest| rest.windows(ending.len()).position(|part| part == ending))
        {
            let (start, end) = (at + found, at + found + ending.len());
            let before = content.get(..start).unwrap_or_default();
            let is_path = |byte: &u8| byte.is_ascii_graphic() && *byte != b':';
            let begin = before.iter().rposition(|byte| !is_path(byte));
            let stem = before.get(begin.map_or(0, |begin| begin + 1)..);
            let name = format!("{}{GZ}", String::from_utf8_lossy(stem.unwrap_or_default()));
            // In a binary list the byte before a path may be anything: a number of four bytes.
            let is_ours = (0..=4).any(|skip| {
                let tail = name.get(skip..);
                tail.is_some_and(|tail| names.contains(tail))
            });
            if is_ours && let Some(place) = content.get_mut(start..end) {
                place.copy_from_slice(GZ.as_bytes());
            }
            at = end;
        }
    }
    Ok(())
}

fn safe_name(kver: &str) -> Result<&str> {
    let plain = !kver.starts_with(['.', '-'])
        && kver
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'/');
    if plain && !kver.is_empty() {
        Ok(kver)
    } else {
        Err(Error::corrupt(format!("odd kernel version {kver:?}")))
    }
}
