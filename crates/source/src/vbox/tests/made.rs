//! Settings made here, with what the fixtures lack.

use std::fs;
use std::path::Path;

use types::{DiskBus, Display, Firmware, NicModel, NicNetwork};

use crate::error::ErrorKind;
use crate::open::{SourceKind, SourceOptions};
use crate::vbox::{parse, prepare};
use crate::{Prepared, Result, open};

const BASE: &str = "{11111111-1111-1111-1111-111111111111}";
const LEAF: &str = "{22222222-2222-2222-2222-222222222222}";

/// Parts of a settings file that tests exchange.
struct Made {
    version: &'static str,
    machine: &'static str,
    media: String,
    hardware: &'static str,
    controllers: String,
}

impl Made {
    fn new() -> Self {
        Self {
            version: "1.16-windows",
            machine: "",
            media: format!(
                "<HardDisk uuid=\"{BASE}\" location=\"base.img\" format=\"RAW\" type=\"Normal\">\
                 <HardDisk uuid=\"{LEAF}\" location=\"Snapshots/leaf.img\" format=\"RAW\"/></HardDisk>"
            ),
            hardware: "",
            controllers: format!(
                "<StorageController name=\"IDE\" type=\"ICH6\" PortCount=\"2\" Bootable=\"true\">\
                 <AttachedDevice type=\"HardDisk\" port=\"1\" device=\"1\"><Image uuid=\"{LEAF}\"/></AttachedDevice>\
                 <AttachedDevice type=\"HardDisk\" port=\"0\" device=\"0\"><Image uuid=\"{BASE}\"/></AttachedDevice>\
                 </StorageController>"
            ),
        }
    }

    /// Settings below 1.19 have the controllers beside the hardware.
    fn text(&self) -> String {
        format!(
            "<?xml version=\"1.0\"?>\n<VirtualBox xmlns=\"http://www.virtualbox.org/\" version=\"{}\">\
             <Machine uuid=\"{{9ce3fa4e-6778-472b-b841-a734a3d5a142}}\" name=\"made\" OSType=\"Other\" {}>\
             <MediaRegistry><HardDisks>{}</HardDisks><DVDImages/></MediaRegistry>\
             <Hardware><CPU/><Memory RAMSize=\"256\"/>{}</Hardware>\
             <StorageControllers>{}</StorageControllers></Machine></VirtualBox>",
            self.version, self.machine, self.media, self.hardware, self.controllers
        )
    }

    fn write(&self, folder: &Path) {
        fs::create_dir_all(folder.join("Snapshots")).unwrap();
        fs::write(folder.join("made.vbox"), self.text()).unwrap();
        fs::write(folder.join("base.img"), vec![b'b'; 1 << 20]).unwrap();
        fs::write(folder.join("Snapshots/leaf.img"), vec![b'l'; 2 << 20]).unwrap();
    }

    fn prepare(&self) -> Result<Prepared> {
        let dir = tempfile::tempdir().unwrap();
        self.write(dir.path());
        prepare(dir.path(), &SourceOptions::default())
    }
}

#[test]
fn both_channels_of_an_ide_controller_are_controllers() {
    let prepared = Made::new().prepare().unwrap();
    let places: Vec<_> = prepared
        .machine
        .disks
        .iter()
        .map(|disk| (disk.bus, disk.controller, disk.unit))
        .collect();
    assert_eq!(places, [(DiskBus::Ide, 0, 0), (DiskBus::Ide, 1, 1)]);
    assert_eq!(prepared.machine.vcpus, 1);
}

#[test]
fn a_folder_opens_with_disks_in_order() {
    let dir = tempfile::tempdir().unwrap();
    Made::new().write(dir.path());
    fs::write(dir.path().join("made.vbox-prev"), "rubbish").unwrap();
    let kind = SourceKind::Vbox(dir.path().to_owned());
    let opened = open(&kind, &SourceOptions::default()).unwrap();
    let sizes: Vec<u64> = opened
        .machine
        .disks
        .iter()
        .map(|disk| disk.virtual_size)
        .collect();
    assert_eq!(sizes, [1 << 20, 2 << 20]);
}

#[test]
fn hardware_is_read_wherever_it_stands() {
    let made = Made {
        machine: "stateFile=\"Snapshots/x.sav\" aborted=\"true\"",
        hardware: "<Firmware type=\"EFI\"/><BIOS><SecureBoot enabled=\"true\"/>\
                   <TrustedPlatformModule type=\"v2_0\"/></BIOS><Display controller=\"VMSVGA\" VRAMSize=\"16\"/>\
                   <Network><Adapter slot=\"1\" enabled=\"true\" type=\"NE2000\"><NATNetwork name=\"n\"/></Adapter>\
                   <Adapter slot=\"0\" enabled=\"true\" MACAddress=\"080027000001\" type=\"82543GC\">\
                   <DisabledModes><NAT/></DisabledModes><HostOnlyInterface name=\"vboxnet0\"/></Adapter>\
                   <Adapter slot=\"2\" enabled=\"true\" type=\"virtio\"/><Adapter slot=\"3\" enabled=\"false\"/></Network>",
        ..Made::new()
    };
    let prepared = made.prepare().unwrap();
    let machine = prepared.machine;
    assert_eq!(machine.firmware, Some(Firmware::Uefi));
    assert!(machine.secure_boot && machine.tpm && !machine.sound);
    assert_eq!(machine.display, Some(Display::Vnc));
    let nics: Vec<_> = machine
        .nics
        .into_iter()
        .map(|nic| (nic.model.unwrap(), nic.network))
        .collect();
    assert_eq!(
        nics,
        [
            (NicModel::E1000, NicNetwork::Network("vboxnet0".into())),
            (
                NicModel::Other("NE2000".into()),
                NicNetwork::Network("n".into())
            ),
            (NicModel::Virtio, NicNetwork::Network("eth2".into())),
        ]
    );
    assert_eq!(prepared.warnings.len(), 2, "{:?}", prepared.warnings);
    assert!(prepared.warnings[0].contains("saved state"));
    assert!(prepared.warnings[1].contains("aborted"));
}

#[test]
fn controllers_that_do_not_boot_come_last() {
    let controllers = format!(
        "<StorageController name=\"SATA\" type=\"AHCI\" Bootable=\"false\"><AttachedDevice type=\"HardDisk\" port=\"3\" \
         device=\"0\"><Image uuid=\"{BASE}\"/></AttachedDevice></StorageController><StorageController name=\"SCSI\" \
         type=\"LsiLogic\" Bootable=\"true\"><AttachedDevice type=\"HardDisk\" port=\"5\" device=\"0\"><Image \
         uuid=\"{LEAF}\"/></AttachedDevice></StorageController>"
    );
    let made = Made {
        controllers,
        ..Made::new()
    };
    let places: Vec<_> = made
        .prepare()
        .unwrap()
        .machine
        .disks
        .iter()
        .map(|disk| (disk.bus, disk.unit))
        .collect();
    assert_eq!(places, [(DiskBus::Scsi, 5), (DiskBus::Sata, 3)]);
}

#[track_caller]
fn refused(made: &Made, kind: ErrorKind, part: &str) {
    let error = made.prepare().unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    let text = error.to_string();
    assert!(
        text.contains(part) && text.contains("made.vbox: "),
        "`{part}`: {error}"
    );
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    let media = |media: String| Made {
        media,
        ..Made::new()
    };
    let key = "<Property name=\"CRYPT/KeyStore\" value=\"U0NORQ==\"/>";
    let encrypted = media(format!(
        "<HardDisk uuid=\"{BASE}\" location=\"base.img\" format=\"VDI\">{key}<HardDisk uuid=\"{LEAF}\" \
         location=\"Snapshots/leaf.img\" format=\"VDI\"/></HardDisk>"
    ));
    refused(&encrypted, ErrorKind::Unsupported, "encrypted");
    refused(&media(String::new()), ErrorKind::Corrupt, "-i disk");
    let gone = Made::new().media.replace("base.img", "/vms/gone.img");
    refused(&media(gone), ErrorKind::Missing, "--base-dir");
    let twice = Made::new().media.replace(LEAF, BASE);
    refused(&media(twice), ErrorKind::Corrupt, "twice");
    let version = |version| Made {
        version,
        ..Made::new()
    };
    refused(&version("1.8-linux"), ErrorKind::Unsupported, "1.8-linux");
    refused(&version("2.0"), ErrorKind::Unsupported, "2.0");
    assert_eq!(version("1.21-linux").prepare().unwrap().warnings.len(), 1);
    let controllers = Made {
        controllers: "<StorageController name=\"New\" type=\"Quantum\"/>".to_owned(),
        ..Made::new()
    };
    refused(&controllers, ErrorKind::Unsupported, "Quantum");
    let text = Made::new().text();
    let sealed = text
        .replace("<Machine ", "<MachineEncrypted uuid=\"x\"/><!-- ")
        .replace("</Machine>", "-->");
    assert_eq!(parse(&sealed).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(parse("<domain/>").unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn one_of_several_machines_is_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let made = Made::new();
    made.write(&dir.path().join("one"));
    made.write(&dir.path().join("two"));
    let other = made
        .text()
        .replace("name=\"made\"", "name=\"other\"")
        .replace("9ce3fa4e", "00000000");
    fs::write(dir.path().join("two/made.vbox"), other).unwrap();
    let choose = |vm: Option<&str>| {
        let options = SourceOptions {
            vm: vm.map(str::to_owned),
            ..SourceOptions::default()
        };
        prepare(dir.path(), &options).map(|prepared| prepared.machine.name)
    };
    let error = choose(None).unwrap_err().to_string();
    assert!(
        error.contains("`made`") && error.contains("`other`"),
        "{error}"
    );
    assert_eq!(choose(Some("other")).unwrap(), "other");
    assert_eq!(
        choose(Some("9CE3FA4E-6778-472b-b841-a734a3d5a142")).unwrap(),
        "made"
    );
    assert_eq!(choose(Some("none")).unwrap_err().kind(), ErrorKind::Usage);
    assert!(prepare(&dir.path().join("one/Snapshots"), &SourceOptions::default()).is_err());
}

#[test]
fn damaged_settings_neither_panic_nor_hang() {
    let text = Made::new().text().into_bytes();
    let mut seed = 7u64;
    let mut below = |end: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(seed >> 33).unwrap() % end
    };
    let (mut read, mut refused) = (0, 0);
    for _ in 0..6000 {
        let mut mutant = text.clone();
        for _ in 0..=below(2) {
            let at = below(mutant.len());
            mutant[at] = match below(3) {
                0 => b"<>\"/09aF{}-&"[below(12)],
                1 => mutant[at] ^ (1 << below(7)),
                _ => mutant[below(text.len())],
            };
        }
        match parse(&String::from_utf8_lossy(&mutant)) {
            Ok(_) => read += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(
        read > 100 && refused > 100,
        "{read} read, {refused} refused"
    );
}
