//! Files of this host that go into the guest, as one tar archive: the appliance gets it as a read-only disk. Nothing is
//! copied; the disk reads the files where they lie (see [`archive`]).
//!
//! Links in a folder stay links; what is neither file, folder nor link is refused. Everything belongs to root. The drivers
//! for Windows are a part of it, of which a Linux guest reads nothing.

mod archive;
mod drivers;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::BlockSource;
use types::CancelToken;

use crate::{Conversion, Error, Result};
use archive::{Archive, Piece, Place};

/// Name of the disk on the NBD server.
pub(crate) const EXPORT: &str = "payload";

/// Name of the guest agent's package in the archive.
pub(crate) fn qemu_ga_member(job: &Conversion) -> Option<String> {
    let name = job.qemu_ga.as_ref()?.file_name()?;
    Some(format!("qemu-ga/{}", name.to_string_lossy()))
}

/// The archive as a disk, if there is anything for it.
pub(crate) fn disk(job: &Conversion, cancel: &CancelToken) -> Result<Option<Arc<dyn BlockSource>>> {
    let agent = qemu_ga_member(job).zip(job.qemu_ga.as_deref());
    let drivers = drivers::find(job.virtio_win.as_deref());
    if job.payload.is_empty() && agent.is_none() && drivers.is_none() {
        return Ok(None);
    }
    let mut archive = Archive::default();
    let files = job
        .payload
        .iter()
        .map(|file| (file.name.as_str(), file.path.as_path()));
    let agent = agent.as_ref().map(|(name, path)| (name.as_str(), *path));
    for (name, from) in files.chain(agent) {
        add(&mut archive, name, from, cancel)?;
    }
    if let Some(top) = &drivers {
        match drivers::add(&mut archive, top, cancel) {
            Ok(count) => tracing::debug!("{count} files of drivers in {}", top.display()),
            // Nobody asked for the host's own; a Linux guest does without.
            Err(error) if job.virtio_win.is_none() && !matches!(error, Error::Cancelled) => {
                tracing::warn!("no drivers for Windows: {}: {error}", top.display());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Some(Arc::new(archive.finish())))
}

/// Adds a file, or a folder with all below it, in the order of names.
fn add(archive: &mut Archive, name: &str, top: &Path, cancel: &CancelToken) -> Result<()> {
    let mut waiting = vec![(name.to_owned(), top.to_owned())];
    while let Some((name, path)) = waiting.pop() {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let below = add_one(archive, &name, &path).map_err(|error| failed(&path, error))?;
        waiting.extend(below);
    }
    Ok(())
}

/// Adds one member; returns what is in it if it is a folder, the last name first.
fn add_one(archive: &mut Archive, name: &str, path: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let meta = fs::symlink_metadata(path)?;
    let mode = meta.permissions().mode() & 0o7777;
    if meta.is_symlink() {
        archive.link(name, mode, &fs::read_link(path)?)?;
        return Ok(Vec::new());
    }
    if meta.is_dir() {
        archive.folder(name, mode)?;
        return folder(name, path);
    }
    if !meta.is_file() {
        return Err(invalid("expected a file, a folder or a symbolic link"));
    }
    // What cannot be read is heard of before anything starts.
    File::open(path)?;
    let piece = Piece {
        place: Place::Path(path.to_owned()),
        offset: 0,
        len: meta.len(),
    };
    archive.file(name, mode, vec![piece])?;
    Ok(Vec::new())
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

fn failed(path: &Path, source: io::Error) -> Error {
    Error::Payload {
        path: path.display().to_string(),
        source,
    }
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests;
