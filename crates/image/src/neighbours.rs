//! Where the files that an image names are looked for: parents, backing files, extents, external data.
//!
//! An image comes from a stranger. What it names is opened only beside it, or below a directory that the user
//! allowed; a name that leads elsewhere is refused, unless the user allowed all.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::{Error, ErrorKind, FileRange, Result};

/// A set of files that lie together: a folder, an archive.
pub trait Neighbours: Send + Sync + fmt::Debug {
    /// The file that `name` means for the image labelled `child`; `None` when there is none. `name` is relative to
    /// the child, of plain components only; it was checked not to climb.
    fn open(&self, child: &str, name: &Path) -> Result<Option<FileRange>>;

    /// The same for an absolute or climbing path, where the user allowed those. Refuses by default.
    fn open_anywhere(&self, child: &str, name: &Path) -> Result<Option<FileRange>> {
        let _ = (child, name);
        Ok(None)
    }

    /// Names that [`open`](Self::open) takes: every file that could belong to the image labelled `child`, at most
    /// [`MAX_LISTED`]. For images that identify their parent by its content only. None by default.
    fn list(&self, child: &str) -> Result<Vec<PathBuf>> {
        let _ = child;
        Ok(Vec::new())
    }
}

/// Most names that [`Neighbours::list`] returns. A folder of one machine has dozens of files; a user who allows a
/// large tree gets no endless search.
pub const MAX_LISTED: usize = 10_000;
/// Depth of the folders below an allowed one that are listed: VirtualBox puts snapshots one folder below a machine,
/// machines two or three below the user's.
const MAX_LISTED_DEPTH: usize = 5;

/// How the name of another file is written in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference<'a> {
    /// A path of this host, as qcow2 writes it. Nothing but that path is meant.
    Host(&'a OsStr),
    /// A path of the system that made the image, Windows or ESX: `C:\VMs\base.vhdx`, `..\base.vhdx`,
    /// `\\?\Volume{…}\base.vhdx`, `/vmfs/volumes/…/base.vmdk`. The file of that name beside the child is meant
    /// where the path itself is not here; the format then checks the identity that the child states.
    Foreign(&'a str),
}

impl fmt::Display for Reference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => write!(f, "{name:?}"),
            Self::Foreign(name) => write!(f, "{name:?}"),
        }
    }
}

/// Which files may be opened.
#[derive(Clone, Debug, Default)]
pub struct Files(Option<Arc<dyn Neighbours>>);

impl Files {
    /// None: an image that names another file is refused.
    pub fn none() -> Self {
        Self(None)
    }

    /// Those in the folder of the image at `path`.
    pub fn beside(path: &Path) -> Self {
        Self::of(Arc::new(Folder {
            base: folder_of(path),
            below: false,
            anywhere: false,
        }))
    }

    /// Those below `base`, which holds the image itself too (`--base-dir`).
    pub fn below(base: &Path) -> Self {
        Self::of(Arc::new(Folder {
            base: base.to_owned(),
            below: true,
            anywhere: false,
        }))
    }

    /// Any file of the host: the image at `path` is trusted (`--allow-any-path`).
    pub fn anywhere(path: &Path) -> Self {
        Self::of(Arc::new(Folder {
            base: folder_of(path),
            below: true,
            anywhere: true,
        }))
    }

    /// Those of an archive or the like.
    pub fn of(neighbours: Arc<dyn Neighbours>) -> Self {
        Self(Some(neighbours))
    }

    /// Opens the file that the image labelled `child` names. A name that leads elsewhere is
    /// [`ErrorKind::Unsupported`], a file that is not there [`ErrorKind::Missing`].
    pub fn find(&self, child: &str, reference: Reference<'_>) -> Result<FileRange> {
        let Some(place) = &self.0 else {
            return Err(Error::unsupported(format!(
                "the image needs the file {reference}, and there is no folder to look for it; hint: unpack the image, \
                 or flatten it first"
            ))
            .in_file(child));
        };
        let found = match reference {
            Reference::Host(name) => find_host(place.as_ref(), child, name),
            Reference::Foreign(name) => find_foreign(place.as_ref(), child, name),
        };
        found.map_err(|e| e.in_file(child))?.ok_or_else(|| {
            Error::new(
                ErrorKind::Missing,
                format!("expected the file {reference} beside the image, found none"),
            )
            .in_file(child)
        })
    }

    /// Names of the files that may belong to the image labelled `child`, sorted; each may be given to
    /// [`find`](Self::find) as a [`Reference::Host`].
    pub fn list(&self, child: &str) -> Result<Vec<PathBuf>> {
        match &self.0 {
            Some(place) => Ok(sorted(place.list(child)?)),
            None => Ok(Vec::new()),
        }
    }
}

/// Adds the files of `folder` to `names`, each by its path from there behind `prefix`. Links to folders are not
/// followed, so there is no endless way.
fn list_folder(folder: &Path, prefix: &Path, depth: usize, names: &mut Vec<PathBuf>) -> Result<()> {
    let failed = |e| Error::io("listing the folder", e).in_path(folder);
    let mut folders = Vec::new();
    for entry in folder.read_dir().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = prefix.join(entry.file_name());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => folders.push((entry.path(), name)),
            Ok(_) if names.len() < MAX_LISTED => names.push(name),
            _ => {}
        }
    }
    for (path, name) in folders {
        if depth > 0 && names.len() < MAX_LISTED {
            // A folder that may not be read has nothing for us.
            let _ = list_folder(&path, &name, depth - 1, names);
        }
    }
    Ok(())
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The names that the place lists, in one order everywhere.
fn sorted(mut names: Vec<PathBuf>) -> Vec<PathBuf> {
    names.sort_unstable();
    names.dedup();
    names.truncate(MAX_LISTED);
    names
}

/// The file that a path of this host means.
fn find_host(place: &dyn Neighbours, child: &str, name: &OsStr) -> Result<Option<FileRange>> {
    let bytes = name.as_encoded_bytes();
    // QEMU takes what comes before a colon for a protocol, unless a slash comes first.
    let protocol = bytes
        .iter()
        .find(|byte| matches!(byte, b':' | b'/'))
        .is_some_and(|&byte| byte == b':');
    if protocol {
        return Err(elsewhere(name, "is named by a protocol"));
    }
    let path = Path::new(name);
    let Some(file) = path.file_name() else {
        return Err(elsewhere(name, "is no file name"));
    };
    // A name that ends in `/` or `/.` has a last component, but is a directory.
    if bytes.contains(&0) || !bytes.ends_with(file.as_encoded_bytes()) {
        return Err(elsewhere(name, "is no file name"));
    }
    match plain(path) {
        Some(relative) => place.open(child, &relative),
        None => place.open_anywhere(child, path),
    }
}

/// The file that a path of another system means: the path below the child's folder, then every shorter tail of it,
/// down to the bare name.
fn find_foreign(place: &dyn Neighbours, child: &str, name: &str) -> Result<Option<FileRange>> {
    if name.contains('\0') {
        return Err(elsewhere(OsStr::new(name), "is no file name"));
    }
    let slashed = name.replace('\\', "/");
    let is_drive = |part: &str| part.len() == 2 && part.ends_with(':');
    let parts: Vec<&str> = slashed
        .split('/')
        .filter(|part| !matches!(*part, "" | "." | ".." | "?") && !is_drive(part))
        .collect();
    if parts.is_empty() {
        return Err(elsewhere(OsStr::new(name), "is no file name"));
    }
    for first in 0..parts.len() {
        let tail: PathBuf = parts.iter().skip(first).collect();
        if let Some(found) = place.open(child, &tail)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The path without `.`; `None` when it is absolute or climbs.
fn plain(path: &Path) -> Option<PathBuf> {
    path.components()
        .filter(|part| *part != Component::CurDir)
        .map(|part| match part {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect()
}

fn elsewhere(name: &OsStr, why: &str) -> Error {
    Error::unsupported(format!(
        "the file {name:?}, which the image names, {why}; only files beside the image are opened; hint: move it there, \
         or allow its folder with --base-dir"
    ))
}

/// A folder of the host.
#[derive(Debug)]
struct Folder {
    base: PathBuf,
    /// Subfolders count.
    below: bool,
    /// The user allowed every path.
    anywhere: bool,
}

impl Folder {
    /// Opens `path` if it is there.
    fn at(&self, path: &Path) -> Result<Option<FileRange>> {
        match path.metadata() {
            Ok(meta) if meta.is_dir() => Ok(None),
            Ok(_) => FileRange::open(path).map(Some),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("opening", e).in_path(path)),
        }
    }

    /// True when `path` lies in the folder, links resolved; a link that the user placed beside the image is his word.
    fn holds(&self, path: &Path) -> bool {
        let canonical = |path: &Path| folder_of(path).canonicalize().ok();
        let (Some(parent), Ok(base)) = (canonical(path), self.base.canonicalize()) else {
            return false;
        };
        if self.below {
            parent.starts_with(base)
        } else {
            parent == base
        }
    }
}

impl Neighbours for Folder {
    fn open(&self, child: &str, name: &Path) -> Result<Option<FileRange>> {
        let path = folder_of(Path::new(child)).join(name);
        if (self.anywhere || self.holds(&path))
            && let Some(found) = self.at(&path)?
        {
            return Ok(Some(found));
        }
        let path = self.base.join(name);
        if self.below && self.holds(&path) {
            return self.at(&path);
        }
        Ok(None)
    }

    fn list(&self, child: &str) -> Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        let beside = folder_of(Path::new(child));
        if self.anywhere || self.holds(Path::new(child)) {
            list_folder(&beside, Path::new(""), 0, &mut names)?;
        }
        if self.below {
            list_folder(&self.base, Path::new(""), MAX_LISTED_DEPTH, &mut names)?;
        }
        Ok(names)
    }

    fn open_anywhere(&self, child: &str, name: &Path) -> Result<Option<FileRange>> {
        let path = folder_of(Path::new(child)).join(name);
        let climbs = name.components().any(|part| part == Component::ParentDir);
        if self.anywhere || (self.holds(&path) && (self.below || !climbs)) {
            return self.at(&path);
        }
        let why = if climbs {
            "climbs out of the folder"
        } else {
            "lies in another folder"
        };
        Err(elsewhere(name.as_os_str(), why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with `here/child`, `here/base`, `here/sub/deep` and `other/base`.
    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (folder, file) in [
            ("here", "child"),
            ("here", "base"),
            ("here/sub", "deep"),
            ("other", "far"),
        ] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
            std::fs::write(dir.path().join(folder).join(file), file).unwrap();
        }
        dir
    }

    fn host(files: &Files, dir: &Path, name: &str) -> Result<String> {
        let child = dir.join("here/child");
        let found = files.find(child.to_str().unwrap(), Reference::Host(OsStr::new(name)))?;
        Ok(String::from_utf8(found.read_vec(0, usize::try_from(found.len()).unwrap())?).unwrap())
    }

    #[test]
    fn only_what_lies_beside_is_opened() {
        let dir = tree();
        let files = Files::beside(&dir.path().join("here/child"));
        let absolute = dir.path().join("here/base");
        for name in ["base", "./base", absolute.to_str().unwrap()] {
            assert_eq!(host(&files, dir.path(), name).unwrap(), "base", "{name}");
        }
        for (name, kind) in [
            ("/etc/passwd", ErrorKind::Unsupported),
            ("../other/far", ErrorKind::Unsupported),
            ("sub/../base", ErrorKind::Unsupported),
            ("sub/deep", ErrorKind::Missing),
            ("absent", ErrorKind::Missing),
            ("..", ErrorKind::Unsupported),
            ("base/", ErrorKind::Unsupported),
            ("base/.", ErrorKind::Unsupported),
            ("", ErrorKind::Unsupported),
            ("ba\0se", ErrorKind::Unsupported),
            ("nbd://host/export", ErrorKind::Unsupported),
            ("json:{\"driver\":\"qcow2\"}", ErrorKind::Unsupported),
        ] {
            let error = host(&files, dir.path(), name).unwrap_err();
            assert_eq!(error.kind(), kind, "{name}: {error}");
        }
        assert_eq!(
            host(&Files::none(), dir.path(), "base").unwrap_err().kind(),
            ErrorKind::Unsupported
        );
    }

    #[test]
    fn a_base_directory_allows_what_lies_below_it() {
        let dir = tree();
        let files = Files::below(dir.path());
        assert_eq!(host(&files, dir.path(), "../other/far").unwrap(), "far");
        assert_eq!(host(&files, dir.path(), "sub/deep").unwrap(), "deep");
        assert_eq!(
            host(&files, dir.path(), "/etc/passwd").unwrap_err().kind(),
            ErrorKind::Unsupported
        );
        let all = Files::anywhere(&dir.path().join("here/child"));
        assert!(host(&all, dir.path(), "/etc/passwd").is_ok());
    }

    #[test]
    fn listed_names_can_be_opened() {
        let dir = tree();
        let child = dir.path().join("here/child");
        let label = child.to_str().unwrap();
        let names = |files: &Files| files.list(label).unwrap();
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(names(&Files::beside(&child)), paths(&["base", "child"]));
        let below = Files::below(dir.path());
        let expected = [
            "base",
            "child",
            "here/base",
            "here/child",
            "here/sub/deep",
            "other/far",
        ];
        assert_eq!(names(&below), paths(&expected));
        for name in names(&below) {
            assert!(below.find(label, Reference::Host(name.as_os_str())).is_ok());
        }
        assert!(names(&Files::none()).is_empty());
    }

    #[test]
    fn a_path_of_windows_means_the_file_beside() {
        let dir = tree();
        let child = dir.path().join("here/child");
        let files = Files::beside(&child);
        let find = |name| files.find(child.to_str().unwrap(), Reference::Foreign(name));
        for name in [
            r"C:\Hyper-V\base",
            r".\base",
            r"..\other\base",
            r"\\?\Volume{12345678-0000-0000-0000-000000000000}\VMs\base",
            r"\\server\share\base",
            "/vmfs/volumes/datastore1/vm/base",
            "base",
        ] {
            let found = find(name).unwrap();
            assert!(
                found.label().ends_with("here/base"),
                "{name}: {}",
                found.label()
            );
        }
        assert_eq!(find(r"C:\absent").unwrap_err().kind(), ErrorKind::Missing);
        assert_eq!(find(r"C:\").unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(find(r"..\..").unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
