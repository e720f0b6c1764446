//! A file that gets its name only when it is complete.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// A file under a temporary name beside its final one; removed when dropped before it is [placed](Self::place).
#[derive(Debug)]
pub(crate) struct NewFile {
    temporary: PathBuf,
    name: PathBuf,
    placed: bool,
}

impl NewFile {
    /// Plans the file `name`, which must not exist.
    pub(crate) fn new(name: &Path) -> Result<Self> {
        match name.symlink_metadata() {
            Ok(_) => bail!("{}: exists already", name.display()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e).with_context(|| format!("looking for {}", name.display())),
        }
        let file_name = name
            .file_name()
            .with_context(|| format!("{}: not a file name", name.display()))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(file_name);
        hidden.push(format!(".v2v-{}", std::process::id()));
        Ok(Self {
            temporary: name.with_file_name(hidden),
            name: name.to_owned(),
            placed: false,
        })
    }

    /// Where it is written.
    pub(crate) fn path(&self) -> &Path {
        &self.temporary
    }

    /// Gives the complete and synced file its name, durably; a file that appeared there meanwhile stays.
    pub(crate) fn place(mut self) -> Result<()> {
        let naming = || format!("naming {}", self.name.display());
        match renameat_with(
            CWD,
            &self.temporary,
            CWD,
            &self.name,
            RenameFlags::NOREPLACE,
        ) {
            Ok(()) => {}
            // Without RENAME_NOREPLACE, such as NFS: a link does not replace either.
            Err(Errno::INVAL | Errno::NOSYS) => {
                std::fs::hard_link(&self.temporary, &self.name).with_context(naming)?;
                std::fs::remove_file(&self.temporary).with_context(naming)?;
            }
            Err(e) => return Err(io::Error::from(e)).with_context(naming),
        }
        self.placed = true;
        let folder = match self.name.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let synced = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
        synced.with_context(|| format!("syncing {}", folder.display()))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.placed {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}
