//! What every target that makes files has in common: a folder, a clean name, the scratch folder beside the
//! result, and the move to the final names.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use image::BlockSink;
use types::disk_letters;

use crate::domain::platform::arch_name;
use crate::name::CleanName;
use crate::place::{self, Placement};
use crate::scratch::{Scratch, Sharing};
use crate::{Error, ErrorKind, Finished, Plan, Result, TargetOptions, space};

/// A result under way in one folder.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) options: TargetOptions,
    /// The name as files and domain have it.
    pub(crate) name: String,
    /// Absolute, without symbolic links.
    pub(crate) dir: PathBuf,
    /// What the user should know in the end.
    pub(crate) notes: Vec<String>,
    scratch: Scratch,
    /// Disks that were created, in order of creation.
    created: Vec<u32>,
}

impl Stage {
    /// Looks at the folder and makes the scratch folder in it.
    pub(crate) fn prepare(
        options: &TargetOptions,
        name: CleanName,
        dir: &Path,
        sharing: Sharing,
    ) -> Result<Self> {
        let dir = usable_dir(dir)?;
        let scratch = Scratch::create(&dir, &name.name, sharing)?;
        let notes = name.note.into_iter().collect();
        Ok(Self {
            options: options.clone(),
            name: name.name,
            dir,
            notes,
            scratch,
            created: Vec::new(),
        })
    }

    pub(crate) fn scratch_dir(&self) -> &Path {
        self.scratch.path()
    }

    /// `NAME-sda`.
    pub(crate) fn disk_name(&self, index: usize) -> Result<String> {
        let index = u32::try_from(index).map_err(|_| {
            Error::new(
                ErrorKind::Usage,
                format!("disk number {index} is out of range"),
            )
        })?;
        Ok(format!("{}-sd{}", self.name, disk_letters(index)))
    }

    /// Names of the first `count` disks.
    pub(crate) fn disk_names(&self, count: usize) -> Result<Vec<String>> {
        (0..count).map(|index| self.disk_name(index)).collect()
    }

    /// Where a file waits for its final name.
    pub(crate) fn waiting(&self, name: &str) -> PathBuf {
        self.scratch.result_dir().join(name)
    }

    /// The sink of one disk, in the scratch folder.
    pub(crate) fn create_disk(
        &mut self,
        index: u32,
        virtual_size: u64,
    ) -> Result<Box<dyn BlockSink>> {
        if self.created.contains(&index) {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("disk {index} was created already"),
            ));
        }
        let path = self.waiting(&format!("{}-sd{}", self.name, disk_letters(index)));
        let sink = image::formats::create(
            &path,
            self.options.format,
            virtual_size,
            self.options.preallocation,
        )?;
        self.created.push(index);
        Ok(sink)
    }

    /// Refuses final names that exist, unless overwriting was asked for and they are regular files.
    pub(crate) fn refuse_taken(&self, names: &[String]) -> Result<()> {
        for name in names {
            let path = self.dir.join(name);
            match fs::symlink_metadata(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io_at("looking for", &path, e)),
                Ok(meta) if self.options.overwrite && meta.is_file() => {}
                Ok(meta) if self.options.overwrite => {
                    let kind = if meta.is_symlink() {
                        "a symbolic link"
                    } else {
                        "no regular file"
                    };
                    return Err(Error::new(
                        ErrorKind::NameTaken,
                        format!(
                            "{} is {kind}, expected a file or nothing to overwrite",
                            path.display()
                        ),
                    ));
                }
                Ok(_) => {
                    return Err(Error::new(ErrorKind::NameTaken, format!("{} exists already", path.display()))
                        .with_hint("replace it with --overwrite, or give the result another name with -on NAME"));
                }
            }
        }
        Ok(())
    }

    /// Refuses a guest that no domain can be written for.
    pub(crate) fn refuse_undescribable(&self, plan: &Plan<'_>) -> Result<()> {
        plan.caps
            .map_or(Ok(()), |caps| arch_name(caps.arch).map(drop))
    }

    /// Refuses when the folder's file system has too little room.
    pub(crate) fn refuse_shortage(&self, plan: &Plan<'_>) -> Result<()> {
        let needed = space::needed(plan, self.options.preallocation);
        space::refuse_shortage(
            needed,
            space::available(&self.dir)?,
            &self.dir.display().to_string(),
        )
    }

    /// Every disk of the machine has been created.
    pub(crate) fn expect_all_disks(&self, finished: &Finished<'_>) -> Result<()> {
        let want = finished.machine.disks.len();
        let found = self.created.len();
        if found == want {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Usage,
            format!("expected {want} finished disks, found {found}"),
        ))
    }

    /// Writes a small file of the result and makes it durable; it gets its final name by [`place`](Self::place).
    pub(crate) fn write_file(
        &self,
        name: &str,
        content: impl AsRef<[u8]>,
        mode: u32,
    ) -> Result<()> {
        let path = self.waiting(name);
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(&path)?;
            file.write_all(content.as_ref())?;
            file.sync_all()
        };
        write().map_err(|e| Error::io_at("writing", &path, e))
    }

    /// Gives the files their final names, all or none; they can still be taken back.
    pub(crate) fn place(&self, names: &[String]) -> Result<Placement> {
        let placement = place::place(
            self.scratch.path(),
            &self.dir,
            names,
            self.options.overwrite,
        )?;
        match placement.commit() {
            Ok(()) => Ok(placement),
            Err(error) => Err(placement.take_back(error)),
        }
    }

    /// Removes the scratch folder.
    pub(crate) fn close(&mut self) -> Result<()> {
        self.scratch.remove()
    }

    /// The end of every `finalise`: the scratch folder goes, and the notes come. The result stands even if the
    /// folder cannot be removed.
    pub(crate) fn conclude(&mut self, result: Result<crate::Placed>) -> Result<crate::Placed> {
        let closed = self.close();
        let mut placed = result?;
        let mut notes = std::mem::take(&mut self.notes);
        notes.append(&mut placed.notes);
        if let Err(error) = closed {
            notes.push(format!("{error} failed: remove it by hand"));
        }
        placed.notes = notes;
        Ok(placed)
    }
}

/// The folder as an absolute path without symbolic links; it must exist and its path be UTF-8, as XML needs.
fn usable_dir(dir: &Path) -> Result<PathBuf> {
    let found = fs::canonicalize(dir).and_then(|path| Ok((fs::metadata(&path)?.is_dir(), path)));
    let path = match found {
        Ok((true, path)) => path,
        Ok((false, _)) => {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "expected a folder for the result, found another kind of file: {}",
                    dir.display()
                ),
            ));
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("the folder {} does not exist", dir.display()),
            )
            .with_hint("create it, or name another one with -os"));
        }
        Err(e) => return Err(Error::io_at("looking at the folder", dir, e)),
    };
    match path.to_str() {
        Some(text) if !text.chars().any(char::is_control) => Ok(path),
        _ => Err(Error::new(
            ErrorKind::Usage,
            format!(
                "the path {} is not plain UTF-8 text, which domain XML needs",
                path.display()
            ),
        )),
    }
}
