//! Files of the host that go into the guest: members of a tar archive (POSIX.1-2001, "ustar Interchange Format"), read
//! where they lie, so that gigabytes need no memory.
//!
//! The host makes the archive; in the appliance it is a read-only disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Component;

use tar::{Archive, EntryType};

use crate::{Error, ErrorKind, Result};

/// More members than this are refused.
const MEMBERS_MAX: usize = 1 << 20;

/// The archive with its table of members; the default has none.
#[derive(Debug, Default)]
pub struct Payload {
    file: Option<File>,
    members: BTreeMap<String, Member>,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What it is.
    pub kind: MemberKind,
    /// Permission bits.
    pub mode: u32,
    /// Length in bytes.
    pub len: u64,
    /// Where it begins, in bytes.
    offset: u64,
}

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link with this target.
    Symlink(String),
}

impl Payload {
    /// Reads the table of an archive; whatever follows its end is ignored.
    pub fn open(file: File) -> Result<Self> {
        let members = table(&file).map_err(|error| Error::io("reading the payload", error))?;
        Ok(Self {
            file: Some(file),
            members,
        })
    }

    /// The member called `name`.
    pub fn member(&self, name: &str) -> Result<&Member> {
        self.members
            .get(name)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("the payload has no {name}")))
    }

    /// The member called `name` and all below it, parents first, by their paths below it (its own is empty).
    pub fn tree<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, &'a Member)> {
        self.members
            .range(name.to_owned()..)
            .take_while(move |(path, _)| path.starts_with(name))
            .filter_map(move |(path, member)| {
                let below = path.strip_prefix(name)?;
                let inside = below.is_empty() || below.starts_with('/');
                inside.then(|| (below.trim_start_matches('/'), member))
            })
    }

    /// Reads a regular file.
    pub fn read(&self, name: &str) -> Result<impl Read + '_> {
        let member = self.member(name)?;
        match &self.file {
            Some(file) if member.kind == MemberKind::File => Ok(Reader {
                file,
                offset: member.offset,
                left: member.len,
            }),
            _ => Err(Error::corrupt(format!(
                "expected {name} of the payload to be a regular file"
            ))),
        }
    }
}

fn table(file: &File) -> io::Result<BTreeMap<String, Member>> {
    let mut members = BTreeMap::new();
    let mut archive = Archive::new(file);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let header = entry.header();
        let kind = match header.entry_type() {
            EntryType::Regular => MemberKind::File,
            EntryType::Directory => MemberKind::Dir,
            EntryType::Symlink => {
                MemberKind::Symlink(text(&entry.link_name_bytes().unwrap_or_default())?)
            }
            other => return Err(invalid(format!("a member of type {other:?}"))),
        };
        let name = text(&entry.path_bytes())?;
        let name = name.trim_end_matches('/').to_owned();
        let plain = std::path::Path::new(&name)
            .components()
            .all(|component| matches!(component, Component::Normal(_)));
        if !plain || name.is_empty() {
            return Err(invalid(format!("a member called {name}")));
        }
        let member = Member {
            kind,
            mode: header.mode()? & 0o7777,
            len: entry.size(),
            offset: entry.raw_file_position(),
        };
        members.insert(name, member);
        if members.len() > MEMBERS_MAX {
            return Err(invalid(format!("more than {MEMBERS_MAX} members")));
        }
    }
    Ok(members)
}

fn text(bytes: &[u8]) -> io::Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| invalid("a name that is no UTF-8".to_owned()))
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it has {what}"))
}

struct Reader<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let Some(buffer) = buffer.get_mut(..most).filter(|buffer| !buffer.is_empty()) else {
            return Ok(0);
        };
        let len = self.file.read_at(buffer, self.offset)?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += len as u64;
        self.left -= len as u64;
        Ok(len)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An archive of these members: a name that ends in `/` is a directory, content that begins with `->` a link.
    pub(crate) fn payload(members: &[(&str, u32, &[u8])]) -> Payload {
        let mut builder = tar::Builder::new(tempfile::tempfile().unwrap());
        for (name, mode, content) in members {
            let mut header = tar::Header::new_gnu();
            header.set_mode(*mode);
            header.set_size(0);
            if let Some(target) = content.strip_prefix(b"->") {
                header.set_entry_type(EntryType::Symlink);
                let target = std::str::from_utf8(target).unwrap();
                builder.append_link(&mut header, name, target).unwrap();
            } else if name.ends_with('/') {
                header.set_entry_type(EntryType::Directory);
                builder.append_data(&mut header, name, io::empty()).unwrap();
            } else {
                header.set_size(content.len() as u64);
                builder.append_data(&mut header, name, *content).unwrap();
            }
        }
        let file = builder.into_inner().unwrap();
        // A disk is longer than the archive in it.
        file.set_len(file.metadata().unwrap().len() + 4096).unwrap();
        let mut again = file.try_clone().unwrap();
        io::Seek::rewind(&mut again).unwrap();
        Payload::open(file).unwrap()
    }

    #[test]
    fn members_are_found_and_read_in_place() {
        let long = format!("0/{}", "d/".repeat(80) + "deep");
        let payload = payload(&[
            ("0/dir/", 0o750, b""),
            ("0/dir/a", 0o640, b"hello"),
            ("0/dir/l", 0o777, b"->../x"),
            ("0/dirt", 0o600, b"no"),
            (&long, 0o600, b"deep"),
        ]);
        let names: Vec<&str> = payload.tree("0/dir").map(|(name, _)| name).collect();
        assert_eq!(names, ["", "a", "l"]);
        let mut text = String::new();
        payload
            .read("0/dir/a")
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "hello");
        assert_eq!(payload.member("0/dir/a").unwrap().mode, 0o640);
        assert_eq!(
            payload.member("0/dir/l").unwrap().kind,
            MemberKind::Symlink("../x".into())
        );
        assert_eq!(payload.member(&long).unwrap().len, 4);
        assert!(payload.member("1").is_err() && payload.read("0/dir").is_err());
    }
}
