//! A folder with a descriptor and the files beside it. The kernel resolves every name beneath the folder
//! (`openat2` with `RESOLVE_BENEATH`), so neither `..` nor a symbolic link reaches anything outside.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::FileRange;
use rustix::fs::{Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result, shown};

/// Entries of a folder that are looked through.
const MAX_ENTRIES: usize = 65_536;

/// An open folder.
#[derive(Debug)]
pub(crate) struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens the folder at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|e| Error::io("opening the folder", e.into()).in_file(path.display()))?;
        Ok(Self {
            fd,
            path: path.to_owned(),
        })
    }

    /// Its path as it was given.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Names of its entries, sorted; names that are no UTF-8 are left out.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let failed =
            |e: Errno| Error::io("listing the folder", e.into()).in_file(self.path.display());
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if let Ok(name) = entry.file_name().to_str() {
                names.push(name.to_owned());
            }
            if names.len() > MAX_ENTRIES {
                let message = format!("expected at most {MAX_ENTRIES} files, found more");
                return Err(Error::new(ErrorKind::Limit, message).in_file(self.path.display()));
            }
        }
        names.sort();
        Ok(names)
    }

    /// Names of the entries of a folder below it; none when there is no such folder. Empty is this one.
    pub(crate) fn names_in(&self, below: &str) -> Result<Vec<String>> {
        if below.is_empty() {
            return self.names();
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.fd, below, flags, Mode::empty(), resolve) {
            Ok(fd) => {
                let path = self.path.join(below);
                Self { fd, path }.names()
            }
            Err(_) => Ok(Vec::new()),
        }
    }

    /// The regular file of this relative name; `None` when there is none.
    pub(crate) fn get(&self, name: &str) -> Result<Option<FileRange>> {
        let path = self.path.join(name);
        let label = path.display().to_string();
        // NONBLOCK: a FIFO planted under the name of a disk must not block the open.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let fd = match rustix::fs::openat2(&self.fd, name, flags, Mode::empty(), resolve) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => return Ok(None),
            Err(Errno::XDEV) => {
                let message = format!(
                    "`{}` leads out of the folder {}",
                    shown(name),
                    self.path.display()
                );
                return Err(Error::new(ErrorKind::Refused, message));
            }
            Err(e) => return Err(Error::io("opening", e.into()).in_file(label)),
        };
        let file = File::from(fd);
        let meta = file
            .metadata()
            .map_err(|e| Error::io("reading its status", e).in_file(&label))?;
        if !meta.is_file() {
            return Err(Error::new(ErrorKind::Refused, "expected a regular file").in_file(label));
        }
        Ok(Some(FileRange::part(Arc::new(file), 0, meta.len(), label)?))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_may_point_inside_the_folder_but_not_out_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("inside");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        std::fs::write(inside.join("disk"), "12345").unwrap();
        symlink("disk", inside.join("good")).unwrap();
        symlink("../secret", inside.join("climbs")).unwrap();
        symlink(dir.path().join("secret"), inside.join("absolute")).unwrap();
        symlink("..", inside.join("up")).unwrap();
        symlink("loop", inside.join("loop")).unwrap();

        let folder = Folder::open(&inside).unwrap();
        assert_eq!(folder.get("disk").unwrap().unwrap().len(), 5);
        assert_eq!(folder.get("good").unwrap().unwrap().len(), 5);
        assert!(folder.get("absent").unwrap().is_none());
        for name in ["climbs", "absolute", "up/secret"] {
            let error = folder.get(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{name}: {error}");
        }
        assert!(folder.get("loop").is_err());
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            Mode::RUSR,
            0,
        )
        .unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        assert_eq!(folder.get("fifo").unwrap_err().kind(), ErrorKind::Refused);
        assert_eq!(folder.get("sub").unwrap_err().kind(), ErrorKind::Refused);
    }
}
