//! The machines of the fixture pack `vbox-made`, whose snapshots VirtualBox merged to raw images itself.

use std::path::{Path, PathBuf};

use image::BlockSource;
use types::{DiskBus, Firmware, NicModel, NicNetwork, RemovableKind};

use crate::open::{SourceKind, SourceOptions};
use crate::tests::fixtures::pack;
use crate::vbox::prepare;
use crate::{Prepared, open};

fn machine(pack: &Path, name: &str) -> PathBuf {
    pack.join(format!("home/VirtualBox VMs/{name}/{name}.vbox"))
}

fn options(pack: &Path) -> SourceOptions {
    SourceOptions {
        base_dir: Some(pack.to_owned()),
        ..SourceOptions::default()
    }
}

fn prepared(name: &str) -> Option<Prepared> {
    let pack = pack("vbox-made")?;
    Some(prepare(&machine(&pack, name), &options(&pack)).unwrap())
}

#[test]
fn a_machine_with_snapshots_names_the_newest_images() {
    let Some(prepared) = prepared("lin-bios") else {
        return;
    };
    let machine = &prepared.machine;
    assert_eq!(machine.name, "lin-bios");
    assert_eq!((machine.memory_bytes, machine.vcpus), (1 << 30, 2));
    assert_eq!(machine.firmware, Some(Firmware::Bios));
    assert_eq!(machine.os_hint.as_deref(), Some("Debian_64"));
    assert_eq!(
        machine.uuid.as_deref(),
        Some("9ce3fa4e-6778-472b-b841-a734a3d5a142")
    );
    assert!(machine.sound && !machine.tpm);
    let disks: Vec<_> = machine
        .disks
        .iter()
        .map(|disk| {
            let name = disk.label.rsplit('/').next().unwrap();
            (disk.bus, disk.controller, disk.unit, name)
        })
        .collect();
    assert_eq!(
        disks,
        [
            (
                DiskBus::Sata,
                0,
                0,
                "{4664ba10-e748-4b86-b40c-92a5fb1fdff2}.vdi"
            ),
            (
                DiskBus::Sata,
                0,
                1,
                "{51d36d73-76c8-4123-a07a-6f59e6c324c0}.vmdk"
            ),
        ]
    );
    let drives: Vec<_> = machine
        .removables
        .iter()
        .map(|drive| (drive.kind, drive.bus))
        .collect();
    assert_eq!(
        drives,
        [
            (RemovableKind::Cdrom, DiskBus::Ide),
            (RemovableKind::Floppy, DiskBus::Unknown)
        ]
    );
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
                "08:00:27:ef:d0:e7".to_owned(),
                NicModel::Virtio,
                NicNetwork::Network("default".into())
            ),
            (
                "08:00:27:0a:0b:0c".to_owned(),
                NicModel::E1000,
                NicNetwork::Network("lab".into())
            ),
            (
                "08:00:27:ff:c5:b2".to_owned(),
                NicModel::Pcnet,
                NicNetwork::Bridge("eth0".into())
            ),
        ]
    );
    assert_eq!(prepared.warnings, Vec::<String>::new());
}

#[test]
fn an_efi_machine_has_its_controllers_and_its_tpm() {
    let Some(pack) = pack("vbox-made") else {
        return;
    };
    let prepared = prepare(&machine(&pack, "win11-efi"), &options(&pack));
    // The third disk of 100 MiB is not in the pack.
    assert!(prepared.unwrap_err().to_string().contains("win-e.vdi"));
    let text = std::fs::read_to_string(machine(&pack, "win11-efi")).unwrap();
    let settings = crate::vbox::parse(&text).unwrap();
    let flash = std::fs::read(machine(&pack, "win11-efi").with_extension("nvram")).unwrap();
    assert!(crate::vbox::read_flash(&flash).unwrap().secure_boot);
    let machine = &settings.machine;
    assert_eq!(machine.firmware, Some(Firmware::Uefi));
    assert!(machine.tpm);
    assert_eq!(machine.vcpus, 4);
    let buses: Vec<_> = machine.disks.iter().map(|disk| disk.bus).collect();
    assert_eq!(buses, [DiskBus::Nvme, DiskBus::Scsi, DiskBus::VirtioScsi]);
    assert!(machine.disks[0].label.ends_with("win-c.vdi"));
}

#[test]
fn an_old_machine_is_understood() {
    let Some(prepared) = prepared("winxp") else {
        return;
    };
    let buses: Vec<_> = prepared
        .machine
        .disks
        .iter()
        .map(|disk| (disk.bus, disk.controller, disk.unit))
        .collect();
    assert_eq!(buses, [(DiskBus::Ide, 0, 0), (DiskBus::Scsi, 0, 0)]);
    assert_eq!(prepared.machine.nics[0].model, Some(NicModel::Pcnet));
}

fn same(disk: &dyn BlockSource, raw: &Path) {
    let want = image::FileRange::open(raw).unwrap();
    assert_eq!(disk.virtual_size(), want.len());
    let mut offset = 0;
    while offset < want.len() {
        let len = usize::try_from((want.len() - offset).min(1 << 20)).unwrap();
        let mut found = vec![0; len];
        disk.read_at(&mut found, offset).unwrap();
        assert!(
            found == want.read_vec(offset, len).unwrap(),
            "{} differs in the MiB at {offset:#x}",
            raw.display()
        );
        offset += len as u64;
    }
}

#[test]
fn chains_of_snapshots_read_as_virtualbox_merged_them() {
    let Some(pack) = pack("vbox-made") else {
        return;
    };
    let opened = open(
        &SourceKind::Vbox(machine(&pack, "lin-bios")),
        &options(&pack),
    )
    .unwrap();
    same(
        opened.disks[0].as_ref(),
        &pack.join("img/diff-sata0-merged.raw"),
    );
    same(
        opened.disks[1].as_ref(),
        &pack.join("img/diff-sata1-merged.raw"),
    );
}
