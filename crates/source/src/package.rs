//! Where a descriptor and its files are: members of an archive or files of a folder.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use image::FileRange;

use crate::archive::Archive;
use crate::error::{Error, ErrorKind, Result, shown};
use crate::folder::Folder;
use crate::manifest::Verification;
use crate::{href, sniff};

/// Bytes looked at to tell a descriptor from an archive.
const HEAD_SIZE: u64 = 16;
/// Names listed in a message before it says how many more there are.
const MAX_LISTED: usize = 5;

/// An OVF package (DSP0243 1.1.0, 5.1).
#[derive(Debug)]
pub(crate) struct Package {
    place: Place,
    /// Path as the user gave it.
    label: String,
    /// Folder of the descriptor within the archive, empty or ending in `/`.
    base: String,
    /// Name of the descriptor in its folder.
    pub(crate) descriptor: String,
    /// What the administrator should know.
    pub(crate) warnings: Vec<String>,
}

#[derive(Debug)]
enum Place {
    Archive(Archive),
    /// All files belong to the one descriptor.
    Folder(Folder),
    /// The user named the descriptor; files of other packages may lie beside it.
    Descriptor(Folder, FileRange),
}

impl Package {
    /// Opens an archive (tar, packed tar, zip), a folder, or a descriptor with the files beside it; content decides which.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let label = path.display().to_string();
        let meta = std::fs::metadata(path).map_err(|e| Error::io("opening", e).in_file(&label))?;
        if meta.is_dir() {
            return Self::open_folder(path, label);
        }
        if meta.is_file() && is_descriptor(path).map_err(|e| e.in_file(&label))? {
            return Self::open_descriptor(path, label);
        }
        Self::open_archive(path, label)
    }

    fn open_folder(path: &Path, label: String) -> Result<Self> {
        let folder = Folder::open(path)?;
        let names = folder.names()?;
        let descriptor =
            only_descriptor(names.iter().map(String::as_str)).map_err(|e| e.in_file(&label))?;
        let place = Place::Folder(folder);
        Ok(Self {
            place,
            label,
            base: String::new(),
            descriptor,
            warnings: Vec::new(),
        })
    }

    fn open_descriptor(path: &Path, label: String) -> Result<Self> {
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let descriptor = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let place = Place::Descriptor(Folder::open(parent)?, FileRange::open(path)?);
        Ok(Self {
            place,
            label,
            base: String::new(),
            descriptor,
            warnings: Vec::new(),
        })
    }

    fn open_archive(path: &Path, label: String) -> Result<Self> {
        let archive = Archive::open(path)?;
        let full = only_descriptor(archive.names()).map_err(|e| e.in_file(&label))?;
        let (base, descriptor) = match full.rsplit_once('/') {
            Some((base, name)) => (format!("{base}/"), name.to_owned()),
            None => (String::new(), full),
        };
        let ignored = |name: &String| {
            format!(
                "{label}: ignoring the member `{}`: its name leaves the archive",
                shown(name)
            )
        };
        let warnings = archive
            .ignored
            .iter()
            .take(MAX_LISTED)
            .map(ignored)
            .collect();
        Ok(Self {
            place: Place::Archive(archive),
            label,
            base,
            descriptor,
            warnings,
        })
    }

    /// Path as the user gave it.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// The descriptor's bytes.
    pub(crate) fn descriptor_range(&self) -> Result<FileRange> {
        if let Place::Descriptor(_, range) = &self.place {
            return Ok(range.clone());
        }
        let missing = || {
            Error::new(
                ErrorKind::Missing,
                format!("`{}` has vanished", self.descriptor),
            )
        };
        self.get(&self.descriptor)?
            .ok_or_else(|| missing().in_file(&self.label))
    }

    /// The file that a reference names; `None` when the package has none of that name.
    pub(crate) fn find(&self, reference: &str) -> Result<Option<FileRange>> {
        for name in href::candidates(reference)? {
            if let Some(range) = self.get(&name)? {
                return Ok(Some(range));
            }
        }
        Ok(None)
    }

    /// Names of the files in the descriptor's folder.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        Ok(match &self.place {
            Place::Archive(archive) => {
                let here = archive
                    .names()
                    .filter_map(|name| name.strip_prefix(&self.base));
                here.filter(|name| !name.contains('/'))
                    .map(str::to_owned)
                    .collect()
            }
            Place::Folder(folder) | Place::Descriptor(folder, _) => folder.names()?,
        })
    }

    /// The certificate and signature of the manifest (DSP0243 1.1.0, 5.1), which has the descriptor's base name.
    pub(crate) fn certificate(&self) -> Result<Option<String>> {
        let own = |name: &String| {
            has_extension(name, "cert") && self::stem(name) == self::stem(&self.descriptor)
        };
        Ok(self.names()?.into_iter().find(own))
    }

    /// Names of the manifests in the descriptor's folder that belong to it: the one of the same base name
    /// (DSP0243 1.1.0, 5.1), else, when the package has the place to itself, any.
    pub(crate) fn manifests(&self) -> Result<Vec<String>> {
        let stem = stem(&self.descriptor);
        let mut names = self.names()?;
        names.retain(|name| has_extension(name, "mf"));
        if let Some(own) = names.iter().position(|name| self::stem(name) == stem) {
            return Ok(vec![names.swap_remove(own)]);
        }
        if matches!(self.place, Place::Descriptor(..)) {
            names.clear();
        }
        Ok(names)
    }

    /// True when the files are members of an archive.
    pub(crate) fn is_archive(&self) -> bool {
        matches!(self.place, Place::Archive(_))
    }

    /// Folder of the file with this label below the descriptor's folder, empty or ending in `/`; `None` for a label
    /// that is none of this package's.
    pub(crate) fn folder_of(&self, label: &str) -> Option<String> {
        let name = match &self.place {
            Place::Archive(_) => label
                .strip_prefix(&self.label)?
                .strip_prefix(':')?
                .strip_prefix(&self.base)?,
            Place::Folder(folder) | Place::Descriptor(folder, _) => {
                let path = Path::new(label).strip_prefix(folder.path()).ok()?;
                path.to_str()?
            }
        };
        Some(match name.rsplit_once('/') {
            Some((folder, _)) => format!("{folder}/"),
            None => String::new(),
        })
    }

    /// Files named like the reference with a dot and a number after it: their names and the digits.
    pub(crate) fn numbered(&self, reference: &str) -> Result<Vec<(String, String)>> {
        for front in href::candidates(reference)? {
            let (folder, base) = match front.rsplit_once('/') {
                Some((folder, base)) => (format!("{folder}/"), base),
                None => (String::new(), front.as_str()),
            };
            let digits = |name: &str| {
                let digits = name.strip_prefix(base)?.strip_prefix('.')?;
                let valid = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                valid.then(|| digits.to_owned())
            };
            let names: Vec<String> = match &self.place {
                Place::Archive(archive) => {
                    let folder = format!("{}{folder}", self.base);
                    let here = archive
                        .names()
                        .filter_map(|name| name.strip_prefix(&folder));
                    here.map(str::to_owned).collect()
                }
                Place::Folder(place) | Place::Descriptor(place, _) => place.names_in(&folder)?,
            };
            let found: Vec<(String, String)> = names
                .iter()
                .filter_map(|name| Some((format!("{folder}{name}"), digits(name)?)))
                .collect();
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    /// Checks that the archive itself wants of the members that were opened.
    pub(crate) fn unverified(&self) -> Vec<Verification> {
        match &self.place {
            Place::Archive(archive) => archive.unverified(),
            _ => Vec::new(),
        }
    }

    /// A file of the descriptor's folder by its name.
    pub(crate) fn get(&self, name: &str) -> Result<Option<FileRange>> {
        match &self.place {
            Place::Archive(archive) => archive.get(&format!("{}{name}", self.base)),
            Place::Folder(folder) | Place::Descriptor(folder, _) => folder
                .get(name)
                .map_err(|e| e.in_file(folder.path().display())),
        }
    }
}

/// True for an `.ovf` file and for anything that begins like XML.
fn is_descriptor(path: &Path) -> Result<bool> {
    if path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("ovf"))
    {
        return Ok(true);
    }
    let mut head = Vec::new();
    let file = File::open(path).map_err(|e| Error::io("opening", e))?;
    file.take(HEAD_SIZE)
        .read_to_end(&mut head)
        .map_err(|e| Error::io("reading", e))?;
    Ok(sniff::is_xml(&head))
}

/// The one name that ends in `.ovf`. AppleDouble companions (`._NAME`), which tar on macOS adds, do not count.
fn only_descriptor<'a>(names: impl Iterator<Item = &'a str>) -> Result<String> {
    let base_name = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
    let found: Vec<&str> = names
        .filter(|name| has_extension(name, "ovf") && !base_name(name).starts_with("._"))
        .collect();
    match found.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => Err(Error::new(
            ErrorKind::Missing,
            "expected one .ovf file, found none",
        )),
        many => {
            let listed: Vec<String> = many
                .iter()
                .take(MAX_LISTED)
                .map(|name| format!("`{}`", shown(name)))
                .collect();
            let more = match many.len() - listed.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            Err(Error::corrupt(format!(
                "expected one .ovf file, found {}{more}",
                listed.join(", ")
            )))
        }
    }
}

fn has_extension(name: &str, extension: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(_, found)| found.eq_ignore_ascii_case(extension))
}

fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}
