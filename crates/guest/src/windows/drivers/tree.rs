//! The driver tree of the host, below [`MEMBER`] in the payload: any layout of directories, names in any case.

use std::collections::BTreeMap;
use std::io::Read;

use super::MEMBER;
use crate::payload::MemberKind;
use crate::{Error, ErrorKind, Payload, Result};

/// More files than this are not looked at: the ISO of virtio-win has about 2500.
const FILES_MAX: usize = 50_000;
/// More .inf files than this are not read: the ISO has about 400.
const INFS_MAX: usize = 4_000;
/// Read of all .inf files together, in bytes.
const INF_TOTAL_MAX: u64 = 64 << 20;

/// A file of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// Name in the payload.
    pub(crate) member: String,
    /// Length in bytes.
    pub(crate) len: u64,
}

impl File {
    /// Name without its directory.
    pub(crate) fn name(&self) -> &str {
        self.member.rsplit('/').next().unwrap_or_default()
    }

    /// Its directory below the tree's root.
    pub(crate) fn dir(&self) -> &str {
        let below = self.member.strip_prefix(MEMBER).unwrap_or_default();
        let dir = below.rsplit_once('/').map_or("", |(dir, _)| dir);
        dir.trim_start_matches('/')
    }
}

/// Files by directory and lower-case name.
#[derive(Debug)]
pub(crate) struct Tree<'a> {
    payload: &'a Payload,
    dirs: BTreeMap<String, BTreeMap<String, File>>,
    /// What was left out.
    pub(crate) warnings: Vec<String>,
}

impl<'a> Tree<'a> {
    /// Lists what the payload has. Links are left out: whoever packs the tree follows them.
    pub(crate) fn of(payload: &'a Payload) -> Self {
        let mut tree = Self {
            payload,
            dirs: BTreeMap::new(),
            warnings: Vec::new(),
        };
        let files = payload
            .tree(MEMBER)
            .filter(|(_, member)| member.kind == MemberKind::File);
        for (count, (path, member)) in files.enumerate() {
            if count == FILES_MAX {
                let message = format!("only {FILES_MAX} files of the driver tree are looked at");
                tree.warnings.push(message);
                break;
            }
            let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
            let file = File {
                member: format!("{MEMBER}/{path}"),
                len: member.len,
            };
            let names = tree.dirs.entry(dir.to_lowercase()).or_default();
            names.entry(name.to_lowercase()).or_insert(file);
        }
        tree
    }

    /// It has no file at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.dirs.is_empty()
    }

    /// The .inf files, as many as are read.
    pub(crate) fn infs(&mut self) -> Vec<File> {
        let all = self.dirs.values().flat_map(|names| names.iter());
        let mut infs: Vec<File> = all
            .filter(|(name, _)| name.ends_with(".inf"))
            .map(|(_, file)| file.clone())
            .collect();
        let mut total = 0_u64;
        let mut count = 0;
        let before = infs.len();
        infs.retain(|file| {
            (total, count) = (total.saturating_add(file.len), count + 1);
            total <= INF_TOTAL_MAX && count <= INFS_MAX
        });
        if infs.len() < before {
            let message = format!("only {} of {before} .inf files are read", infs.len());
            self.warnings.push(message);
        }
        infs
    }

    /// The file of this name in the directory of that one, whatever its case.
    pub(crate) fn beside(&self, file: &File, name: &str) -> Option<&File> {
        let names = self.dirs.get(&file.dir().to_lowercase())?;
        names.get(&name.to_lowercase())
    }

    /// Reads a file that may have `max` bytes at most.
    pub(crate) fn read(&self, file: &File, max: u64) -> Result<Vec<u8>> {
        read(self.payload, &file.member, max)
    }
}

/// Reads a member of the payload that may have `max` bytes at most.
pub(crate) fn read(payload: &Payload, member: &str, max: u64) -> Result<Vec<u8>> {
    let len = payload.member(member)?.len;
    if len > max {
        let message = format!("expected {member} to have at most {max} bytes, it has {len}");
        return Err(Error::new(ErrorKind::Limit, message));
    }
    let mut content = Vec::new();
    payload
        .read(member)?
        .read_to_end(&mut content)
        .map_err(|error| Error::io("reading the payload", error).at(member))?;
    Ok(content)
}
