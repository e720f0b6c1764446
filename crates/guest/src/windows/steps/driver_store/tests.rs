use registry::Hive;
use types::{Arch, ConvertOptions, GuestInfo, StorageMap, WindowsInfo};

use super::*;
use crate::Root;
use crate::payload::tests::payload;
use crate::windows::drivers;

const NET: &[u8] = b"[Version]\nSignature=$CHICAGO$\nDriverVer=1/1/2018,1\nCatalogFile=netkvm.cat\n\
    [Manufacturer]\na=b,NTx86.5.1,NTamd64.6.1\n[b.NTx86.5.1]\nc=d,PCI\\VEN_1AF4&DEV_1000\n\
    [b.NTamd64.6.1]\nc=d,PCI\\VEN_1AF4&DEV_1000\n[SourceDisksFiles]\nnetkvm.sys=1\nWdfCoInstaller01009.dll=1\n";

/// A guest with empty hives, a payload, and what became of it.
struct Guest {
    dir: tempfile::TempDir,
    windows: WindowsInfo,
    payload: Payload,
}

struct After {
    changes: Vec<String>,
    warnings: Vec<String>,
    script: Option<String>,
    device_path: Option<Value>,
}

impl Guest {
    fn new(major: u32, minor: u32, build: u32, files: &[(&str, &[u8])]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("WINNT/system32/config");
        std::fs::create_dir_all(&config).unwrap();
        for name in ["SYSTEM", "software"] {
            std::fs::write(config.join(name), Hive::create("ROOT").to_bytes(0)).unwrap();
        }
        let names: Vec<String> = files
            .iter()
            .map(|(name, _)| format!("{}/{name}", drivers::MEMBER))
            .collect();
        let members: Vec<(&str, u32, &[u8])> = names
            .iter()
            .zip(files)
            .map(|(name, (_, content))| (name.as_str(), 0o644, *content))
            .collect();
        Self {
            dir,
            windows: WindowsInfo {
                system_root: "/WINNT".to_owned(),
                major,
                minor,
                build,
                product_type: "WinNT".to_owned(),
                control_sets: vec!["ControlSet001".to_owned()],
                sha2: true,
                ..WindowsInfo::default()
            },
            payload: payload(&members),
        }
    }

    /// Takes the step on the hives, or on those that were left by it.
    fn run(&self, device_path: Option<&Value>) -> After {
        let root = Root::open(self.dir.path()).unwrap();
        let guest = GuestInfo {
            arch: if self.windows.major < 6 {
                Arch::I686
            } else {
                Arch::X86_64
            },
            ..GuestInfo::default()
        };
        let (options, storage) = (ConvertOptions::default(), StorageMap::default());
        let windows = &self.windows;
        let context = Context::new(&root, &guest, windows, &storage, &options, &self.payload);
        let mut context = context.unwrap();
        context.drivers = drivers::plan(&context).unwrap();
        if let Some(value) = device_path {
            let (recorder, software) = (&mut context.recorder, Which::Software);
            let registry = &mut context.registry;
            registry
                .set(
                    recorder,
                    software,
                    CURRENT_VERSION,
                    "DevicePath",
                    value,
                    "test",
                )
                .unwrap();
        }
        let before = context.recorder.changes().len();
        context.recorder.begin("driver-store");
        apply(&mut context).unwrap();
        context.recorder.end();
        let software = context.registry.software();
        let device_path = software.value(CURRENT_VERSION, "DevicePath").unwrap();
        let script = context
            .firstboot
            .in_order()
            .first()
            .map(|script| script.body.clone());
        let (changes, warnings, _) = context.recorder.finish();
        After {
            changes: changes
                .into_iter()
                .skip(before)
                .map(|change| change.path)
                .collect(),
            warnings,
            script,
            device_path,
        }
    }
}

fn net(dll: &'static [u8]) -> Vec<(&'static str, &'static [u8])> {
    vec![
        ("NetKVM/w7/amd64/netkvm.inf", NET),
        ("NetKVM/w7/amd64/NetKVM.sys", b""),
        ("NetKVM/w7/amd64/netkvm.cat", b"cat"),
        ("NetKVM/w7/amd64/netkvm.pdb", b"pdb"),
        ("NetKVM/w7/amd64/WdfCoInstaller01009.dll", dll),
    ]
}

#[test]
fn drivers_are_staged_and_installed_at_the_first_boot() {
    let guest = Guest::new(6, 1, 7601, &net(b"dll"));
    let after = guest.run(Some(&Value::expand("%SystemRoot%\\inf;D:\\OEM")));
    assert_eq!(
        after.changes,
        [
            "/WINNT/Drivers/VirtIO/netkvm.inf",
            "/WINNT/Drivers/VirtIO/netkvm.sys",
            "/WINNT/Drivers/VirtIO/wdfcoinstaller01009.dll",
            "/WINNT/Drivers/VirtIO/netkvm.cat",
            "HKLM\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\DevicePath",
        ]
    );
    let device_path = after.device_path.unwrap();
    assert_eq!(
        device_path,
        Value::expand("%SystemRoot%\\inf;D:\\OEM;%SystemRoot%\\Drivers\\VirtIO")
    );
    insta::assert_snapshot!("windows-7", after.script.unwrap());
    let again = guest.run(Some(&device_path));
    assert!(again.changes.is_empty(), "{:?}", again.changes);
    assert!(again.script.is_some());
}

#[test]
fn newer_systems_get_the_new_words_of_pnputil() {
    let after = Guest::new(10, 0, 19045, &net(b"dll")).run(None);
    let script = after.script.unwrap();
    assert!(
        script.contains("/add-driver \"%DRIVERS%\\%~1\" /install"),
        "{script}"
    );
    assert_eq!(
        after.device_path.unwrap(),
        Value::expand("%SystemRoot%\\inf;%SystemRoot%\\Drivers\\VirtIO")
    );
    let after = Guest::new(10, 0, 10586, &net(b"dll")).run(None);
    assert!(after.script.unwrap().contains("pnputil.exe\" -i -a"));
}

#[test]
fn xp_has_no_pnputil() {
    let files = [
        ("netkvm.inf", NET),
        ("netkvm.sys", b"".as_slice()),
        ("netkvm.cat", b"cat"),
        ("wdfcoinstaller01009.dll", b"dll"),
    ];
    let after = Guest::new(5, 1, 2600, &files).run(None);
    let script = after.script.unwrap();
    assert!(!script.contains("pnputil") && script.contains("SuppressNewHWUI /f"));
    assert!(
        after
            .changes
            .iter()
            .any(|path| path.ends_with("SuppressUI"))
    );
}

#[test]
fn files_of_one_name_and_other_content_do_not_meet() {
    let serial = String::from_utf8(NET.to_vec())
        .unwrap()
        .replace("netkvm", "vioser")
        .replace("DEV_1000", "DEV_1003");
    let mut files = net(b"one");
    files.extend([
        ("vioserial/w7/amd64/vioser.inf", serial.as_bytes()),
        ("vioserial/w7/amd64/vioser.sys", b""),
        ("vioserial/w7/amd64/vioser.cat", b"cat"),
        ("vioserial/w7/amd64/WdfCoInstaller01009.dll", b"two"),
    ]);
    let after = Guest::new(6, 1, 7601, &files).run(None);
    let dll = "/WINNT/Drivers/VirtIO/vioser/wdfcoinstaller01009.dll";
    assert!(
        after.changes.iter().any(|path| path == dll),
        "{:?}",
        after.changes
    );
    assert!(
        after
            .script
            .unwrap()
            .contains("call :install \"vioser\\vioser.inf\"")
    );
    let device_path = after.device_path.unwrap().as_text().unwrap();
    assert!(device_path.ends_with(";%SystemRoot%\\Drivers\\VirtIO\\vioser"));
}

#[test]
fn without_drivers_nothing_is_staged() {
    let after = Guest::new(6, 1, 7601, &[]).run(None);
    assert!(after.changes.is_empty() && after.script.is_none());
    assert!(after.warnings.is_empty());
}
