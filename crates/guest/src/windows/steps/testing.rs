//! Guests for the tests of steps: two hives and a directory.

use std::path::Path;

use registry::{Hive, Value};
use tempfile::TempDir;
use types::{Arch, Change, ConvertOptions, GuestInfo, OsType, StorageMap, WindowsInfo};

use crate::payload::Payload;
use crate::windows::convert::Context;
use crate::windows::drivers::Plan;
use crate::windows::hives::Registry;
use crate::windows::inspect;
use crate::{Result, Root};

/// A Windows Server 2019 with nothing in its registry.
pub(crate) struct Guest {
    dir: TempDir,
    system: Hive,
    software: Hive,
    pub(crate) guest: GuestInfo,
    pub(crate) windows: WindowsInfo,
    pub(crate) options: ConvertOptions,
    pub(crate) storage: StorageMap,
    pub(crate) payload: Payload,
    pub(crate) drivers: Plan,
    /// There is a first-boot service.
    pub(crate) programs: bool,
}

/// What a step has done.
pub(crate) struct Outcome {
    pub(crate) changes: Vec<Change>,
    pub(crate) warnings: Vec<String>,
    pub(crate) scripts: Vec<(String, String)>,
    pub(crate) files: Vec<(String, Vec<u8>)>,
    registry: Registry,
}

impl Guest {
    pub(crate) fn new() -> Self {
        Self::with(Hive::create("SYSTEM"), Hive::create("SOFTWARE"))
    }

    /// One with these hives.
    pub(crate) fn with(system: Hive, software: Hive) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("Windows/System32/config")).unwrap();
        Self {
            dir,
            system,
            software,
            guest: GuestInfo {
                os: OsType::Windows,
                arch: Arch::X86_64,
                ..GuestInfo::default()
            },
            windows: WindowsInfo {
                system_root: "/Windows".into(),
                drive: "C".into(),
                major: 10,
                build: 17763,
                product_type: "ServerNT".into(),
                control_sets: vec!["ControlSet001".into()],
                ..WindowsInfo::default()
            },
            options: ConvertOptions::default(),
            storage: StorageMap::default(),
            payload: Payload::default(),
            drivers: Plan::default(),
            programs: true,
        }
    }

    /// Sets a value of SYSTEM.
    pub(crate) fn system(&mut self, path: &str, name: &str, value: Value) {
        self.system.set(path, name, &value).unwrap();
    }

    /// Sets a value of SOFTWARE.
    pub(crate) fn software(&mut self, path: &str, name: &str, value: Value) {
        self.software.set(path, name, &value).unwrap();
    }

    /// Writes a file of the guest.
    pub(crate) fn write(&self, path: &str, content: &[u8]) {
        let path = self.dir.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Reads a file of the guest.
    pub(crate) fn read(&self, path: &str) -> Option<Vec<u8>> {
        std::fs::read(self.dir.path().join(path.trim_start_matches('/'))).ok()
    }

    /// What inspection says of it.
    pub(crate) fn inspected(&self) -> WindowsInfo {
        for (name, hive) in [("SYSTEM", &self.system), ("SOFTWARE", &self.software)] {
            let path = format!("/Windows/System32/config/{name}");
            self.write(&path, &hive.to_bytes(0));
        }
        let root = Root::open(self.dir.path()).unwrap();
        let guest = inspect::inspect(&root, &self.storage, &[], &[]).unwrap();
        guest.windows.unwrap()
    }

    /// Takes a step.
    pub(crate) fn run(&self, step: fn(&mut Context<'_>) -> Result<()>) -> Outcome {
        self.try_run(step).unwrap()
    }

    /// Takes a step, which may fail.
    pub(crate) fn try_run(
        &self,
        step: fn(&mut Context<'_>) -> Result<()>,
    ) -> Result<Outcome, String> {
        self.run_on(&self.system, &self.software, step)
    }

    /// Takes it again on what it has left.
    pub(crate) fn again(
        &self,
        outcome: &Outcome,
        step: fn(&mut Context<'_>) -> Result<()>,
    ) -> Outcome {
        let registry = &outcome.registry;
        self.run_on(registry.system(), registry.software(), step)
            .unwrap()
    }

    fn run_on(
        &self,
        system: &Hive,
        software: &Hive,
        step: fn(&mut Context<'_>) -> Result<()>,
    ) -> Result<Outcome, String> {
        for (name, hive) in [("SYSTEM", system), ("SOFTWARE", software)] {
            hive.verify().unwrap();
            let path = format!("/Windows/System32/config/{name}");
            self.write(&path, &hive.to_bytes(0));
        }
        let root = Root::open(self.dir.path()).unwrap();
        let (guest, windows, storage) = (&self.guest, &self.windows, &self.storage);
        let context = Context::new(&root, guest, windows, storage, &self.options, &self.payload);
        let mut context = context.unwrap();
        context.drivers = self.drivers.clone();
        context.programs = self.programs.then(|| Path::new("/nowhere"));
        context.recorder.begin("test");
        step(&mut context).map_err(|error| error.chain())?;
        context.recorder.end();
        context.registry.system().verify().unwrap();
        let scripts = context.firstboot.in_order();
        let scripts = scripts
            .into_iter()
            .map(|script| (script.name.clone(), script.body.clone()))
            .collect();
        let files = context.firstboot.files().to_vec();
        let (changes, warnings, _) = context.recorder.finish();
        Ok(Outcome {
            changes,
            warnings,
            scripts,
            files,
            registry: context.registry,
        })
    }
}

/// Without the hives, which are long.
impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}", self.changes, self.warnings)
    }
}

impl Outcome {
    /// A value of SYSTEM afterwards.
    pub(crate) fn system(&self, path: &str, name: &str) -> Option<Value> {
        self.registry.system().value(path, name).unwrap()
    }

    /// The body of a script.
    pub(crate) fn script(&self, name: &str) -> Option<&str> {
        let script = self.scripts.iter().find(|(script, _)| script == name);
        script.map(|(_, body)| body.as_str())
    }

    /// The text of a data file.
    pub(crate) fn file(&self, name: &str) -> Option<&str> {
        let file = self.files.iter().find(|(file, _)| file == name);
        file.map(|(_, content)| std::str::from_utf8(content).unwrap())
    }
}
