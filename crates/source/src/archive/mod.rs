//! An archive as an index of members that are read in place: tar, a tar that is packed as a whole, zip. Nothing is
//! ever unpacked to a disk.

mod tar;
mod zip;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use image::{FileRange, Packing, Unpack};

use crate::error::{Error, ErrorKind, Result, shown};
use crate::manifest::Verification;
use crate::{href, sniff};

/// Members that are indexed; a chunked disk of 8 TiB in 1 GiB pieces has 8192.
const MAX_MEMBERS: usize = 65_536;

/// Members of an archive by name.
#[derive(Debug)]
pub(crate) struct Archive {
    /// The archive's own bytes; of a packed one, those inside.
    whole: FileRange,
    members: BTreeMap<String, Member>,
    /// Names that were ignored, for a warning.
    pub(crate) ignored: Vec<String>,
    /// Members that were opened: for packed ones that is work to do once.
    opened: Mutex<HashMap<String, FileRange>>,
}

/// Where a member's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    start: u64,
    /// Length in the archive.
    len: u64,
    /// How it is packed.
    packing: Option<Packing>,
    /// Length and CRC-32 of its content, where the archive states them.
    content: Option<(u64, u32)>,
    /// Why it cannot be read.
    refused: Option<&'static str>,
}

impl Member {
    /// Bytes as they are.
    fn plain(start: u64, len: u64) -> Self {
        Self {
            start,
            len,
            packing: None,
            content: None,
            refused: None,
        }
    }
}

/// What the walk over an archive finds.
#[derive(Debug, Default)]
struct Members {
    by_name: BTreeMap<String, Member>,
    ignored: Vec<String>,
}

impl Members {
    /// Notes a member. Folders do not count; what has an absolute or climbing name is ignored, as no reference can
    /// name it.
    fn add(&mut self, name: &[u8], member: Member) -> Result<()> {
        let name = String::from_utf8_lossy(name);
        if name.ends_with('/') {
            return Ok(()); // a folder, as tar wrote them before it had a type for them
        }
        if name.starts_with('/') || name.split('/').any(|part| part == "..") {
            self.ignored.push(name.into_owned());
            return Ok(());
        }
        let Some(name) = href::tidy(&name) else {
            return Ok(());
        };
        if self.by_name.len() >= MAX_MEMBERS {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("expected at most {MAX_MEMBERS} members, found more"),
            ));
        }
        if self.by_name.insert(name.clone(), member).is_some() {
            return Err(Error::corrupt(format!(
                "two members are named `{}`",
                shown(&name)
            )));
        }
        Ok(())
    }
}

impl Archive {
    /// Indexes the archive at `path`; costs one small read for each member, and one pass over a packed archive.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let label = path.display().to_string();
        let meta = std::fs::metadata(path).map_err(|e| Error::io("opening", e).in_file(&label))?;
        if !meta.is_file() {
            let message = "expected a regular file, a folder or an .ovf file";
            return Err(Error::new(ErrorKind::Usage, message).in_file(&label));
        }
        let range = FileRange::open(path)?;
        Self::read(range).map_err(|e| e.in_file(label))
    }

    /// Indexes an archive of any kind that is read.
    pub(crate) fn read(range: FileRange) -> Result<Self> {
        let (whole, members) = if zip::is_zip(&range)? {
            let members = zip::read(&range)?;
            (range, members)
        } else {
            let inner = match range.packing()? {
                Some(packing) => range.unpacked(packing)?,
                None => range,
            };
            let members = tar::read(&inner)?;
            (inner, members)
        };
        Ok(Self {
            whole,
            members: members.by_name,
            ignored: members.ignored,
            opened: Mutex::default(),
        })
    }

    /// Names of all regular members.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// The bytes of a member, if there is one of this name.
    pub(crate) fn get(&self, name: &str) -> Result<Option<FileRange>> {
        let Some(member) = self.members.get(name) else {
            return Ok(None);
        };
        let label = format!("{}:{}", self.whole.label(), shown(name));
        if let Some(reason) = member.refused {
            return Err(Error::unsupported(format!("the member {reason}")).in_file(label));
        }
        let stored = self.whole.slice(member.start, member.len, label.as_str())?;
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(range) = opened.get(name) {
            return Ok(Some(range.clone()));
        }
        let range = match member.packing {
            Some(packing) => stored.unpacked_by(&Unpack {
                max_len: member.content.map_or(u64::MAX, |(len, _)| len),
                ..Unpack::new(packing)
            })?,
            None => stored,
        };
        if let Some((len, _)) = member.content.filter(|(len, _)| *len != range.len()) {
            let found = range.len();
            let message = format!("expected {len} unpacked bytes, found {found}");
            return Err(Error::corrupt(message).in_file(label));
        }
        opened.insert(name.to_owned(), range.clone());
        Ok(Some(range))
    }

    /// Comparisons with the checksums that the archive states, of the members that were asked for. A deflated member
    /// was compared when it was opened.
    pub(crate) fn unverified(&self) -> Vec<Verification> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let verification = |(name, range): (&String, &FileRange)| {
            let member = self.members.get(name)?;
            let (_, crc32) = member.content?;
            let compared = matches!(member.packing, Some(Packing::Deflate { .. }));
            (!compared).then(|| Verification::crc32(name, crc32, range.clone()))
        };
        let mut found: Vec<Verification> = opened.iter().filter_map(verification).collect();
        found.sort_by(|a, b| a.label().cmp(b.label()));
        found
    }
}

/// Reads an archive that is in memory whole, for fuzzing: the names of its members.
pub(crate) fn list(bytes: &[u8]) -> Result<Vec<String>> {
    let store = std::sync::Arc::new(bytes.to_vec());
    let archive = Archive::read(FileRange::from_store(store, "memory"))?;
    let names: Vec<String> = archive.names().map(str::to_owned).collect();
    for name in &names {
        archive.get(name)?;
    }
    Ok(names)
}

/// What a file that is no archive looks like.
fn not_an_archive(head: &[u8]) -> Error {
    Error::corrupt(sniff::not_a_tar(head))
}
