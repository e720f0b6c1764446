//! Finds the backing file. Only a file that lies beside the image is opened: an image from a stranger must not make
//! the program read another file of the host, or reach over the network.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::formats::{Format, open_range, raw};
use crate::{BlockSource, Error, ErrorKind, FileRange, Result};

use super::header::{BackingName, MAGIC};
use super::reader::{Reader, Shared};

/// Most images in a chain.
const MAX_CHAIN: usize = 64;

/// The images of a chain, from the top to the one being opened.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// Device, inode and offset of each.
    seen: Vec<(u64, u64, u64)>,
}

impl Chain {
    /// Notes an image; one that is there already is its own ancestor.
    pub(super) fn enter(&mut self, range: &FileRange) -> Result<u32> {
        let (file, start) = range.file();
        let meta = file
            .metadata()
            .map_err(|e| Error::io("reading its status", e).in_file(range.label()))?;
        let id = (meta.dev(), meta.ino(), start);
        if self.seen.contains(&id) {
            return Err(
                Error::corrupt("the chain of backing files is a loop").in_file(range.label())
            );
        }
        if self.seen.len() == MAX_CHAIN {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("expected at most {MAX_CHAIN} backing files"),
            )
            .in_file(range.label()));
        }
        self.seen.push(id);
        u32::try_from(self.seen.len())
            .map_err(|_| Error::new(ErrorKind::Limit, "the chain is too long"))
    }
}

/// The directory of `range`, if its label is the path of the whole file that it reads.
pub(super) fn directory_of(range: &FileRange) -> Option<PathBuf> {
    let path = Path::new(range.label());
    let (file, start) = range.file();
    let (named, opened) = (path.metadata().ok()?, file.metadata().ok()?);
    let same = named.dev() == opened.dev() && named.ino() == opened.ino();
    if start != 0 || !same {
        return None;
    }
    Some(match path.parent()? {
        parent if parent.as_os_str().is_empty() => PathBuf::from("."),
        parent => parent.to_owned(),
    })
}

/// Opens the backing file of the image named `child`.
pub(super) fn open(
    child: &str,
    backing: &BackingName,
    directory: Option<&Path>,
    chain: &mut Chain,
    shared: &Shared,
) -> Result<Arc<dyn BlockSource>> {
    let directory = directory.ok_or_else(|| {
        Error::unsupported(format!(
            "backing file {:?} is not supported for an image inside another file; hint: unpack it, or flatten the \
             image with qemu-img convert",
            backing.name
        ))
        .in_file(child)
    })?;
    let path = directory.join(beside(&backing.name, directory).map_err(|e| e.in_file(child))?);
    let range = FileRange::open(&path)?;
    let format = match backing.format.as_deref() {
        Some(format) => format,
        None => {
            let probed = if has_magic(&range)? { "qcow2" } else { "" };
            tracing::warn!(
                "{child}: the format of its backing file {path:?} is not given; going by its content"
            );
            probed
        }
    };
    match format {
        "qcow2" => Ok(Arc::new(Reader::open_layer(
            range,
            Some(directory),
            chain,
            shared,
        )?)),
        // `file` and `host_device` are what QEMU calls the layer below raw.
        "raw" | "file" | "host_device" => Ok(Arc::new(raw::Reader::open(range)?)),
        "vmdk" => open_range(range, Some(Format::Vmdk)),
        "" => open_range(range, None),
        other => Err(Error::unsupported(format!(
            "backing file {path:?} of format {other} is not supported"
        ))
        .in_file(child)),
    }
}

fn has_magic(range: &FileRange) -> Result<bool> {
    Ok(range.len() >= MAGIC.len() as u64 && range.read_vec(0, MAGIC.len())? == MAGIC)
}

/// The bare file name, if `name` means a file in `directory`: `name`, `./name`, or the directory's path and name.
fn beside<'a>(name: &'a OsStr, directory: &Path) -> Result<&'a OsStr> {
    let refused = |why: &str| {
        Error::unsupported(format!(
            "backing file {name:?} {why}; only a file beside the image is opened; hint: move it there, then \
             qemu-img rebase -u -F FORMAT -b NAME FILE"
        ))
    };
    // QEMU takes what comes before a colon for a protocol, unless a slash comes first.
    let bytes = name.as_bytes();
    let colon = bytes.iter().position(|&byte| byte == b':');
    let slash = bytes
        .iter()
        .position(|&byte| byte == b'/')
        .unwrap_or(bytes.len());
    if colon.is_some_and(|colon| colon < slash) {
        return Err(refused("is named by a protocol"));
    }
    let path = Path::new(name);
    let (Some(file), Some(parent)) = (path.file_name(), path.parent()) else {
        return Err(refused("is no file name"));
    };
    // A name that ends in `/` or `/.` has a last component, but is a directory.
    if !bytes.ends_with(file.as_bytes()) || bytes.contains(&0) {
        return Err(refused("is no file name"));
    }
    if parent.components().any(|part| part == Component::ParentDir) {
        return Err(refused("climbs out of the directory"));
    }
    if parent.is_absolute() {
        let same = match (parent.canonicalize(), directory.canonicalize()) {
            (Ok(parent), Ok(directory)) => parent == directory,
            _ => false,
        };
        return if same {
            Ok(file)
        } else {
            Err(refused("lies in another directory"))
        };
    }
    if parent.components().all(|part| part == Component::CurDir) {
        return Ok(file);
    }
    Err(refused("lies in another directory"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_beside_the_image_are_taken() {
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path();
        let absolute = here.join("base.qcow2");
        for name in [
            "base.qcow2",
            "./base.qcow2",
            "././base.qcow2",
            absolute.to_str().unwrap(),
        ] {
            assert_eq!(
                beside(OsStr::new(name), here).unwrap(),
                "base.qcow2",
                "{name}"
            );
        }
        std::fs::create_dir(here.join("sub")).unwrap();
        let climbing = here.join("sub/../base.qcow2");
        for (name, why) in [
            ("/etc/passwd", "another directory"),
            ("../base.qcow2", "climbs"),
            ("sub/base.qcow2", "another directory"),
            ("sub/../base.qcow2", "climbs"),
            (climbing.to_str().unwrap(), "climbs"),
            ("..", "no file name"),
            (".", "no file name"),
            ("/", "no file name"),
            ("base/", "no file name"),
            ("base/.", "no file name"),
            ("ba\0se", "no file name"),
            ("", "no file name"),
            ("nbd://host/export", "protocol"),
            ("json:{\"driver\":\"qcow2\"}", "protocol"),
            ("file:base.qcow2", "protocol"),
        ] {
            let error = beside(OsStr::new(name), here).unwrap_err().to_string();
            assert!(
                error.contains(why) && error.contains("hint:"),
                "{name}: {error}"
            );
        }
    }
}
