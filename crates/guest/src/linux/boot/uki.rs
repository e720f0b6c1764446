//! Unified kernel images: a PE program with kernel, initramfs and arguments in its sections (UAPI.5 Unified Kernel Image).
//!
//! It is signed as a whole, so it is read and never edited.

use std::fs::File;

use object::read::ReadCache;
use object::{Object, ObjectSection};

use crate::Root;
use crate::linux::os_release;

/// Sections of text are cut off here; they are a few hundred bytes.
const TEXT_MAX: u64 = 64 << 10;
/// A PE program with more sections than this is not looked through.
const SECTIONS_MAX: usize = 64;

/// What a unified kernel image says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uki {
    /// Kernel arguments (`.cmdline`).
    pub(crate) cmdline: String,
    /// Release of the kernel (`.uname`).
    pub(crate) uname: String,
    /// os-release (`.osrel`).
    pub(crate) osrel: String,
    /// It carries an initramfs.
    pub(crate) has_initrd: bool,
}

impl Uki {
    /// `None` when the file is no unified kernel image.
    pub(crate) fn read(root: &Root, path: &str) -> Option<Self> {
        let sections = sections(
            root.open_file(path).ok()?,
            &[".cmdline", ".uname", ".osrel"],
        )?;
        sections.contains(".linux").then(|| Self {
            cmdline: sections.text(".cmdline"),
            uname: sections.text(".uname"),
            osrel: sections.text(".osrel"),
            has_initrd: sections.contains(".initrd"),
        })
    }

    /// A value of its os-release.
    pub(crate) fn release(&self, name: &str) -> Option<String> {
        let start = format!("{name}=");
        let mut values = self
            .osrel
            .lines()
            .filter_map(|line| line.strip_prefix(start.as_str()));
        values
            .next()
            .map(os_release::unquote)
            .filter(|value| !value.is_empty())
    }
}

/// Names of a PE program's sections, and the text of some.
#[derive(Debug, Default)]
pub(crate) struct Sections(Vec<(String, String)>);

impl Sections {
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|(have, _)| have == name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        let found = self.0.iter().find(|(have, _)| have == name);
        found.map(|(_, text)| text.clone()).unwrap_or_default()
    }
}

/// The sections of a PE program, with the text of those in `wanted`; `None` when it is none.
pub(crate) fn sections(file: File, wanted: &[&str]) -> Option<Sections> {
    let cache = ReadCache::new(file);
    let pe = object::File::parse(&cache).ok()?;
    if pe.format() != object::BinaryFormat::Pe {
        return None;
    }
    let mut sections = Vec::new();
    for section in pe.sections().take(SECTIONS_MAX) {
        let name = section.name().unwrap_or_default().to_owned();
        let text = if wanted.contains(&name.as_str()) && section.size() <= TEXT_MAX {
            let data = section.data().unwrap_or_default();
            let end = data
                .iter()
                .position(|&byte| byte == 0)
                .unwrap_or(data.len());
            String::from_utf8_lossy(data.get(..end).unwrap_or_default())
                .trim()
                .to_owned()
        } else {
            String::new()
        };
        sections.push((name, text));
    }
    Some(Sections(sections))
}
