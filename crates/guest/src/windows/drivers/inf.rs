//! Setup information files (.inf), as SetupAPI reads them.

use crate::{Error, Result};

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

/// `KEY = FIELD, FIELD, …`, or fields alone; quotes removed, `%strings%` replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    /// What is before `=`.
    pub(crate) key: Option<String>,
    /// What is behind it, or the whole line.
    pub(crate) fields: Vec<String>,
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

/// A Windows that a driver may be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Platform {
    /// `x86`, `amd64`, `arm64`.
    pub(crate) arch: &'static str,
    /// Version and build of the system.
    pub(crate) major: u32,
    /// Minor version.
    pub(crate) minor: u32,
    /// Build.
    pub(crate) build: u32,
    /// It is a server.
    pub(crate) server: bool,
}

impl Inf {
    /// Reads an .inf in UTF-16 with a byte order mark, UTF-8 or a Windows code page.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let _ = bytes;
        Err(Error::unsupported("no .inf is read yet"))
    }

    /// The section of this name, whatever its case.
    pub(crate) fn section(&self, name: &str) -> Option<&Section> {
        let name = name.to_lowercase();
        self.sections.iter().find(|section| section.name == name)
    }

    /// ClassGuid of [Version], lower case with braces.
    pub(crate) fn class_guid(&self) -> Option<String> {
        unimplemented!()
    }

    /// Provider of [Version].
    pub(crate) fn provider(&self) -> Option<String> {
        unimplemented!()
    }

    /// DriverVer of [Version]: date as (year, month, day) and version as four numbers.
    pub(crate) fn driver_ver(&self) -> Option<((u16, u16, u16), [u16; 4])> {
        unimplemented!()
    }

    /// CatalogFile of [Version], the one for this platform if it has one.
    pub(crate) fn catalog(&self, platform: Platform) -> Option<String> {
        let _ = platform;
        unimplemented!()
    }

    /// The models of the [Manufacturer] decoration that SetupAPI would choose on this platform.
    pub(crate) fn models(&self, platform: Platform) -> Vec<Model> {
        let _ = platform;
        unimplemented!()
    }

    /// Name of the install section with the decoration that is used on this platform: `scsi_inst.NT`.
    pub(crate) fn install_section(&self, install: &str, platform: Platform) -> Option<String> {
        let _ = (install, platform);
        unimplemented!()
    }

    /// Files that the package consists of: the .inf's SourceDisksFiles and catalog.
    pub(crate) fn source_files(&self, platform: Platform) -> Vec<String> {
        let _ = platform;
        unimplemented!()
    }
}
