//! Which UEFI firmware this host has: QEMU's firmware descriptors (QEMU, docs/interop/firmware.json), as libvirt reads them for
//! `<os firmware='efi'>`.
//!
//! Descriptors are tried in the order of their file names. One in a folder hides those of its name in later folders. Only
//! flash in raw files with a template for the variables is of use here; what cannot be read is passed over.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use types::{MachineType, glob};

use crate::domain::platform::Platform;

/// Folders with descriptors, the first hides the others. The user's own folder is left out, as the system's libvirt does.
const DIRS: [&str; 2] = ["/etc/qemu/firmware", "/usr/share/qemu/firmware"];
/// Longest descriptor that is read, in bytes; theirs are below 2 KiB.
const MAX_LEN: u64 = 64 << 10;
/// What is asked for and what is avoided: features of the document named above.
const SECURE_BOOT: &str = "secure-boot";
const ENROLLED_KEYS: &str = "enrolled-keys";
const REQUIRES_SMM: &str = "requires-smm";

/// A firmware of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Firmware {
    /// The program, mapped read-only.
    pub(crate) code: PathBuf,
    /// Template of its variables.
    pub(crate) vars: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Descriptor {
    interface_types: Vec<String>,
    mapping: Mapping,
    targets: Vec<Target>,
    #[serde(default)]
    features: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mapping {
    device: String,
    /// `split` where it is not said.
    mode: Option<String>,
    executable: Option<Image>,
    nvram_template: Option<Image>,
}

#[derive(Debug, Deserialize)]
struct Image {
    filename: PathBuf,
    format: String,
}

#[derive(Debug, Deserialize)]
struct Target {
    architecture: String,
    machines: Vec<String>,
}

/// Folders that hold descriptors.
#[derive(Clone, Debug)]
pub(crate) struct Dirs(Vec<PathBuf>);

impl Default for Dirs {
    fn default() -> Self {
        Self(DIRS.map(PathBuf::from).into())
    }
}

impl Dirs {
    /// Other folders than the host's.
    #[cfg(test)]
    pub(crate) fn of(dirs: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(dirs.into_iter().collect())
    }

    /// The first firmware for this platform.
    pub(crate) fn find(&self, platform: Platform) -> Option<Firmware> {
        self.descriptors().into_values().find_map(|path| {
            let found = read(&path);
            match found {
                // An empty file hides others and says nothing.
                Ok(text) if text.trim().is_empty() => None,
                Ok(text) => match serde_json::from_str::<Descriptor>(&text) {
                    Ok(descriptor) => descriptor.firmware(platform),
                    Err(error) => {
                        tracing::warn!(%error, path = %path.display(), "no firmware descriptor");
                        None
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, path = %path.display(), "cannot read");
                    None
                }
            }
        })
    }

    /// Names of files, and where the one that counts is.
    fn descriptors(&self) -> BTreeMap<std::ffi::OsString, PathBuf> {
        let mut found = BTreeMap::new();
        for dir in &self.0 {
            let entries = fs::read_dir(dir)
                .into_iter()
                .flatten()
                .filter_map(Result::ok);
            for entry in entries {
                let path = entry.path();
                if path.extension().is_some_and(|end| end == "json") {
                    found.entry(entry.file_name()).or_insert(path);
                }
            }
        }
        found
    }
}

impl Descriptor {
    fn firmware(self, platform: Platform) -> Option<Firmware> {
        let has = |feature: &str| self.features.iter().any(|name| name == feature);
        let is_secure = has(SECURE_BOOT) && has(ENROLLED_KEYS);
        let is_plain = !has(SECURE_BOOT) && !has(ENROLLED_KEYS) && !has(REQUIRES_SMM);
        let suits = if platform.secure_boot {
            is_secure
        } else {
            is_plain
        };
        let machine = versioned(platform.machine);
        let runs = |target: &Target| {
            let mut patterns = target.machines.iter();
            target.architecture == platform.arch
                && patterns.any(|pattern| glob::matches(pattern, machine))
        };
        let mapping = self.mapping;
        let is_split = mapping.mode.as_deref().is_none_or(|mode| mode == "split");
        let is_usable = self.interface_types.iter().any(|kind| kind == "uefi")
            && mapping.device == "flash"
            && is_split
            && suits
            && self.targets.iter().any(runs);
        let raw = |image: Option<Image>| {
            let image = image.filter(|image| image.format == "raw")?;
            Some(image.filename).filter(|path| path.is_file() && path.to_str().is_some())
        };
        is_usable.then_some(())?;
        Some(Firmware {
            code: raw(mapping.executable)?,
            vars: raw(mapping.nvram_template)?,
        })
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_LEN).read_to_string(&mut text)?;
    Ok(text)
}

/// A machine as descriptors name them; their patterns do not tell versions apart.
fn versioned(machine: MachineType) -> &'static str {
    match machine {
        MachineType::I440fx => "pc-i440fx-9.0",
        MachineType::Q35 => "pc-q35-9.0",
        MachineType::Virt => "virt-9.0",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::samples;

    /// A host with these descriptors: folder, name, features, format, machines.
    fn host(all: &[(&str, &str, &str, &str, &str)]) -> (tempfile::TempDir, Dirs) {
        let dir = tempfile::tempdir().unwrap();
        for (folder, name, features, format, machines) in all {
            let folder = dir.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            let image = |kind: &str| {
                let path = folder.join(format!("{name}.{kind}"));
                fs::write(&path, "").unwrap();
                format!(
                    r#"{{"filename": "{}", "format": "{format}"}}"#,
                    path.display()
                )
            };
            let text = format!(
                r#"{{"description": "x", "interface-types": ["uefi"], "tags": [], "features": [{features}],
                "mapping": {{"device": "flash", "executable": {}, "nvram-template": {}}},
                "targets": [{{"architecture": "x86_64", "machines": ["{machines}"]}}]}}"#,
                image("code"),
                image("vars")
            );
            fs::write(folder.join(format!("{name}.json")), text).unwrap();
        }
        let dirs = Dirs::of(["etc", "usr"].map(|folder| dir.path().join(folder)));
        (dir, dirs)
    }

    fn platform(secure_boot: bool) -> Platform {
        let mut sample = samples::uefi();
        sample.machine.secure_boot = secure_boot;
        Platform::of(&sample.spec(), &mut Vec::new()).unwrap()
    }

    /// Name of the file that was chosen.
    fn chosen(dirs: &Dirs, secure_boot: bool) -> Option<String> {
        let vars = dirs.find(platform(secure_boot))?.vars;
        Some(vars.file_stem()?.to_str()?.to_owned())
    }

    const KEYS: &str = r#""enrolled-keys", "secure-boot", "requires-smm""#;

    #[test]
    fn the_first_that_suits_in_the_order_of_names_is_taken() {
        let (_dir, dirs) = host(&[
            ("usr", "30", KEYS, "qcow2", "pc-q35-*"),
            ("usr", "40", KEYS, "raw", "pc-q35-*"),
            ("usr", "50", r#""secure-boot""#, "raw", "pc-q35-*"),
            ("usr", "60", "", "qcow2", "pc-q35-*"),
            ("usr", "61", "", "raw", "microvm"),
            ("usr", "62", "", "raw", "pc-q35-*"),
            ("usr", "63", "", "raw", "pc-q35-*"),
        ]);
        assert_eq!(chosen(&dirs, true).as_deref(), Some("40"));
        assert_eq!(chosen(&dirs, false).as_deref(), Some("62"));
    }

    #[test]
    fn a_descriptor_of_the_administrator_hides_its_namesake() {
        let (dir, dirs) = host(&[
            ("usr", "60", "", "raw", "pc-q35-*"),
            ("usr", "70", "", "raw", "pc-q35-*"),
        ]);
        assert_eq!(chosen(&dirs, false).as_deref(), Some("60"));
        fs::create_dir(dir.path().join("etc")).unwrap();
        for hiding in ["", "{ no json"] {
            fs::write(dir.path().join("etc/60.json"), hiding).unwrap();
            assert_eq!(chosen(&dirs, false).as_deref(), Some("70"));
        }
        fs::remove_file(dir.path().join("usr/70.vars")).unwrap();
        assert_eq!(chosen(&dirs, false), None);
        assert_eq!(Dirs::of([]).find(platform(false)), None);
    }

    #[test]
    fn what_debian_describes_is_found() {
        if !Path::new("/usr/share/qemu/firmware/60-edk2-x86_64.json").exists() {
            return testkit::skip("the package ovmf is not installed");
        }
        for (secure_boot, vars) in [(true, "OVMF_VARS_4M.ms.fd"), (false, "OVMF_VARS_4M.fd")] {
            let found = Dirs::default().find(platform(secure_boot)).unwrap();
            assert_eq!(found.vars, Path::new("/usr/share/OVMF").join(vars));
        }
    }
}
