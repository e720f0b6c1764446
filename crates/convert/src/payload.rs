//! Files of this host that go into the guest, as one tar archive (POSIX.1-2001 ustar, GNU long names): the appliance gets
//! it as a read-only disk, so their size is nobody's memory.
//!
//! Links in a folder stay links; what is neither file, folder nor link is refused. Everything belongs to root.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};
use types::CancelToken;

use crate::{Conversion, Error, Result};

/// Name in the scratch folder.
const NAME: &str = "payload.tar";

/// Name of the guest agent's package in the archive.
pub(crate) fn qemu_ga_member(job: &Conversion) -> Option<String> {
    let name = job.qemu_ga.as_ref()?.file_name()?;
    Some(format!("qemu-ga/{}", name.to_string_lossy()))
}

/// Writes the archive, if there is anything for it.
pub(crate) fn write(
    job: &Conversion,
    scratch: &Path,
    cancel: &CancelToken,
) -> Result<Option<PathBuf>> {
    let agent = qemu_ga_member(job).zip(job.qemu_ga.as_deref());
    if job.payload.is_empty() && agent.is_none() {
        return Ok(None);
    }
    let path = scratch.join(NAME);
    let failed = |path: &Path, source| Error::Payload {
        path: path.display().to_string(),
        source,
    };
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(|source| failed(&path, source))?;
    let mut archive = Builder::new(file);
    archive.sparse(false);
    let files = job
        .payload
        .iter()
        .map(|file| (file.name.as_str(), file.path.as_path()));
    let agent = agent.as_ref().map(|(name, path)| (name.as_str(), *path));
    for (name, from) in files.chain(agent) {
        add(&mut archive, name, from, cancel)?;
    }
    let file = archive
        .into_inner()
        .map_err(|source| failed(&path, source))?;
    // A disk has whole sectors; 4096 bytes suit every one.
    let padded = file
        .metadata()
        .and_then(|meta| file.set_len(meta.len().next_multiple_of(4096)));
    padded.map_err(|source| failed(&path, source))?;
    Ok(Some(path))
}

/// Adds a file, or a folder with all below it, in the order of names.
fn add(archive: &mut Builder<File>, name: &str, top: &Path, cancel: &CancelToken) -> Result<()> {
    let mut waiting = vec![(name.to_owned(), top.to_owned())];
    while let Some((name, path)) = waiting.pop() {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let below = add_one(archive, &name, &path).map_err(|source| Error::Payload {
            path: path.display().to_string(),
            source,
        })?;
        waiting.extend(below);
    }
    Ok(())
}

/// Adds one member; returns what is in it if it is a folder, the last name first.
fn add_one(
    archive: &mut Builder<File>,
    name: &str,
    path: &Path,
) -> io::Result<Vec<(String, PathBuf)>> {
    let meta = fs::symlink_metadata(path)?;
    let mut header = Header::new_gnu();
    header.set_mode(meta.permissions().mode() & 0o7777);
    header.set_size(0);
    if meta.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        archive.append_link(&mut header, name, fs::read_link(path)?)?;
        return Ok(Vec::new());
    }
    if meta.is_dir() {
        header.set_entry_type(EntryType::Directory);
        archive.append_data(&mut header, format!("{name}/"), io::empty())?;
        return folder(name, path);
    }
    if !meta.is_file() {
        return Err(invalid("expected a file, a folder or a symbolic link"));
    }
    append_file(archive, &mut header, name, path, &meta)?;
    Ok(Vec::new())
}

/// The header says the length: a file that changes meanwhile must not shift the members behind it.
fn append_file(
    archive: &mut Builder<File>,
    header: &mut Header,
    name: &str,
    path: &Path,
    meta: &Metadata,
) -> io::Result<()> {
    header.set_size(meta.len());
    let mut reader = Exact {
        file: File::open(path)?,
        left: meta.len(),
    };
    archive.append_data(header, name, &mut reader)?;
    match reader.left {
        0 => Ok(()),
        _ => Err(invalid("it became shorter while it was read")),
    }
}

struct Exact {
    file: File,
    left: u64,
}

impl io::Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = io::Read::by_ref(&mut self.file)
            .take(self.left)
            .read(buffer)?;
        self.left -= len as u64;
        Ok(len)
    }
}

fn folder(name: &str, path: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut below = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let own = entry.file_name();
        let own = own
            .to_str()
            .ok_or_else(|| invalid(&format!("{:?} is no name in UTF-8", entry.file_name())))?;
        below.push((format!("{name}/{own}"), entry.path()));
    }
    below.sort_by(|a, b| b.cmp(a));
    Ok(below)
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(top: &Path) -> Result<guest::Payload> {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join(NAME);
        let mut builder = Builder::new(File::create(&path).unwrap());
        add(&mut builder, "0/top", top, &CancelToken::new())?;
        drop(builder.into_inner().unwrap());
        Ok(guest::Payload::open(File::open(&path).unwrap()).unwrap())
    }

    #[test]
    fn a_folder_arrives_with_modes_links_and_long_names() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120)).join("e".repeat(120));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("file"), "hello").unwrap();
        fs::set_permissions(deep.join("file"), fs::Permissions::from_mode(0o4750)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        let payload = archive(dir.path()).unwrap();
        let name = format!("0/top/{}/{}/file", "d".repeat(120), "e".repeat(120));
        let mut text = String::new();
        io::Read::read_to_string(&mut payload.read(&name).unwrap(), &mut text).unwrap();
        assert_eq!(text, "hello");
        assert_eq!(payload.member(&name).unwrap().mode, 0o4750);
        let link = &payload.member("0/top/link").unwrap().kind;
        assert_eq!(*link, guest::MemberKind::Symlink("/etc/passwd".into()));
    }

    #[test]
    fn a_fifo_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        let error = archive(dir.path()).unwrap_err();
        assert!(error.to_string().contains("fifo"), "{error}");
    }
}
