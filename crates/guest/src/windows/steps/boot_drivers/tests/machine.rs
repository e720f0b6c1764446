//! A guest of nothing but its hives and its drivers directory; the step is run on it and its registry compared.

use std::fs;

use registry::{Hive, Value};
use types::{Arch, Change, ConvertOptions, GuestInfo, OsType, StepReport, StorageMap, WindowsInfo};

use super::super::apply;
use crate::payload::Payload;
use crate::windows::convert::Context;
use crate::windows::drivers::inf::Inf;
use crate::windows::drivers::{Package, Role};
use crate::windows::tests::regdiff::{Values, values};
use crate::{Result, Root};

/// The publisher of the test's catalogs.
const CATALOG: &[u8] = b"\x30\x82 Red Hat, Inc. 0";

/// One driver package: directory in the payload, role, .inf with its name.
pub(super) struct Given {
    pub(super) role: Role,
    pub(super) name: &'static str,
    pub(super) inf: Vec<u8>,
}

impl Given {
    fn package(&self) -> Package {
        let stem = self.name.trim_end_matches(".inf");
        let member = |file: &str| format!("virtio-win/{stem}/{file}");
        Package {
            role: self.role,
            inf_name: self.name.to_owned(),
            inf: Inf::parse(&self.inf).unwrap(),
            inf_sha256: crate::recorder::sha256(&self.inf),
            members: vec![
                member(self.name),
                member(&format!("{stem}.sys")),
                member(&format!("{stem}.cat")),
            ],
            exact: true,
        }
    }
}

pub(super) struct Machine {
    pub(super) dir: tempfile::TempDir,
    pub(super) windows: WindowsInfo,
    pub(super) arch: Arch,
    pub(super) given: Vec<Given>,
}

/// What became of it.
pub(super) struct Outcome {
    pub(super) changes: Vec<Change>,
    pub(super) warnings: Vec<String>,
    pub(super) report: StepReport,
}

impl Machine {
    pub(super) fn new(version: (u32, u32, u32), arch: Arch, system: &[u8]) -> Self {
        let machine = Self {
            dir: tempfile::tempdir().unwrap(),
            windows: WindowsInfo {
                system_root: "/Windows".to_owned(),
                drive: "C".to_owned(),
                major: version.0,
                minor: version.1,
                build: version.2,
                product_type: "WinNT".to_owned(),
                control_sets: vec!["ControlSet001".to_owned(), "ControlSet002".to_owned()],
                ..WindowsInfo::default()
            },
            arch,
            given: Vec::new(),
        };
        machine.file("System32/config/SYSTEM", system);
        let software = Hive::create("SOFTWARE").to_bytes(1);
        machine.file("System32/config/SOFTWARE", &software);
        machine
    }

    /// A file below the directory of Windows.
    pub(super) fn file(&self, path: &str, content: &[u8]) {
        let path = self.dir.path().join("Windows").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(super) fn driver(&self, name: &str) {
        self.file(&format!("System32/drivers/{name}"), b"MZ");
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.dir.path().join("Windows").join(path).is_file()
    }

    fn payload(&self) -> Payload {
        let mut members: Vec<(String, Vec<u8>)> = Vec::new();
        for given in &self.given {
            let stem = given.name.trim_end_matches(".inf");
            let sys = format!("MZ {stem}").into_bytes();
            for (file, content) in [
                ("inf", &given.inf),
                ("sys", &sys),
                ("cat", &CATALOG.to_vec()),
            ] {
                members.push((format!("virtio-win/{stem}/{stem}.{file}"), content.clone()));
            }
        }
        let members: Vec<(&str, u32, &[u8])> = members
            .iter()
            .map(|(name, content)| (name.as_str(), 0o644, content.as_slice()))
            .collect();
        crate::payload::tests::payload(&members)
    }

    /// Runs the step, and writes the hives.
    pub(super) fn run(&self) -> Result<Outcome> {
        let root = Root::open(self.dir.path()).unwrap();
        let guest = GuestInfo {
            os: OsType::Windows,
            arch: self.arch,
            ..GuestInfo::default()
        };
        let payload = self.payload();
        let (options, storage) = (ConvertOptions::default(), StorageMap::default());
        let windows = &self.windows;
        let mut context = Context::new(&root, &guest, windows, &storage, &options, &payload)?;
        context.drivers.packages = self.given.iter().map(Given::package).collect();
        context.recorder.begin("boot-drivers");
        apply(&mut context)?;
        context.recorder.end();
        context.registry.save(&mut context.recorder)?;
        let (changes, warnings, steps) = context.recorder.finish();
        Ok(Outcome {
            changes,
            warnings,
            report: steps.into_iter().next().unwrap(),
        })
    }

    pub(super) fn values(&self, hive: &str) -> Values {
        let path = format!("Windows/System32/config/{hive}");
        values(&fs::read(self.dir.path().join(path)).unwrap())
    }

    /// Every file below Windows but the hives.
    pub(super) fn files(&self) -> Vec<String> {
        let root = self.dir.path().join("Windows");
        let mut files = Vec::new();
        let mut left = vec![root.clone()];
        while let Some(dir) = left.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    left.push(path);
                } else {
                    files.push(
                        path.strip_prefix(&root)
                            .unwrap()
                            .to_str()
                            .unwrap()
                            .to_owned(),
                    );
                }
            }
        }
        files.retain(|file| !file.contains("System32/config/"));
        files.sort();
        files
    }
}

/// A hive of these values; a name that is empty makes the key only.
pub(super) fn hive(values: &[(&str, &str, Value)]) -> Vec<u8> {
    let mut hive = Hive::create("SYSTEM");
    for (key, name, value) in values {
        if name.is_empty() {
            hive.create_key(key).unwrap();
        } else {
            hive.set(key, name, value).unwrap();
        }
    }
    hive.to_bytes(1)
}
