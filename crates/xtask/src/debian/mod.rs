//! What images made of Debian packages share: a private apt, unpacking, the choice of files, cpio archives, manifests.
//! Nothing here needs root, and nothing is mounted.

pub(crate) mod apt;
pub(crate) mod cpio;
mod sources;
pub(crate) mod tree;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use apt::Package;
use cpio::{Archive, Node};
use tree::Tree;

/// The merged /usr, and the names under which kmod does its several jobs.
const SYMLINKS: &[(&str, &str)] = &[
    ("bin", "usr/bin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
    ("sbin", "usr/sbin"),
    ("usr/sbin/modprobe", "../bin/kmod"),
    ("usr/sbin/depmod", "../bin/kmod"),
];

/// The words of each line that has any; `#` begins a comment.
pub(crate) fn words(text: &[u8]) -> Vec<Vec<String>> {
    String::from_utf8_lossy(text)
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .map(|line| {
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .filter(|words| !words.is_empty())
        .collect()
}

/// Lines `PACKAGE FILE…`.
pub(crate) fn package_lines(text: &[u8]) -> Vec<(String, Vec<String>)> {
    words(text)
        .into_iter()
        .map(|mut words| {
            let files = words.split_off(1);
            (words.concat(), files)
        })
        .collect()
}

/// Unpacks each package into the folder of its name under `to`.
pub(crate) fn unpack(packages: &[Package], to: &Path) -> Result<()> {
    for package in packages {
        let root = to.join(&package.name);
        std::fs::create_dir_all(&root)?;
        apt::run(
            Command::new("dpkg-deb")
                .arg("-x")
                .arg(&package.deb)
                .arg(&root),
        )?;
    }
    Ok(())
}

/// Writes a root file system as cpio archive: directories (those of the files, and `directories`), then /dev/console,
/// the merged /usr's links and the files.
pub(crate) fn write_archive<W: Write>(out: W, mut tree: Tree, directories: &[&str]) -> Result<W> {
    tree.insert(
        "dev/console".into(),
        Node::CharDevice { major: 5, minor: 1 },
    );
    for (name, to) in SYMLINKS {
        tree.insert((*name).into(), Node::Symlink((*to).into()));
    }
    let mut directories: BTreeSet<String> =
        directories.iter().map(|name| (*name).to_owned()).collect();
    for name in tree.keys().chain(&directories.clone()) {
        let parents = name.match_indices('/').map(|(at, _)| name[..at].to_owned());
        directories.extend(parents);
    }
    let mut archive = Archive::new(out);
    for name in &directories {
        archive.add(name, &Node::Directory)?;
    }
    for (name, node) in &tree {
        archive.add(name, node)?;
    }
    let mut out = archive.finish()?;
    out.flush()?;
    Ok(out)
}

/// The program without symbols, where binutils is installed; a development build is four times as large with them.
pub(crate) fn stripped(program: &Path, copy: &Path) -> Result<Vec<u8>> {
    let result = Command::new("strip")
        .arg("-o")
        .arg(copy)
        .arg(program)
        .output();
    let path = if result.is_ok_and(|output| output.status.success()) {
        copy
    } else {
        program
    };
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}

/// Under another name first: a running machine keeps the file that it was started from.
pub(crate) fn replace(path: &Path, data: &[u8]) -> Result<()> {
    let part = path.with_extension("part");
    std::fs::write(&part, data).with_context(|| format!("writing {}", part.display()))?;
    std::fs::rename(&part, path).with_context(|| format!("renaming to {}", path.display()))
}

/// Package, version, and the licences that its copyright file names, one package a line.
pub(crate) fn manifest(packages: &[&Package], unpacked: &Path, suite: &str) -> String {
    let mut text =
        format!("# Debian {suite}; sources: the packages' source packages of these versions\n");
    for package in packages {
        let copyright = copyright(unpacked, &package.name).unwrap_or_default();
        let mut licences: Vec<&str> = copyright
            .lines()
            .filter_map(|line| line.strip_prefix("License:"))
            .map(str::trim)
            .filter(|licence| !licence.is_empty())
            .collect();
        licences.sort_unstable();
        licences.dedup();
        let licences = if licences.is_empty() {
            "see the package".into()
        } else {
            licences.join(", ")
        };
        let _ = writeln!(text, "{}\t{}\t{licences}", package.name, package.version);
    }
    text
}

/// A package's copyright file, or that of the package to whose documentation it links.
pub(crate) fn copyright(unpacked: &Path, package: &str) -> Option<String> {
    let file = |package: &str| {
        unpacked
            .join(package)
            .join("usr/share/doc")
            .join(package)
            .join("copyright")
    };
    let own = file(package);
    if let Ok(text) = std::fs::read_to_string(&own) {
        return Some(text);
    }
    let folder = own.parent()?;
    let link = std::fs::read_link(&own)
        .or_else(|_| std::fs::read_link(folder))
        .ok()?;
    // `../OTHER/copyright`, or `OTHER` for the folder.
    let other = link
        .iter()
        .find_map(|part| part.to_str().filter(|name| *name != ".."))?;
    std::fs::read_to_string(file(other)).ok()
}

/// SHA-256 over the parts and their lengths, in hexadecimal.
pub(crate) fn hash(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hex(&hasher.finalize())
}

/// Hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(crate) fn mib(bytes: usize) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

#[expect(clippy::print_stderr, reason = "xtask talks to its user")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}
