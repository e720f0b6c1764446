//! Setup information files (.inf), as SetupAPI reads them.
//!
//! | file | what |
//! |---|---|
//! | `text` | bytes to lines: encodings, comments, quotes, continuation, strings |
//! | `target` | decorations: which Windows a section is for |
//!
//! A file that SetupAPI refuses (a line outside of any section, a section's name without its end) is refused.

mod target;
mod text;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

pub(crate) use target::{Platform, Target};
pub(crate) use text::INF_MAX;

use crate::{Error, Result};
use text::{Lines, RawLine, Strings};

/// A parsed .inf file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inf {
    sections: Vec<Section>,
}

/// One section; sections of one name are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Section {
    /// Lower case.
    pub(crate) name: String,
    /// Its lines.
    pub(crate) lines: Vec<Line>,
}

impl Section {
    /// Its lines with this key, whatever their case.
    pub(crate) fn of<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| {
            let own = line.key.as_deref();
            own.is_some_and(|own| own.eq_ignore_ascii_case(key))
        })
    }
}

/// `KEY = FIELD, FIELD, …`, or fields alone; quotes removed, `%strings%` replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    /// What is before `=`.
    pub(crate) key: Option<String>,
    /// What is behind it, or the whole line.
    pub(crate) fields: Vec<String>,
}

impl Line {
    /// A field; the empty string where there is none.
    pub(crate) fn field(&self, at: usize) -> &str {
        self.fields.get(at).map_or("", String::as_str)
    }
}

/// A device that the .inf is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    /// Description for people.
    pub(crate) description: String,
    /// Install section as the model names it, without decoration: `scsi_inst`.
    pub(crate) install: String,
    /// The hardware id, then the compatible ids, as written.
    pub(crate) ids: Vec<String>,
}

impl Inf {
    /// Reads an .inf in UTF-16 with a byte order mark, UTF-8 or a Windows code page.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let text = text::decode(bytes)?;
        let mut inf = Self::default();
        let mut names: HashMap<String, usize> = HashMap::new();
        let mut now = None;
        for line in Lines::new(&text) {
            match line? {
                RawLine::Section(name) => {
                    let at = *names.entry(name.clone()).or_insert(inf.sections.len());
                    if at == inf.sections.len() {
                        let lines = Vec::new();
                        inf.sections.push(Section { name, lines });
                    }
                    now = Some(at);
                }
                RawLine::Entry(key, fields) => {
                    let section = now.and_then(|at| inf.sections.get_mut(at));
                    let section = section
                        .ok_or_else(|| Error::corrupt("expected a section before any line"))?;
                    section.lines.push(Line { key, fields });
                }
            }
        }
        inf.replace_strings()?;
        Ok(inf)
    }

    /// [Strings], and for what it does not define, [Strings.0409] (English) and those of other languages.
    fn replace_strings(&mut self) -> Result<()> {
        let mut strings = Strings::new();
        let is_strings = |name: &str| name == "strings" || name.starts_with("strings.");
        let mut tables: Vec<&Section> = self
            .sections
            .iter()
            .filter(|section| is_strings(&section.name))
            .collect();
        tables.sort_by_key(|section| match section.name.as_str() {
            "strings" => 0,
            "strings.0409" => 1,
            _ => 2,
        });
        for line in tables.iter().flat_map(|section| &section.lines) {
            if let Some(key) = &line.key {
                strings.define(key, &line.fields.join(","));
            }
        }
        for section in &mut self.sections {
            if is_strings(&section.name) {
                continue;
            }
            for line in &mut section.lines {
                let key = line.key.take().map(|key| strings.replace(key));
                line.key = key.transpose()?;
                for field in &mut line.fields {
                    *field = strings.replace(std::mem::take(field))?;
                }
            }
        }
        Ok(())
    }

    /// The section of this name, whatever its case.
    pub(crate) fn section(&self, name: &str) -> Option<&Section> {
        let name = name.to_lowercase();
        self.sections.iter().find(|section| section.name == name)
    }

    /// The first field of the first line of [Version] with this key, if it is not empty.
    pub(crate) fn version(&self, key: &str) -> Option<&str> {
        let section = self.section("version")?;
        let value = section.of(key).next()?.field(0);
        (!value.is_empty()).then_some(value)
    }

    /// Signature of [Version] is one that SetupAPI takes.
    pub(crate) fn has_signature(&self) -> bool {
        let known = ["$windows nt$", "$chicago$", "$windows 95$"];
        let signature = self.version("Signature").unwrap_or_default();
        known.contains(&signature.to_lowercase().as_str())
    }

    /// ClassGuid of [Version], lower case with braces.
    pub(crate) fn class_guid(&self) -> Option<String> {
        self.version("ClassGuid").map(str::to_lowercase)
    }

    /// Provider of [Version].
    pub(crate) fn provider(&self) -> Option<String> {
        self.version("Provider").map(str::to_owned)
    }

    /// DriverVer of [Version]: date as (year, month, day) and version as four numbers.
    pub(crate) fn driver_ver(&self) -> Option<((u16, u16, u16), [u16; 4])> {
        let section = self.section("version")?;
        let line = section.of("DriverVer").next()?;
        let mut date = line.field(0).split(['/', '-']).map(str::trim);
        let mut number = || date.next()?.parse::<u16>().ok();
        let (month, day, year) = (number()?, number()?, number()?);
        if date.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        let mut version = [0; 4];
        let parts = line.field(1).split('.').map(str::trim);
        for (place, part) in version.iter_mut().zip(parts) {
            *place = part.parse().ok()?;
        }
        Some(((year, month, day), version))
    }

    /// CatalogFile of [Version], the one for this platform if it has one.
    pub(crate) fn catalog(&self, platform: Platform) -> Option<String> {
        let special = format!("CatalogFile.NT{}", platform.arch);
        [special.as_str(), "CatalogFile.NT", "CatalogFile"]
            .into_iter()
            .find_map(|key| self.version(key))
            .map(str::to_owned)
    }

    /// Manufacturers with their models section for this platform, by the decoration that Windows chooses.
    pub(crate) fn targets(&self, platform: Platform) -> Vec<(Target, String)> {
        let manufacturers = self.section("manufacturer");
        let lines = manufacturers.map_or(&[][..], |section| &section.lines);
        let chosen = |line: &Line| {
            let name = line.field(0);
            let decorated = line
                .fields
                .iter()
                .skip(1)
                .filter_map(|decoration| {
                    let section = format!("{name}.{}", decoration.trim());
                    Some((Target::parse(decoration)?, section))
                })
                .filter(|(target, _)| target.fits(platform))
                .max_by(|(one, _), (other, _)| one.rank().cmp(&other.rank()));
            let plain = || {
                let target = Target::default();
                target.fits(platform).then(|| (target, name.to_owned()))
            };
            decorated.or_else(plain)
        };
        lines.iter().filter_map(chosen).collect()
    }

    /// The models of the [Manufacturer] decoration that SetupAPI would choose on this platform.
    pub(crate) fn models(&self, platform: Platform) -> Vec<Model> {
        let sections = self.targets(platform);
        let sections = sections.iter().filter_map(|(_, name)| self.section(name));
        let models = sections.flat_map(|section| &section.lines);
        models
            .filter_map(|line| {
                let (install, ids) = line.fields.split_first()?;
                let ids: Vec<String> = ids.iter().filter(|id| !id.is_empty()).cloned().collect();
                Some(Model {
                    description: line.key.clone()?,
                    install: install.clone(),
                    ids,
                })
            })
            .filter(|model| !model.install.is_empty() && !model.ids.is_empty())
            .collect()
    }

    /// Name of the install section with the decoration that is used on this platform: `scsi_inst.NT`.
    ///
    /// Version decorations of these sections came with Windows 10; before it there are `.NTarch`, `.NT` and none
    /// (Microsoft Learn, "INF DDInstall Section").
    pub(crate) fn install_section(&self, install: &str, platform: Platform) -> Option<String> {
        let prefix = format!("{}.", install.to_lowercase());
        let versions = platform.major >= 10;
        let decorated = self
            .sections
            .iter()
            .filter_map(|section| {
                Some((Target::parse(section.name.strip_prefix(&prefix)?)?, section))
            })
            .filter(|(target, _)| {
                // `.NT` is for every processor here.
                let any = target.clone().or_arch(platform.arch);
                any.fits(platform) && (versions || any.is_plain())
            })
            .max_by(|(one, _), (other, _)| one.rank().cmp(&other.rank()));
        match decorated {
            Some((_, section)) => Some(section.name.clone()),
            None => self.section(install).map(|section| section.name.clone()),
        }
    }

    /// Files that the package consists of: the .inf's SourceDisksFiles and catalog.
    pub(crate) fn source_files(&self, platform: Platform) -> Vec<String> {
        let special = format!("SourceDisksFiles.{}", platform.arch);
        let sections = ["SourceDisksFiles", special.as_str()];
        let lines = sections
            .into_iter()
            .filter_map(|name| self.section(name))
            .flat_map(|section| &section.lines);
        let mut files: Vec<String> = Vec::new();
        let named = lines.filter_map(|line| line.key.clone());
        for file in named.chain(self.catalog(platform)) {
            let known = files.iter().any(|known| known.eq_ignore_ascii_case(&file));
            if !file.is_empty() && !known {
                files.push(file);
            }
        }
        files
    }
}
