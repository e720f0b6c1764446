//! RPM's database in its three formats, and the headers in it.
//!
//! A header is what a package file has too ("RPM V4 Package format", Header), without its magic: two counts, an index
//! of 16-byte entries, and a store of data; all numbers big endian.

use std::fs::File;

use crate::linux::packages::bytes::be32;
use crate::linux::packages::{Package, bdb, ndb, sqlite};
use crate::root::join;
use crate::{Result, Root};

/// Names and version are at the beginning of a header, file lists of megabytes behind them.
pub(super) const BLOB_MAX: usize = 256 << 10;
/// No system has as many packages.
pub(super) const PACKAGES_MAX: usize = 200_000;
/// `rpm` keeps its database in one of these; the second since openSUSE and Fedora 36.
const DIRS: [&str; 3] = ["/usr/lib/sysimage/rpm", "/var/lib/rpm", "/usr/share/rpm"];
const FILES: [(&str, Reader); 3] = [
    ("rpmdb.sqlite", sqlite::blobs),
    ("Packages.db", ndb::blobs),
    ("Packages", bdb::blobs),
];

/// Calls back with (the beginning of) every header.
type Reader = fn(&Root, &str, &File, &mut dyn FnMut(&[u8])) -> Result<()>;

/// Path of the database, and its packages. `None` without one.
pub(super) fn read(root: &Root) -> Option<(String, Result<Vec<Package>>)> {
    let found = DIRS
        .iter()
        .flat_map(|dir| FILES.map(|(name, reader)| (join(dir, name), reader)))
        .find(|(path, _)| root.is_file(path));
    let (path, reader) = found?;
    let packages = packages(root, &path, reader);
    Some((path, packages))
}

fn packages(root: &Root, path: &str, reader: Reader) -> Result<Vec<Package>> {
    let file = root.open_file(path)?;
    let mut packages = Vec::new();
    reader(root, path, &file, &mut |blob| {
        if packages.len() < PACKAGES_MAX
            && let Some(package) = header(blob)
        {
            packages.push(package);
        }
    })
    .map_err(|error| error.at(path))?;
    Ok(packages)
}

/// Reads name, version and architecture from a header; `None` when it is none.
pub(super) fn header(blob: &[u8]) -> Option<Package> {
    const NAME: u32 = 1000;
    const VERSION: u32 = 1001;
    const RELEASE: u32 = 1002;
    const ARCH: u32 = 1022;
    const STRING: u32 = 6;
    /// As many tags as rpm accepts in a header (0xffff).
    const TAGS_MAX: usize = 0xffff;
    let tags = usize::try_from(be32(blob, 0)?).ok()?;
    if tags == 0 || tags > TAGS_MAX {
        return None;
    }
    let index = blob.get(8..8 + tags * 16)?;
    let store = blob.get(8 + tags * 16..)?;
    let text = |wanted: u32| {
        let entry = index
            .chunks_exact(16)
            .find(|entry| be32(entry, 0) == Some(wanted) && be32(entry, 4) == Some(STRING))?;
        let from = store.get(usize::try_from(be32(entry, 8)?).ok()?..)?;
        let end = from.iter().position(|&byte| byte == 0)?;
        Some(String::from_utf8_lossy(from.get(..end)?).into_owned())
    };
    let version = text(VERSION).unwrap_or_default();
    let release = text(RELEASE);
    Some(Package {
        name: text(NAME)?,
        version: match release {
            Some(release) => format!("{version}-{release}"),
            None => version,
        },
        arch: text(ARCH).unwrap_or_default(),
    })
}
