//! Whole folders: which machine, which files.

use std::fs;
use std::path::{Path, PathBuf};

use types::{DiskBus, Firmware, Hypervisor, NicModel, NicNetwork, RemovableKind};

use super::builder::{Layout, vmcx};
use super::sample::{self, Item, Keys};
use crate::error::ErrorKind;
use crate::hyperv::prepare;
use crate::open::{SourceKind, SourceOptions};
use crate::{Prepared, open};

fn put(root: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

fn first_bytes(prepared: &Prepared) -> String {
    let first = |disk: &crate::PreparedDisk| char::from(disk.range.read_vec(0, 1).unwrap()[0]);
    prepared.disks.iter().map(first).collect()
}

/// An export of generation 1, as 2012 R2 lays it out.
fn export_1(root: &Path) -> PathBuf {
    put(root, "Virtual Hard Disks/web.vhd", b"a");
    put(root, "Virtual Hard Disks/web-data.vhd", b"b");
    let file = format!("Virtual Machines/{}.XML", sample::ID);
    put(root, &file, &sample::xml_utf16(&sample::generation_1()))
}

/// An export of generation 2, as 2019 lays it out, with a checkpoint.
fn export_2(root: &Path) -> PathBuf {
    put(
        root,
        "Virtual Hard Disks/db_7D3B0A1C-2E0B-4D0A-9A54-1B9D5E2F3C4D.avhdx",
        b"a",
    );
    put(root, "Virtual Hard Disks/db.vhdx", b"p");
    put(root, "Virtual Hard Disks/DB-Data.vhdx", b"b");
    put(root, "Virtual Hard Disks/log.vhdx", b"c");
    let mut checkpoint = sample::generation_2();
    checkpoint.retain(|(path, _)| path != "properties/type_id");
    checkpoint.push(("properties/type_id".into(), Item::Text("Snapshots".into())));
    let snapshot = vmcx(&checkpoint, &Layout::default());
    put(
        root,
        "Snapshots/7D3B0A1C-2E0B-4D0A-9A54-1B9D5E2F3C4D.vmcx",
        &snapshot,
    );
    put(root, "Virtual Machines/x.vmrs", b"state");
    let file = format!("Virtual Machines/{}.vmcx", sample::ID);
    put(
        root,
        &file,
        &vmcx(&sample::generation_2(), &Layout::default()),
    )
}

#[test]
fn a_machine_of_generation_1_is_understood() {
    let dir = tempfile::tempdir().unwrap();
    let file = export_1(dir.path());
    for path in [dir.path(), &file] {
        let prepared = prepare(path, &SourceOptions::default()).unwrap();
        assert_eq!(first_bytes(&prepared), "ab");
        assert_eq!(prepared.warnings, Vec::<String>::new());
        let machine = prepared.machine;
        assert_eq!(
            (machine.name.as_str(), machine.hypervisor),
            ("web", Hypervisor::HyperV)
        );
        assert_eq!((machine.memory_bytes, machine.vcpus), (1 << 30, 2));
        assert_eq!(machine.firmware, Some(Firmware::Bios));
        assert!(!machine.secure_boot && !machine.tpm);
        assert_eq!(
            machine.uuid.as_deref(),
            Some("7ffee066-9755-4950-9a16-4c94ac67ad00")
        );
        assert_eq!(
            machine.genid.as_deref(),
            Some("fd66d691-7bb7-cdbf-9a90-6875a3cf499b")
        );
        let places: Vec<_> = machine
            .disks
            .iter()
            .map(|disk| (disk.bus, disk.controller, disk.unit))
            .collect();
        assert_eq!(places, [(DiskBus::Ide, 0, 0), (DiskBus::Ide, 0, 1)]);
        assert!(
            machine.disks[0]
                .label
                .ends_with("Virtual Hard Disks/web.vhd"),
            "{}",
            machine.disks[0].label
        );
        let kinds: Vec<_> = machine.removables.iter().map(|drive| drive.kind).collect();
        assert_eq!(kinds, [RemovableKind::Cdrom, RemovableKind::Floppy]);
        let nics: Vec<_> = machine
            .nics
            .iter()
            .map(|nic| {
                (
                    nic.mac.unwrap().to_string(),
                    nic.model.clone().unwrap(),
                    nic.network.clone(),
                )
            })
            .collect();
        assert_eq!(
            nics,
            [
                (
                    "00:15:5d:01:07:dc".to_owned(),
                    NicModel::Other("netvsc".into()),
                    NicNetwork::Bridge("Virtual External Switch".into())
                ),
                (
                    "00:15:5d:01:07:dd".to_owned(),
                    NicModel::Other("tulip".into()),
                    NicNetwork::Network("eth1".into())
                ),
            ]
        );
    }
}

#[test]
fn a_machine_of_generation_2_is_read_from_its_vmcx() {
    let dir = tempfile::tempdir().unwrap();
    let file = export_2(dir.path());
    for path in [dir.path(), &file] {
        let prepared = prepare(path, &SourceOptions::default()).unwrap();
        assert_eq!(first_bytes(&prepared), "abc");
        let machine = &prepared.machine;
        assert_eq!(machine.firmware, Some(Firmware::Uefi));
        assert!(machine.secure_boot && machine.tpm);
        let places: Vec<_> = machine
            .disks
            .iter()
            .map(|disk| (disk.bus, disk.controller, disk.unit))
            .collect();
        assert_eq!(
            places,
            [
                (DiskBus::Scsi, 0, 0),
                (DiskBus::Scsi, 0, 1),
                (DiskBus::Scsi, 1, 0)
            ]
        );
        assert_eq!(machine.removables.len(), 1);
        assert_eq!(prepared.warnings.len(), 1, "{:?}", prepared.warnings);
        assert!(prepared.warnings[0].contains("dynamic memory"));
    }
}

#[test]
fn the_disks_are_opened_by_content() {
    let dir = tempfile::tempdir().unwrap();
    export_1(dir.path());
    fs::write(
        dir.path().join("Virtual Hard Disks/web.vhd"),
        vec![1; 1 << 20],
    )
    .unwrap();
    fs::write(
        dir.path().join("Virtual Hard Disks/web-data.vhd"),
        vec![2; 2 << 20],
    )
    .unwrap();
    let kind = SourceKind::HyperV(dir.path().to_owned());
    let opened = open(&kind, &SourceOptions::default()).unwrap();
    let sizes: Vec<u64> = opened
        .machine
        .disks
        .iter()
        .map(|disk| disk.virtual_size)
        .collect();
    assert_eq!(sizes, [1 << 20, 2 << 20]);
    insta::assert_snapshot!(crate::describe(&opened));
}

#[test]
fn one_of_several_machines_is_chosen_by_name_or_guid() {
    let dir = tempfile::tempdir().unwrap();
    export_1(&dir.path().join("one"));
    let other = "11111111-2222-3333-4444-555555555555";
    let keys = sample::with(
        sample::generation_2(),
        "properties/global_id",
        Item::Text(other.into()),
    );
    let file = export_2(&dir.path().join("two"));
    fs::write(&file, vmcx(&keys, &Layout::default())).unwrap();
    put(dir.path(), "notes.xml", b"<notes/>");
    let choose = |vm: Option<&str>| {
        let options = SourceOptions {
            vm: vm.map(str::to_owned),
            ..SourceOptions::default()
        };
        prepare(dir.path(), &options).map(|prepared| prepared.machine.name)
    };
    let error = choose(None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    for part in ["`web`", "`db`", other, "--vm"] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    assert_eq!(choose(Some("WEB")).unwrap(), "web");
    assert_eq!(
        choose(Some(&format!("{{{}}}", other.to_uppercase()))).unwrap(),
        "db"
    );
    assert_eq!(choose(Some("none")).unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn the_xml_beside_a_vmcx_is_the_same_machine() {
    let dir = tempfile::tempdir().unwrap();
    export_2(dir.path());
    let mut keys = sample::generation_2();
    keys.retain(|(path, _)| path != "properties/global_id");
    put(
        dir.path(),
        "Virtual Machines/box.xml",
        sample::xml(&keys).as_bytes(),
    );
    assert!(
        prepare(dir.path(), &SourceOptions::default())
            .unwrap()
            .machine
            .tpm
    );
}

#[track_caller]
fn refused(keys: &Keys, kind: ErrorKind, part: &str) {
    let dir = tempfile::tempdir().unwrap();
    let file = export_1(dir.path());
    fs::write(&file, sample::xml_utf16(keys)).unwrap();
    let error = prepare(dir.path(), &SourceOptions::default()).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    let text = error.to_string();
    assert!(
        text.contains(part) && text.contains(".XML"),
        "`{part}`: {error}"
    );
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    let path = "_83f8638b-8dca-4152-9eda-2ca8b33039b4_/controller0/drive1";
    let drive = |kind: &str, name: &str| {
        let keys = sample::with(
            sample::generation_1(),
            &format!("{path}/type"),
            Item::Text(kind.into()),
        );
        sample::with(keys, &format!("{path}/pathname"), Item::Text(name.into()))
    };
    refused(
        &drive("VHD", r"C:\gone.vhd"),
        ErrorKind::Missing,
        "missing disk",
    );
    refused(
        &drive("VHD", r"C:\shared.vhds"),
        ErrorKind::Unsupported,
        "VHD set",
    );
    refused(
        &drive("PHYSICAL", r"\\.\PHYSICALDRIVE2"),
        ErrorKind::Unsupported,
        "passed through",
    );
    let other = |path, item| sample::with(sample::generation_1(), path, item);
    refused(
        &other("properties/subtype", Item::Integer(2)),
        ErrorKind::Unsupported,
        "generation",
    );
    refused(
        &other("settings/processors/count", Item::Integer(0)),
        ErrorKind::Limit,
        "virtual CPUs",
    );
    refused(
        &other("settings/memory/bank/size", Item::Text("much".into())),
        ErrorKind::Corrupt,
        "`much`",
    );
    let mut twice = sample::generation_1();
    twice.push(("Properties/name".into(), Item::Text("b".into())));
    refused(&twice, ErrorKind::Corrupt, "found several");
}

#[test]
fn a_folder_without_a_machine_and_another_file_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = put(dir.path(), "x.xml", b"<domain/>");
    let options = SourceOptions::default();
    assert_eq!(
        prepare(dir.path(), &options).unwrap_err().kind(),
        ErrorKind::Missing
    );
    assert_eq!(
        prepare(&file, &options).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
    assert_eq!(
        prepare(&dir.path().join("absent"), &options)
            .unwrap_err()
            .kind(),
        ErrorKind::Missing
    );
}

#[test]
fn disks_outside_are_found_with_a_base_directory() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("machines/web");
    export_1(&home);
    fs::rename(
        home.join("Virtual Hard Disks/web-data.vhd"),
        dir.path().join("web-data.vhd"),
    )
    .unwrap();
    let mut options = SourceOptions::default();
    assert_eq!(
        prepare(&home, &options).unwrap_err().kind(),
        ErrorKind::Missing
    );
    options.base_dir = Some(dir.path().to_owned());
    assert_eq!(first_bytes(&prepare(&home, &options).unwrap()), "ab");
}
