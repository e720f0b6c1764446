//! The drivers for Windows guests: of a virtio-win folder or ISO, the files that a guest may need, where they lie.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::iso9660;
use types::CancelToken;

use super::archive::{Archive, Piece, Place};
use super::failed;
use crate::{Error, Result};

/// Name of the tree in the archive (`guest` looks for drivers below it).
const MEMBER: &str = "virtio-win";
/// Where distributions put the drivers: Fedora's virtio-win package has both.
const DEFAULTS: [&str; 2] = [
    "/usr/share/virtio-win",
    "/usr/share/virtio-win/virtio-win.iso",
];
/// What a guest may need, by the end of its name, and how large it may be in bytes: drivers, the files that they are
/// installed with, the agent's package.
const WANTED: &[(&str, u64)] = &[
    ("inf", 1 << 20),
    ("sys", 64 << 20),
    ("cat", 16 << 20),
    ("dll", 64 << 20),
    ("dat", 64 << 20),
    ("exe", 64 << 20),
    ("msi", 64 << 20),
];
/// virtio-win has about 2500 files.
const FILES_MAX: usize = 50_000;
const DEPTH_MAX: usize = 16;
const MODE: u32 = 0o644;

/// The folder or ISO that was given, else that of the host's package. What was given must be there.
pub(crate) fn find(given: Option<&Path>) -> Option<PathBuf> {
    match given {
        Some(path) => Some(path.to_owned()),
        None => DEFAULTS
            .iter()
            .map(PathBuf::from)
            .find(|path| has_drivers(path)),
    }
}

/// An ISO, or a folder in which there is more than ISOs.
fn has_drivers(path: &Path) -> bool {
    if path.is_file() {
        return true;
    }
    fs::read_dir(path).is_ok_and(|mut entries| {
        entries.any(|entry| entry.is_ok_and(|entry| entry.path().is_dir()))
    })
}

/// Adds what is wanted of `top`, a folder or an ISO; says how many files that were.
pub(super) fn add(archive: &mut Archive, top: &Path, cancel: &CancelToken) -> Result<usize> {
    let meta = fs::metadata(top).map_err(|error| failed(top, error))?;
    let members = if meta.is_dir() {
        folder(top, cancel)?
    } else {
        iso(top)?
    };
    let count = members.len();
    for (name, pieces) in members {
        archive
            .file(&format!("{MEMBER}/{name}"), MODE, pieces)
            .map_err(|error| failed(top, error))?;
    }
    Ok(count)
}

type Members = Vec<(String, Vec<Piece>)>;

fn is_wanted(name: &str, len: u64) -> bool {
    let end = name.rsplit_once('.').map_or("", |(_, end)| end);
    WANTED
        .iter()
        .any(|(wanted, most)| wanted.eq_ignore_ascii_case(end) && len <= *most)
}

fn iso(path: &Path) -> Result<Members> {
    let image = File::open(path).map_err(|error| failed(path, error))?;
    let files = iso9660::list(&image)
        .map_err(|error| failed(path, io::Error::new(io::ErrorKind::InvalidData, error)))?;
    let image = Arc::new(image);
    let mut members: Members = files
        .into_iter()
        .filter(|file| is_wanted(&file.path, file.len()))
        .map(|file| {
            let place = Place::Image(Arc::clone(&image));
            let pieces = file.extents.into_iter().map(|(offset, len)| Piece {
                place: place.clone(),
                offset,
                len,
            });
            (file.path, pieces.collect())
        })
        .collect();
    members.sort_by(|a, b| a.0.cmp(&b.0));
    bounded(path, members)
}

/// Links are followed inside the folder (Fedora's are all there); those that lead out of it are left alone.
fn folder(top: &Path, cancel: &CancelToken) -> Result<Members> {
    let top = fs::canonicalize(top).map_err(|error| failed(top, error))?;
    let mut members = Members::new();
    let mut seen = HashSet::new();
    let mut waiting = vec![(String::new(), top.clone(), 0usize)];
    while let Some((name, path, depth)) = waiting.pop() {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        // A folder that is reached twice, by links, is one folder.
        if depth > DEPTH_MAX || !seen.insert(path.clone()) {
            continue;
        }
        let entries = fs::read_dir(&path).map_err(|error| failed(&path, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| failed(&path, error))?;
            let Ok(own) = entry.file_name().into_string() else {
                continue;
            };
            let Some(real) = inside(&top, &entry.path()) else {
                continue;
            };
            let meta = fs::metadata(&real).map_err(|error| failed(&real, error))?;
            let name = if name.is_empty() {
                own
            } else {
                format!("{name}/{own}")
            };
            if meta.is_dir() {
                waiting.push((name, real, depth + 1));
            } else if meta.is_file() && is_wanted(&name, meta.len()) {
                // What cannot be read is heard of before anything starts.
                File::open(&real).map_err(|error| failed(&real, error))?;
                let piece = Piece {
                    place: Place::Path(real),
                    offset: 0,
                    len: meta.len(),
                };
                members.push((name, vec![piece]));
            }
        }
        // Links first seen by one name have it on every host.
        waiting.sort_by(|a, b| b.0.cmp(&a.0));
    }
    members.sort_by(|a, b| a.0.cmp(&b.0));
    bounded(&top, members)
}

/// The path without links, if it is below `top`.
fn inside(top: &Path, path: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(path).ok()?;
    real.starts_with(top).then_some(real)
}

fn bounded(path: &Path, members: Members) -> Result<Members> {
    if members.len() > FILES_MAX {
        let message = format!("more than {FILES_MAX} files");
        return Err(failed(
            path,
            io::Error::new(io::ErrorKind::InvalidData, message),
        ));
    }
    Ok(members)
}
