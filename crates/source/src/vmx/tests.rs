//! Whole machines by their `.vmx`: in memory, in folders, damaged.

use std::path::Path;

use types::{CpuTopology, DiskBus, Firmware, NicModel, NicNetwork, RemovableKind};

use super::*;
use crate::{SourceKind, open as open_source};

const FULL: &str = r#".encoding = "UTF-8"
displayName = "My VM |22q|22"
guestOS = "debian12-64"
memSize = "1024"
numvcpus = "4"
cpuid.coresPerSocket = "2"
firmware = "efi"
uefi.secureBoot.enabled = "TRUE"
vtpm.present = "TRUE"
uuid.bios = "56 4d 2b a1 7a c2 4c 1e-8b 8e 4f 1a b1 0c a9 d2"
vm.genid = "-8536691797830587195"
vm.genidX = "-1723453263670062919"
sound.present = "TRUE"
sound.virtualDev = "hdaudio"
nvme0.present = "TRUE"
nvme0:0.present = "TRUE"
nvme0:0.fileName = "n.vmdk"
scsi0.present = "TRUE"
scsi0:10.present = "TRUE"
scsi0:10.fileName = "b.vmdk"
scsi0:10.sharing = "multi-writer"
scsi0:2.present = "TRUE"
scsi0:2.fileName = "a.vmdk"
scsi0:3.present = "FALSE"
scsi0:3.fileName = "gone.vmdk"
scsi1.present = "FALSE"
scsi1:0.present = "TRUE"
scsi1:0.fileName = "off.vmdk"
sata0:1.present = "TRUE"
sata0:1.fileName = "s.vmdk"
sata0:0.present = "TRUE"
sata0:0.deviceType = "cdrom-image"
sata0:0.fileName = "x.iso"
ide1:0.present = "TRUE"
ide1:0.deviceType = "atapi-cdrom"
ide0:0.present = "TRUE"
ide0:0.fileName = "i.vmdk"
scsi0:5.present = "TRUE"
scsi0:5.deviceType = "scsi-passthru"
floppy0.present = "TRUE"
ethernet0.present = "TRUE"
ethernet0.virtualDev = "vmxnet3"
ethernet0.networkName = "VM Network"
ethernet0.addressType = "vpx"
ethernet0.generatedAddress = "00:50:56:aa:bb:cc"
ethernet1.present = "TRUE"
ethernet1.connectionType = "bridged"
ethernet1.addressType = "static"
ethernet1.address = "00:50:56:00:00:01"
ethernet1.generatedAddress = "00:0c:29:00:00:01"
ethernet2.present = "TRUE"
ethernet2.generatedAddress = "ff:ff:ff:ff:ff:ff"
ethernet3.virtualDev = "e1000"
"#;

#[test]
fn everything_that_a_vmx_states_is_understood() {
    let (machine, warnings) = parse_vmx(FULL.as_bytes()).unwrap();
    assert_eq!(machine.name, "My VM \"q\"");
    assert_eq!((machine.memory_bytes, machine.vcpus), (1 << 30, 4));
    let topology = CpuTopology {
        sockets: 2,
        cores: 2,
        threads: 1,
    };
    assert_eq!(machine.topology, Some(topology));
    assert_eq!(machine.firmware, Some(Firmware::Uefi));
    assert!(machine.secure_boot && machine.tpm && machine.sound);
    assert_eq!(
        machine.uuid.as_deref(),
        Some("564d2ba1-7ac2-4c1e-8b8e-4f1ab10ca9d2")
    );
    assert_eq!(machine.os_hint.as_deref(), Some("debian12-64"));

    let disks: Vec<_> = machine
        .disks
        .iter()
        .map(|disk| (disk.label.as_str(), disk.bus, disk.controller, disk.unit))
        .collect();
    let want = [
        ("a.vmdk", DiskBus::Scsi, 0, 2),
        ("b.vmdk", DiskBus::Scsi, 0, 10),
        ("n.vmdk", DiskBus::Nvme, 0, 0),
        ("s.vmdk", DiskBus::Sata, 0, 1),
        ("i.vmdk", DiskBus::Ide, 0, 0),
    ];
    assert_eq!(disks, want);
    let drives: Vec<_> = machine
        .removables
        .iter()
        .map(|drive| (drive.kind, drive.bus, drive.slot))
        .collect();
    let want = [
        (RemovableKind::Cdrom, DiskBus::Sata, Some(0)),
        (RemovableKind::Cdrom, DiskBus::Ide, Some(2)),
        (RemovableKind::Floppy, DiskBus::Unknown, Some(0)),
    ];
    assert_eq!(drives, want);

    let macs: Vec<_> = machine
        .nics
        .iter()
        .map(|nic| nic.mac.map(|mac| mac.to_string()))
        .collect();
    let want = ["00:50:56:aa:bb:cc", "00:50:56:00:00:01"].map(|mac| Some(mac.to_owned()));
    assert_eq!(macs[..2], want);
    assert_eq!((macs.len(), &macs[2]), (3, &None));
    assert_eq!(machine.nics[0].model, Some(NicModel::Vmxnet3));
    assert_eq!(
        machine.nics[1].network,
        NicNetwork::Bridge("ethernet1".to_owned())
    );
    for word in ["scsi1:0", "shared", "scsi-passthru", "ff:ff:ff"] {
        assert!(
            warnings.iter().any(|warning| warning.contains(word)),
            "{word}: {warnings:?}"
        );
    }
    assert_eq!(warnings.len(), 4, "{warnings:?}");
}

#[test]
fn what_cannot_be_converted_is_refused_by_name() {
    let disk = "scsi0:0.present = \"TRUE\"\nscsi0:0.fileName = \"a.vmdk\"\n";
    for (text, word) in [
        ("displayName = \"x\"\n".to_owned(), "hard disk"),
        (
            format!("{disk}scsi0:0.deviceType = \"rawDisk\"\n"),
            "physical disk",
        ),
        (format!("{disk}scsi0:0.redo = \"a.REDO\"\n"), "REDO"),
        (format!("{disk}memsize = \"many\"\n"), "memsize"),
        (
            format!("{disk}memsize = \"99999999999999999\"\n"),
            "more than",
        ),
        (format!("{disk}numvcpus = \"100000\"\n"), "at most 8192"),
    ] {
        let error = parse_vmx(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(word), "{text}: {error}");
    }
}

fn folder(vmx: &str, disks: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("vm")).unwrap();
    std::fs::write(dir.path().join("vm/vm.vmx"), vmx).unwrap();
    for name in disks {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, name.repeat(4096).get(..4096).unwrap()).unwrap();
    }
    dir
}

fn disk_line(device: &str, file: &str) -> String {
    format!("{device}.present = \"TRUE\"\n{device}.fileName = \"{file}\"\n")
}

fn labels(path: &Path, options: &SourceOptions) -> Result<Vec<String>> {
    let kind = SourceKind::Vmx(VmxPlace::File(path.to_owned()));
    let options = SourceOptions {
        format: Some(image::formats::Format::Raw),
        ..options.clone()
    };
    let opened = open_source(&kind, &options)?;
    Ok(opened.machine.disks.into_iter().map(|d| d.label).collect())
}

#[test]
fn a_disk_is_found_beside_the_vmx_whatever_path_the_old_host_had() {
    let vmx = disk_line("scsi0:0", "/vmfs/volumes/ds1/vm/a.vmdk")
        + &disk_line("scsi0:1", r"C:\VMs\b.vmdk")
        + &disk_line("scsi0:2", "c.vmdk");
    let dir = folder(&vmx, &["vm/a.vmdk", "vm/b.vmdk", "vm/c.vmdk"]);
    let options = SourceOptions::default();
    for path in [dir.path().join("vm"), dir.path().join("vm/vm.vmx")] {
        let found = labels(&path, &options).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|label| label.rsplit('/').next().unwrap())
            .collect();
        assert_eq!(names, ["a.vmdk", "b.vmdk", "c.vmdk"]);
    }
}

#[test]
fn disks_of_other_folders_need_the_base_directory() {
    let vmx = disk_line("scsi0:0", "vm.vmdk")
        + &disk_line("scsi0:1", "/vmfs/volumes/ds2/vm/vm.vmdk")
        + &disk_line("scsi0:2", "../other/x.vmdk");
    let dir = folder(&vmx, &["vm/vm.vmdk", "ds2/vm/vm.vmdk", "other/x.vmdk"]);
    let path = dir.path().join("vm/vm.vmx");
    // Both datastores had a vm.vmdk: the one beside the .vmx must not be taken for both.
    let error = labels(&path, &SourceOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Missing);
    assert!(error.to_string().contains("--base-dir"), "{error}");
    let options = SourceOptions {
        base_dir: Some(dir.path().to_owned()),
        ..SourceOptions::default()
    };
    let found = labels(&path, &options).unwrap();
    for (label, end) in found
        .iter()
        .zip(["vm/vm.vmdk", "ds2/vm/vm.vmdk", "other/x.vmdk"])
    {
        assert!(label.ends_with(end), "{label}");
    }
}

#[test]
fn an_absent_disk_and_an_ambiguous_folder_are_named() {
    let dir = folder(&disk_line("sata0:0", "gone.vmdk"), &[]);
    let error = labels(&dir.path().join("vm"), &SourceOptions::default()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("sata0:0") && text.contains("gone.vmdk"),
        "{text}"
    );
    std::fs::write(dir.path().join("vm/two.vmx"), "a = \"b\"").unwrap();
    let error = labels(&dir.path().join("vm"), &SourceOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
}

/// Thousands of damaged configurations: an answer or a refusal, at once.
#[test]
fn damaged_text_is_survived() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let mut answered = 0;
    for _ in 0..4000 {
        let mut bytes = FULL.as_bytes().to_vec();
        for _ in 0..=random(8) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = b"\"|=\n#.:\0\xff9"[random(10)],
                1 => bytes.truncate(at + 1),
                2 => {
                    let copy = bytes[at..(at + random(200)).min(bytes.len())].to_vec();
                    bytes.splice(at..at, copy);
                }
                _ => drop(bytes.drain(at..(at + random(20)).min(bytes.len()))),
            }
            if bytes.is_empty() {
                break;
            }
        }
        answered += usize::from(parse_vmx(&bytes).is_ok());
    }
    assert!(answered > 1000, "only {answered} were understood");
}
