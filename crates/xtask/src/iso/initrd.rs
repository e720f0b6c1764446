//! The initrd: one compressed archive with tools, modules and firmware, then one with /init and its libraries.
//!
//! The kernel unpacks concatenated archives, each compressed or not, that begin on 4-byte boundaries
//! (Documentation/driver-api/early-userspace/buffer-format.rst). Modules and firmware are stored plain inside: one
//! compression over all of them is smaller than one for each, and the machine unpacks once.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

use crate::debian::cpio::{Archive, Node};
use crate::debian::tree::{Picker, Tree};
use crate::debian::{self, apt};

use super::tools::Tools;

/// Directories that the initrd has beside those of its files.
const DIRECTORIES: &[&str] = &["dev", "proc", "root", "run", "sys", "tmp", "var/lib"];
const SYMLINKS: &[(&str, &str)] = &[
    ("usr/lib/systemd/systemd-udevd", "../../bin/udevadm"),
    ("usr/sbin/insmod", "../bin/kmod"),
    ("usr/sbin/lsmod", "../bin/kmod"),
    ("usr/sbin/modinfo", "../bin/kmod"),
    ("usr/sbin/rmmod", "../bin/kmod"),
    ("usr/sbin/ip", "../bin/ip"),
    ("var/run", "../run"),
    ("etc/mtab", "../proc/self/mounts"),
];
/// Near the end of what helps; the base is made once.
const LEVEL: i32 = 19;
/// Bits of the window: firmware files that are nearly the same lie far apart. The kernel takes up to 27
/// (lib/decompress_unzstd.c).
const WINDOW_LOG: u32 = 26;
/// Of the archive with /init, which is made on every build.
const INIT_LEVEL: i32 = 12;

/// Adds our own links and one for each applet of busybox that has no better program.
pub(super) fn add_links(tree: &mut Tree, tools: &Tools) -> Result<()> {
    for (name, to) in SYMLINKS {
        tree.insert((*name).into(), Node::Symlink((*to).into()));
    }
    let list = apt::run(tools.command("busybox", 0).arg("--list-full"))
        .context("asking busybox for its applets")?;
    let names: Vec<String> = tree
        .keys()
        .filter_map(|path| path.rsplit('/').next().map(str::to_owned))
        .collect();
    for applet in list.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let name = applet.rsplit('/').next().unwrap_or(applet);
        if names.iter().any(|known| known == name) || name == "linuxrc" {
            continue;
        }
        let folder = if applet.contains("sbin/") {
            "usr/sbin"
        } else {
            "usr/bin"
        };
        tree.insert(
            format!("{folder}/{name}"),
            Node::Symlink("/usr/bin/busybox".into()),
        );
    }
    Ok(())
}

/// The compressed archive of everything but /init.
pub(super) fn base(tree: Tree) -> Result<Vec<u8>> {
    let archive = debian::write_archive(Vec::new(), tree, DIRECTORIES)?;
    compress(&archive, LEVEL)
}

/// The whole initrd: that of `base`, and `program` as /init.
pub(super) fn with_init(base: &Path, program: &[u8]) -> Result<Vec<u8>> {
    let mut initrd = std::fs::read(base.join("base.cpio.zst")).context("reading base.cpio.zst")?;
    initrd.resize(initrd.len().next_multiple_of(4), 0);
    let mut picker = Picker::new(&base.join("packages"));
    if program.starts_with(b"\x7fELF") {
        picker.libraries(program).context("libraries of /init")?;
    }
    let init = Node::File {
        mode: 0o755,
        data: program.to_vec(),
    };
    let mut archive = Archive::new(Vec::new());
    for (path, node) in picker.tree.iter().chain([(&"init".to_owned(), &init)]) {
        archive.add(path, node)?;
    }
    initrd.extend(compress(&archive.finish()?, INIT_LEVEL)?);
    initrd.resize(initrd.len().next_multiple_of(4), 0);
    Ok(initrd)
}

fn compress(data: &[u8], level: i32) -> Result<Vec<u8>> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level)?;
    encoder.window_log(WINDOW_LOG)?;
    encoder.long_distance_matching(true)?;
    encoder.write_all(data)?;
    Ok(encoder.finish()?)
}
