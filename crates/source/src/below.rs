//! Files of a machine that was copied from another host: its description names them by paths of that host, and they
//! lie somewhere below one folder here.
//!
//! ```text
//! C:\VMs\web\Virtual Hard Disks\web.vhdx
//!        └──────────── tails ──────────┘   longest first: the one that exists beside the file that names it, at the
//!                                          root, or anywhere below the root (whatever the case of its letters)
//! ```
//!
//! The kernel resolves every name beneath the root (see [`Folder`]): neither `..` nor a symbolic link leaves it.
//! A name that means several files and lies beside none of those that asked is refused, never guessed.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use image::{FileRange, Files, MAX_LISTED, Neighbours};

use crate::error::{Error, ErrorKind, Result, shown};
use crate::folder::Folder;
use crate::ids;

/// Entries that are looked through below the root. A store of virtual machines has thousands; a home directory
/// given by mistake has millions.
const MAX_ENTRIES: usize = 65_536;
/// Folders of folders that are looked into; `MACHINE/Virtual Hard Disks/x` is 2.
const MAX_DEPTH: usize = 8;

/// The files below a folder.
#[derive(Debug)]
pub(crate) struct Below {
    folder: Folder,
    /// Folder of the description, relative to the root.
    home: PathBuf,
    /// Paths of the other host by the UUID of the medium, for formats whose children know the parent by that alone.
    media: HashMap<String, String>,
    index: OnceLock<std::result::Result<Vec<PathBuf>, String>>,
}

impl Below {
    /// Those below `root`, for a description in the folder `home`, which lies below `root` or is left out of account.
    pub(crate) fn open(root: &Path, home: &Path) -> Result<Self> {
        let relative = home.strip_prefix(root).ok().map(Path::to_owned);
        Ok(Self {
            folder: Folder::open(root)?,
            home: relative.unwrap_or_default(),
            media: HashMap::new(),
            index: OnceLock::new(),
        })
    }

    /// Adds what is known of media by UUID: lower case with dashes, and the path.
    #[must_use]
    pub(crate) fn with_media(mut self, media: HashMap<String, String>) -> Self {
        self.media = media;
        self
    }

    /// For the formats, which look for parents and extents through it.
    pub(crate) fn into_files(self) -> (Arc<Self>, Files) {
        let shared = Arc::new(self);
        (Arc::clone(&shared), Files::of(shared))
    }

    /// The file that a path of another host means; `None` when there is none.
    pub(crate) fn find(&self, foreign: &str) -> Result<Option<FileRange>> {
        self.find_for(&self.home.clone(), foreign)
    }

    fn find_for(&self, beside: &Path, foreign: &str) -> Result<Option<FileRange>> {
        let slashed = foreign.replace('\\', "/");
        let is_drive = |part: &str| part.len() == 2 && part.ends_with(':');
        let parts: Vec<&str> = slashed
            .split('/')
            .filter(|part| !matches!(*part, "" | "." | ".." | "?") && !is_drive(part))
            .collect();
        for first in 0..parts.len() {
            let tail: PathBuf = parts.iter().skip(first).collect();
            if let Some(found) = self.tail(beside, &tail)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The file whose path ends like this.
    fn tail(&self, beside: &Path, tail: &Path) -> Result<Option<FileRange>> {
        for place in [beside, &self.home, Path::new("")] {
            if let Some(found) = self.get(&place.join(tail))? {
                return Ok(Some(found));
            }
        }
        let wanted = folded(tail);
        let matches = |path: &&PathBuf| folded(path).ends_with(&wanted);
        let mut found: Vec<&PathBuf> = self.index()?.iter().filter(matches).collect();
        let near: Vec<&PathBuf> = found
            .iter()
            .copied()
            .filter(|path| path.parent() == Some(beside))
            .collect();
        if near.len() == 1 {
            found = near;
        }
        match found.as_slice() {
            [] => Ok(None),
            [one] => self.get(one),
            [one, other, ..] => {
                let message = format!(
                    "`{}` means several files here, such as `{}` and `{}`; hint: give the folder of this machine only",
                    shown(&tail.display().to_string()),
                    shown(&one.display().to_string()),
                    shown(&other.display().to_string())
                );
                Err(Error::new(ErrorKind::Refused, message).in_file(self.folder.path().display()))
            }
        }
    }

    /// A regular file by its path from the root; a folder of that name is none.
    fn get(&self, relative: &Path) -> Result<Option<FileRange>> {
        let Some(name) = relative.to_str().filter(|name| !name.contains('\0')) else {
            return Ok(None);
        };
        if self.folder.path().join(relative).is_dir() {
            return Ok(None);
        }
        self.folder.get(name)
    }

    fn index(&self) -> Result<&[PathBuf]> {
        let root = self.folder.path();
        let index = self
            .index
            .get_or_init(|| files_below(root).map_err(|e| e.to_string()));
        match index {
            Ok(paths) => Ok(paths),
            Err(message) => Err(Error::new(ErrorKind::Limit, message.clone())),
        }
    }
}

impl Neighbours for Below {
    fn open(&self, child: &str, name: &Path) -> image::Result<Option<FileRange>> {
        let beside = Path::new(child)
            .strip_prefix(self.folder.path())
            .ok()
            .and_then(Path::parent)
            .unwrap_or(&self.home);
        let mut found = self.tail(beside, name);
        let stem = name.file_stem().and_then(|stem| stem.to_str());
        let single = name.components().count() == 1;
        if let (Ok(None), true, Some(id)) = (&found, single, stem.and_then(ids::uuid))
            && let Some(path) = self.media.get(&id)
        {
            found = self.find_for(beside, path);
        }
        found.map_err(of_image)
    }

    /// Everything below the root, for images that know their parent by its content only.
    fn list(&self, _child: &str) -> image::Result<Vec<PathBuf>> {
        let index = self.index().map_err(of_image)?;
        Ok(index.iter().take(MAX_LISTED).cloned().collect())
    }
}

fn of_image(error: Error) -> image::Error {
    let kind = match error.kind() {
        ErrorKind::Io => image::ErrorKind::Io,
        ErrorKind::Limit => image::ErrorKind::Limit,
        _ => image::ErrorKind::Unsupported,
    };
    image::Error::new(kind, error.to_string())
}

/// Components in lower case: Windows and most macOS volumes know no other difference.
fn folded(path: &Path) -> PathBuf {
    PathBuf::from(path.to_string_lossy().to_lowercase())
}

/// Regular files, and links to anything, below a folder; relative, sorted. Linked folders are not entered.
pub(crate) fn files_below(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut pending = vec![(PathBuf::new(), 0)];
    let mut seen = 0;
    while let Some((relative, depth)) = pending.pop() {
        let here = root.join(&relative);
        let failed = |e| Error::io("listing the folder", e).in_file(here.display());
        for entry in fs::read_dir(&here).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            seen += 1;
            if seen > MAX_ENTRIES {
                let message = format!(
                    "expected at most {MAX_ENTRIES} files below the folder, found more; hint: give the folder of the machine"
                );
                return Err(Error::new(ErrorKind::Limit, message).in_file(root.display()));
            }
            let path = relative.join(entry.file_name());
            if entry.file_type().map_err(failed)?.is_dir() {
                if depth < MAX_DEPTH {
                    pending.push((path, depth + 1));
                }
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use image::Reference;

    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        dir
    }

    fn found(below: &Below, foreign: &str) -> Option<String> {
        let range = below.find(foreign).unwrap()?;
        let bytes = range
            .read_vec(0, usize::try_from(range.len()).unwrap())
            .unwrap();
        Some(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_path_of_windows_means_a_file_below_whatever_its_case() {
        let dir = tree(&[
            "Virtual Machines/x.vmcx",
            "Virtual Hard Disks/Web.vhdx",
            "Snapshots/web_1.avhdx",
        ]);
        let home = dir.path().join("Virtual Machines");
        let below = Below::open(dir.path(), &home).unwrap();
        let want = Some("Virtual Hard Disks/Web.vhdx".to_owned());
        assert_eq!(
            found(&below, r"D:\VMs\web\virtual hard disks\web.vhdx"),
            want
        );
        assert_eq!(found(&below, r"C:\ClusterStorage\Volume1\WEB.VHDX"), want);
        assert_eq!(found(&below, r"C:\other.vhdx"), None);
        assert_eq!(found(&below, r"C:\Virtual Hard Disks"), None);
        assert_eq!(found(&below, ""), None);
    }

    #[test]
    fn a_name_of_two_files_is_told_by_its_folder_or_refused() {
        let dir = tree(&["a/disk.vhdx", "b/disk.vhdx", "b/child.avhdx"]);
        let below = Below::open(dir.path(), dir.path()).unwrap();
        assert_eq!(
            found(&below, r"X:\b\disk.vhdx").as_deref(),
            Some("b/disk.vhdx")
        );
        let error = below.find(r"X:\c\disk.vhdx").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        let child = dir.path().join("b/child.avhdx").display().to_string();
        let (_, files) = below.into_files();
        let parent = files
            .find(&child, Reference::Foreign(r"X:\c\disk.vhdx"))
            .unwrap();
        assert!(
            parent.label().ends_with("b/disk.vhdx"),
            "{}",
            parent.label()
        );
    }

    #[test]
    fn a_medium_is_found_by_its_uuid() {
        let dir = tree(&["img/root.vdi"]);
        let id = "ed00b7f8-dc71-4876-baff-33a0576decee";
        let media = HashMap::from([(id.to_owned(), "/work/img/root.vdi".to_owned())]);
        let below = Below::open(dir.path(), dir.path())
            .unwrap()
            .with_media(media);
        let (_, files) = below.into_files();
        let name = format!("{{{id}}}.vdi");
        let parent = files.find("child", Reference::Foreign(&name)).unwrap();
        assert!(parent.label().ends_with("img/root.vdi"));
    }

    #[test]
    fn nothing_outside_is_reached() {
        let dir = tree(&["in/x", "secret"]);
        std::os::unix::fs::symlink("../secret", dir.path().join("in/link.vhdx")).unwrap();
        let root = dir.path().join("in");
        let below = Below::open(&root, &root).unwrap();
        assert_eq!(
            below.find(r"C:\link.vhdx").unwrap_err().kind(),
            ErrorKind::Refused
        );
        assert_eq!(found(&below, r"..\secret"), None);
    }
}
