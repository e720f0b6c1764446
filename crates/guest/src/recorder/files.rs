//! Changes of whole files and directories that come from outside the guest, written down as the others are.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

use super::{Recorder, hex, sha256};
use crate::payload::{MemberKind, Payload};
use crate::{Error, Result};

const BUFFER: usize = 256 << 10;

impl Recorder<'_> {
    /// Puts a file of the payload at `path`, in place of whatever file is there, with the member's mode, owned by
    /// root. False when it was there already. The directory must exist.
    pub fn install(
        &mut self,
        payload: &Payload,
        name: &str,
        path: &str,
        why: &str,
    ) -> Result<bool> {
        let member = payload.member(name)?;
        if member.kind != MemberKind::File {
            return Err(Error::corrupt(format!("expected {name} to be a regular file")).at(path));
        }
        let mut changed = false;
        let before = self.hash_if_there(path)?;
        let same = self
            .root
            .meta(path)
            .is_ok_and(|meta| meta.len == member.len)
            && before.is_some()
            && digest(&mut payload.read(name)?, &mut io::sink())
                .map_err(|error| Error::io("reading the payload", error).at(path))?
                == digest(&mut self.root.open_file(path)?, &mut io::sink())
                    .map_err(|error| Error::io("reading", error).at(path))?;
        if !same {
            let mut reader = payload.read(name)?;
            let mut hash = String::new();
            self.root.replace(path, member.mode, |file| {
                hash = digest(&mut reader, file)?;
                Ok(())
            })?;
            self.record(path, before, Some(hash), why);
            changed = true;
        }
        changed |= self.own(path, 0, 0, why)?;
        changed |= self.chmod(path, member.mode, why)?;
        Ok(changed)
    }

    /// Sets the permission bits; recorded with the content's hash on both sides.
    pub fn chmod(&mut self, path: &str, mode: u32, why: &str) -> Result<bool> {
        if self.root.meta(path)?.mode == mode {
            return Ok(false);
        }
        self.root.set_mode(path, mode)?;
        self.record_attribute(path, why)?;
        Ok(true)
    }

    /// Sets owner and group; the set-user-id bits that this clears are for the caller to set again.
    pub fn own(&mut self, path: &str, uid: u32, gid: u32, why: &str) -> Result<bool> {
        if self.root.owner(path)? == (uid, gid) {
            return Ok(false);
        }
        self.root.set_owner(path, uid, gid)?;
        self.record_attribute(path, why)?;
        Ok(true)
    }

    /// Creates one directory. Nothing may be there.
    pub fn create_dir(&mut self, path: &str, mode: u32, why: &str) -> Result<()> {
        self.root.create_dir(path, mode)?;
        self.record(path, None, Some(sha256(b"")), why);
        Ok(())
    }

    /// Removes an empty directory.
    pub fn remove_dir(&mut self, path: &str, why: &str) -> Result<()> {
        self.root.remove_dir(path)?;
        self.record(path, Some(sha256(b"")), None, why);
        Ok(())
    }

    /// Writes down that what is at `path` has other attributes.
    pub fn record_attribute(&mut self, path: &str, why: &str) -> Result<()> {
        let hash = if self.root.is_file(path) {
            self.hash(path)?
        } else {
            sha256(b"")
        };
        self.record(path, Some(hash.clone()), Some(hash), why);
        Ok(())
    }
}

/// Copies, and returns the SHA-256 of what was copied.
pub(crate) fn digest(from: &mut impl Read, to: &mut impl Write) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; BUFFER];
    loop {
        let len = from.read(&mut buffer)?;
        let Some(chunk) = buffer.get(..len).filter(|chunk| !chunk.is_empty()) else {
            return Ok(hex(&hasher.finalize()));
        };
        hasher.update(chunk);
        to.write_all(chunk)?;
    }
}
