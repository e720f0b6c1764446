//! Inventories and wishes, honest and not.

use uefi::device_path::{HardDrive, Signature};
use wire::inventory::{BootEntry, Cpu, Dmi, Firmware as WireFirmware, Removable as WireRemovable};
use wire::session::NetworkWish;

use super::*;

fn found(name: &str, left_out: &str) -> inventory::Disk {
    inventory::Disk {
        name: name.into(),
        virtual_size: 8 << 30,
        logical_sector_size: 512,
        physical_sector_size: 4096,
        serial: format!("SN-{name}"),
        bus: Bus::Sata.into(),
        left_out: left_out.into(),
        ..inventory::Disk::default()
    }
}

fn adapter(name: &str, kernel: &str, mac: &str, driver: &str) -> inventory::Nic {
    inventory::Nic {
        name: name.into(),
        kernel_name: kernel.into(),
        mac: mac.into(),
        driver: driver.into(),
        ..inventory::Nic::default()
    }
}

fn server() -> Inventory {
    Inventory {
        dmi: Some(Dmi {
            system_vendor: "Dell Inc.".into(),
            product_name: "PowerEdge R740".into(),
            product_serial: "7XK2L93".into(),
            product_uuid: "4C4C4544-0058-4B10-8032-B7C04F4C3933".into(),
            board_serial: ".CN123.".into(),
            ..Dmi::default()
        }),
        firmware: Some(WireFirmware {
            uefi: true,
            secure_boot: Some(true),
            boot_entries: vec![],
        }),
        cpu: Some(Cpu {
            logical: 8,
            sockets: 2,
            cores_per_socket: 2,
            threads_per_core: 2,
            ..Cpu::default()
        }),
        memory_bytes: 96 << 30,
        disks: vec![
            found("sda", ""),
            found("sdb", "on USB"),
            found("nvme0n1", ""),
        ],
        nics: vec![
            adapter("eno1", "eth0", "00:11:22:33:44:55", "bnx2x"),
            adapter("enp5s0", "eth1", "00:11:22:33:44:56", "e1000e"),
        ],
        removables: vec![WireRemovable {
            name: "sr0".into(),
            floppy: false,
            bus: Bus::Sata.into(),
        }],
        tpm_version: "2.0".into(),
        numa_nodes: 2,
        ..Inventory::default()
    }
}

#[test]
fn a_server_without_wishes_is_taken_as_it_is() {
    let machine = machine(&server(), &Wish::default());
    insta::assert_snapshot!("server", serde_json::to_string_pretty(&machine).unwrap());
}

#[test]
fn wishes_go_before_the_inventory() {
    let wish = Wish {
        name: "web".into(),
        disks: vec![2, 0, 2, 9],
        interfaces: vec![1],
        networks: vec![
            NetworkWish {
                interface: String::new(),
                network: "other".into(),
            },
            NetworkWish {
                interface: "eth1".into(),
                network: "wired".into(),
            },
        ],
        memory_bytes: (3 << 30) + 4096,
        vcpus: 2,
        physical_topology: true,
        cpu_model: "Nehalem".into(),
        cpu_pae: Some(false),
        clock_basis: "localtime".into(),
        clock_offset_seconds: -60,
        ..Wish::default()
    };
    let machine = machine(&server(), &wish);
    assert_eq!((&*machine.name, machine.vcpus), ("web", 2));
    assert_eq!(machine.topology, None, "8 processors are not 2");
    assert_eq!(machine.memory_bytes, (3 << 30) + 4096);
    let labels: Vec<_> = machine.disks.iter().map(|disk| &*disk.label).collect();
    assert_eq!(labels, ["nvme0n1", "sda"]);
    assert_eq!(chosen_disks(&server(), &wish), [2, 0]);
    assert_eq!(machine.nics.len(), 1);
    assert_eq!(machine.nics[0].source_network, "wired");
    assert_eq!(machine.nics[0].model, Some(NicModel::E1000e));
    assert_eq!(machine.cpu.features, ["acpi", "apic"]);
    let clock = machine.details.clock.unwrap();
    assert_eq!((clock.utc, clock.offset_seconds), (Some(false), -60));
    let kept = Wish {
        physical_topology: true,
        ..Wish::default()
    };
    let topology = super::machine(&server(), &kept).topology.unwrap();
    assert_eq!(
        (topology.sockets, topology.cores, topology.threads),
        (2, 2, 2)
    );
}

#[test]
fn the_boot_menu_comes_in_its_order_without_what_is_off() {
    let mut server = server();
    let entry = |number: u32, active, ordered| BootEntry {
        number,
        active,
        ordered,
        load_option: vec![u8::try_from(number).unwrap(); 40],
        ..BootEntry::default()
    };
    let mut long = entry(9, true, true);
    long.load_option = vec![9; MAX_OPTION + 1];
    let entries = vec![
        entry(3, true, true),
        entry(1, true, true),
        entry(2, false, true),
        long,
        entry(4, true, false),
    ];
    server.firmware.as_mut().unwrap().boot_entries = entries;
    let options = machine(&server, &Wish::default()).details.boot_options;
    assert_eq!(options, [vec![3; 40], vec![1; 40]]);
    let many = vec![entry(1, true, true); 1000];
    server.firmware.as_mut().unwrap().boot_entries = many;
    let options = machine(&server, &Wish::default()).details.boot_options;
    assert_eq!(options.len(), MAX_OPTIONS);
}

/// The way of a boot menu from the agent's inventory to the file of the guest; only the appliance, which finds partitions, is
/// left out.
#[test]
fn the_boot_menu_of_an_inventory_reaches_the_guests_variables() {
    const PARTUUID: &str = "aaaaaaaa-0001-4000-8000-0123456789ab";
    const LOADER: &str = r"\EFI\debian\shimx64.efi";
    let option = |partuuid: &str| {
        let drive = HardDrive {
            number: 1,
            start_blocks: 2048,
            size_blocks: 204_800,
            signature: Signature::of_partuuid(partuuid).unwrap(),
        };
        let option = uefi::LoadOption::new("web server", &drive, LOADER, b"told".to_vec());
        option.unwrap().to_bytes()
    };
    let mut told = server();
    let firmware = told.firmware.as_mut().unwrap();
    firmware.secure_boot = None;
    let entries = [option("0badd15c-01"), option(PARTUUID)].map(|load_option| BootEntry {
        active: true,
        ordered: true,
        load_option,
        ..BootEntry::default()
    });
    firmware.boot_entries = entries.into();
    told.disks.truncate(1);
    told.disks[0].virtual_size = 1 << 20;
    let machine = machine(&told, &Wish::default());
    let storage = types::StorageMap {
        devices: vec![types::BlockDevice {
            name: "/dev/sda1".into(),
            kind: types::DeviceKind::Partition { disk: 0, number: 1 },
            virtual_size: 100 << 20,
            start: Some(1 << 20),
            content: "vfat".into(),
            uuid: None,
            label: None,
            partuuid: Some(PARTUUID.into()),
            partlabel: None,
            parttype: None,
        }],
    };
    let dir = tempfile::tempdir().unwrap();
    let kind = target::TargetKind::Qemu {
        dir: dir.path().to_owned(),
        boot: false,
    };
    let mut target = target::prepare(target::TargetOptions::new(kind, "web")).unwrap();
    let disk = target
        .create_disk(0, machine.disks[0].virtual_size)
        .unwrap();
    disk.finish().unwrap();
    let finished = target::Finished {
        machine: &machine,
        caps: &caps(),
        guest: None,
        boot_options: &convert::boot_options(&machine, &storage, &[]),
    };
    target.finalise(&finished).unwrap();
    let flash = std::fs::read(dir.path().join("web_VARS.fd")).unwrap();
    assert_eq!(uefi::menu::read(&flash).unwrap(), [option(PARTUUID)]);
}

fn caps() -> types::GuestCaps {
    types::GuestCaps {
        block_bus: types::BlockBus::VirtioBlk,
        net_bus: types::NetBus::Virtio,
        virtio_rng: true,
        virtio_balloon: true,
        virtio_serial: true,
        pvpanic: true,
        machine: types::MachineType::Q35,
        arch: types::Arch::X86_64,
        rtc_utc: true,
        boot_disk: None,
        firmware: None,
    }
}

#[test]
fn a_lying_agent_makes_no_impossible_machine() {
    let mut lies = server();
    lies.memory_bytes = u64::MAX;
    lies.cpu = Some(Cpu {
        logical: u32::MAX,
        sockets: u32::MAX,
        cores_per_socket: u32::MAX,
        threads_per_core: 2,
        ..Cpu::default()
    });
    lies.dmi = Some(Dmi {
        product_name: "a\u{0}\u{1b}[2J".repeat(1000),
        product_uuid: "ffffffff-ffff-ffff-ffff-ffffffffffff".into(),
        ..Dmi::default()
    });
    lies.disks[0].logical_sector_size = 3;
    lies.disks[0].physical_sector_size = u32::MAX;
    lies.nics[0].mac = "ff:ff:ff:ff:ff:ff".into();
    lies.nics[0].name = "../../etc".into();
    lies.nics[1].name = "x\" RUN+=\"sh".into();
    let wish = Wish {
        disks: vec![u32::MAX, 0],
        physical_topology: true,
        vcpus: u32::MAX,
        ..Wish::default()
    };
    let machine = machine(&lies, &wish);
    assert_eq!(machine.memory_bytes, 1 << 30);
    assert_eq!((machine.vcpus, machine.topology), (MAX_VCPUS, None));
    assert_eq!(machine.uuid, None);
    assert!(machine.name.len() <= 2 * MAX_TEXT && machine.name.is_ascii());
    assert_eq!(machine.details.sector_sizes, [SectorSizes::default()]);
    assert_eq!(machine.disks.len(), 1);
    assert_eq!(machine.nics[0].mac, None);
    assert!(machine.nics.iter().all(|nic| nic.guest_name.is_none()));
    let nothing = super::machine(&Inventory::default(), &Wish::default());
    assert_eq!((&*nothing.name, nothing.vcpus), ("physical", 1));
}
