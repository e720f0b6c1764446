//! Gives finished files their final names: all of them or none.
//!
//! Each file moves from `SCRATCH/result/NAME` to `DIR/NAME` by one rename on one file system. While this goes on,
//! the journal `SCRATCH/placing` holds, for each file, a line `INODE NAME`; a run that is killed in between is
//! rolled back by the next run for the same name, which finds the journal. A file that is replaced (overwriting
//! was asked for) changes places with the new one, so that its name never vanishes and rolling back is possible.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::{Error, ErrorKind, Result};

const JOURNAL: &str = "placing";

/// Files that have their final names, but can still be taken back.
#[derive(Debug)]
pub(crate) struct Placement {
    scratch: PathBuf,
    dir: PathBuf,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    inode: u64,
    name: String,
}

/// Moves `names` from the scratch folder to `dir`, in order. On failure those already moved are taken back.
pub(crate) fn place(
    scratch: &Path,
    dir: &Path,
    names: &[String],
    overwrite: bool,
) -> Result<Placement> {
    let mut entries = Vec::with_capacity(names.len());
    for name in names {
        let from = waiting(scratch, name);
        let meta =
            fs::symlink_metadata(&from).map_err(|e| Error::io_at("looking for", &from, e))?;
        entries.push(Entry {
            inode: meta.ino(),
            name: name.clone(),
        });
    }
    write_journal(scratch, &entries)
        .map_err(|e| Error::io_at("writing", &scratch.join(JOURNAL), e))?;
    let placement = Placement {
        scratch: scratch.to_owned(),
        dir: dir.to_owned(),
        entries,
    };
    let moved = names
        .iter()
        .try_for_each(|name| move_one(&waiting(scratch, name), &dir.join(name), overwrite));
    match moved.and_then(|()| sync_dir(dir).map_err(|e| Error::io_at("syncing the folder", dir, e)))
    {
        Ok(()) => Ok(placement),
        Err(error) => Err(placement.take_back(error)),
    }
}

impl Placement {
    /// The final paths, in order.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.entries
            .iter()
            .map(|entry| self.dir.join(&entry.name))
            .collect()
    }

    /// Makes the placement last: a kill from now on leaves the files where they are. In this process it can
    /// still be taken back.
    pub(crate) fn commit(&self) -> Result<()> {
        let journal = self.scratch.join(JOURNAL);
        fs::remove_file(&journal)
            .and_then(|()| sync_dir(&self.scratch))
            .map_err(|e| Error::io_at("removing", &journal, e))
    }

    /// Takes every file back and gives the error that led to it, or one that says that this failed too.
    pub(crate) fn take_back(self, error: Error) -> Error {
        match undo(&self.scratch, &self.dir, &self.entries) {
            Ok(()) => error,
            Err(undo) => Error::new(
                ErrorKind::UndoFailed,
                format!(
                    "after a failure, removing the result from {} failed too ({undo})",
                    self.dir.display()
                ),
            )
            .caused_by(error),
        }
    }
}

/// Rolls back what a dead run left half done.
pub(crate) fn recover(scratch: &Path, dir: &Path) -> io::Result<()> {
    let text = match fs::read_to_string(scratch.join(JOURNAL)) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let entries: Vec<Entry> = text.lines().filter_map(parse_entry).collect();
    undo(scratch, dir, &entries)
}

fn parse_entry(line: &str) -> Option<Entry> {
    let (inode, name) = line.split_once(' ')?;
    let plain = !name.is_empty() && name != "." && name != ".." && !name.contains('/');
    plain.then_some(Entry {
        inode: inode.parse().ok()?,
        name: name.to_owned(),
    })
}

fn undo(scratch: &Path, dir: &Path, entries: &[Entry]) -> io::Result<()> {
    for entry in entries.iter().rev() {
        let to = dir.join(&entry.name);
        match fs::symlink_metadata(&to) {
            // The inode tells ours from a file that somebody else put there.
            Ok(meta) if meta.ino() == entry.inode => {
                let from = waiting(scratch, &entry.name);
                if holds_other(&from, entry.inode)? {
                    fs::rename(&from, &to)?;
                } else {
                    fs::remove_file(&to)?;
                }
            }
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    sync_dir(dir)
}

/// True when the replaced file waits at `path`.
fn holds_other(path: &Path, ours: u64) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(meta.ino() != ours),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

fn waiting(scratch: &Path, name: &str) -> PathBuf {
    scratch.join("result").join(name)
}

/// Makes the journal durable before the first rename; it is complete or absent.
fn write_journal(scratch: &Path, entries: &[Entry]) -> io::Result<()> {
    let part = scratch.join("placing.part");
    let mut file = File::create(&part)?;
    for entry in entries {
        writeln!(file, "{} {}", entry.inode, entry.name)?;
    }
    file.sync_all()?;
    fs::rename(&part, scratch.join(JOURNAL))?;
    sync_dir(scratch)
}

/// Makes renames in a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    match File::open(dir)?.sync_all() {
        // Some network file systems cannot sync a folder; they order its changes themselves.
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

fn move_one(from: &Path, to: &Path, overwrite: bool) -> Result<()> {
    let failed = |e: io::Error| {
        if e.kind() == io::ErrorKind::AlreadyExists {
            Error::new(
                ErrorKind::NameTaken,
                format!(
                    "{} appeared while the guest was being converted",
                    to.display()
                ),
            )
        } else {
            Error::io_at("renaming the result to", to, e)
        }
    };
    if overwrite {
        match exchange(from, to) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(e) => return Err(failed(e)),
        }
    }
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // NFS and some FUSE file systems do not know the flag.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            link_then_unlink(from, to).map_err(failed)
        }
        Err(e) => Err(failed(e.into())),
    }
}

/// Lets the two files change places; false when there is nothing at `to`.
fn exchange(from: &Path, to: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(to) {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    }
    match renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        // Without exchange the replaced file is lost at once: it was asked for.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => fs::rename(from, to).map(|()| true),
        Err(e) => Err(e.into()),
    }
}

/// A rename that replaces nothing, by hard link; the last resort is a look before the rename.
fn link_then_unlink(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(e),
        Err(_) if fs::symlink_metadata(to).is_ok() => Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(from, to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        dir: tempfile::TempDir,
        scratch: PathBuf,
    }

    fn bench(names: &[&str]) -> (Bench, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let scratch = dir.path().join(".x.v2v-1");
        fs::create_dir_all(scratch.join("result")).unwrap();
        for name in names {
            fs::write(waiting(&scratch, name), format!("new {name}")).unwrap();
        }
        (
            Bench { dir, scratch },
            names.iter().map(|n| (*n).to_owned()).collect(),
        )
    }

    impl Bench {
        fn read(&self, name: &str) -> Option<String> {
            fs::read_to_string(self.dir.path().join(name)).ok()
        }
    }

    #[test]
    fn files_get_their_names_and_the_journal_goes() {
        let (b, names) = bench(&["a", "b"]);
        let placement = place(&b.scratch, b.dir.path(), &names, false).unwrap();
        assert!(b.scratch.join(JOURNAL).exists());
        placement.commit().unwrap();
        assert!(!b.scratch.join(JOURNAL).exists());
        assert_eq!(
            placement.files(),
            [b.dir.path().join("a"), b.dir.path().join("b")]
        );
        assert_eq!(b.read("b").unwrap(), "new b");
    }

    #[test]
    fn a_name_that_appears_meanwhile_is_not_replaced_and_nothing_stays() {
        let (b, names) = bench(&["a", "b", "c"]);
        fs::write(b.dir.path().join("b"), "foreign").unwrap();
        let error = place(&b.scratch, b.dir.path(), &names, false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NameTaken);
        assert_eq!(
            (b.read("a"), b.read("b").as_deref(), b.read("c")),
            (None, Some("foreign"), None)
        );
    }

    #[test]
    fn overwriting_replaces_and_taking_back_restores_what_was_there() {
        let (b, names) = bench(&["a", "b"]);
        fs::write(b.dir.path().join("a"), "old a").unwrap();
        let placement = place(&b.scratch, b.dir.path(), &names, true).unwrap();
        assert_eq!(
            (b.read("a").as_deref(), b.read("b").as_deref()),
            (Some("new a"), Some("new b"))
        );
        let error = placement.take_back(Error::new(ErrorKind::Command, "define failed"));
        assert_eq!(error.kind(), ErrorKind::Command);
        assert_eq!((b.read("a").as_deref(), b.read("b")), (Some("old a"), None));
    }

    #[test]
    fn overwriting_touches_regular_files_only() {
        let (b, names) = bench(&["a"]);
        std::os::unix::fs::symlink("/dev/null", b.dir.path().join("a")).unwrap();
        let error = place(&b.scratch, b.dir.path(), &names, true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NameTaken);
        assert!(b.dir.path().join("a").is_symlink());
    }

    #[test]
    fn a_kill_between_the_renames_is_rolled_back_by_the_next_run() {
        let (b, names) = bench(&["a", "b", "c"]);
        fs::write(b.dir.path().join("b"), "old b").unwrap();
        let entries: Vec<Entry> = names
            .iter()
            .map(|n| Entry {
                inode: fs::metadata(waiting(&b.scratch, n)).unwrap().ino(),
                name: n.clone(),
            })
            .collect();
        write_journal(&b.scratch, &entries).unwrap();
        for name in &names[..2] {
            move_one(&waiting(&b.scratch, name), &b.dir.path().join(name), true).unwrap();
        }
        recover(&b.scratch, b.dir.path()).unwrap();
        assert_eq!(
            (b.read("a"), b.read("b").as_deref(), b.read("c")),
            (None, Some("old b"), None)
        );
    }

    #[test]
    fn a_hostile_journal_reaches_nothing_outside_the_folder() {
        let (b, _) = bench(&["a"]);
        let victim = b.dir.path().join("victim");
        fs::write(&victim, "keep").unwrap();
        let inode = fs::metadata(&victim).unwrap().ino();
        fs::write(
            b.scratch.join(JOURNAL),
            format!("{inode} sub/../victim\n{inode} ..\nx victim\n\n"),
        )
        .unwrap();
        recover(&b.scratch, b.dir.path()).unwrap();
        assert!(victim.exists());
    }

    #[test]
    fn without_rename_flags_a_hard_link_keeps_from_replacing() {
        let (b, _) = bench(&["a", "b"]);
        link_then_unlink(&waiting(&b.scratch, "a"), &b.dir.path().join("a")).unwrap();
        assert_eq!(b.read("a").unwrap(), "new a");
        assert!(!waiting(&b.scratch, "a").exists());
        let error =
            link_then_unlink(&waiting(&b.scratch, "b"), &b.dir.path().join("a")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }
}
