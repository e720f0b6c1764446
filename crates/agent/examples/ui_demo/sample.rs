//! A machine that does not exist, for the demonstration and the tests of the screens.

use std::collections::VecDeque;
use std::sync::Arc;

use wire::inventory::{
    Bus, Content, Cpu, Disk, DiskKind, Dmi, Firmware, Inventory, Nic, OsGuess, Removable,
};

use super::{InterfaceView, NetworkView, Phase, View};

/// A server with two disks and a stick, three interfaces, a CD drive.
pub(crate) fn inventory() -> Inventory {
    Inventory {
        dmi: Some(Dmi {
            system_vendor: "Dell Inc.".into(),
            product_name: "PowerEdge R630".into(),
            product_serial: "7XK2P52".into(),
            ..Dmi::default()
        }),
        firmware: Some(Firmware {
            uefi: true,
            ..Firmware::default()
        }),
        cpu: Some(Cpu {
            vendor: "GenuineIntel".into(),
            model_name: "Intel Xeon E5-2630 v4".into(),
            logical: 40,
            sockets: 2,
            cores_per_socket: 10,
            threads_per_core: 2,
            flags: Vec::new(),
        }),
        memory_bytes: 64 << 30,
        disks: vec![
            Disk {
                model: "MZ7LH960HAJR".into(),
                healthy: Some(true),
                health: "0 reallocated, 97 % life left".into(),
                ..disk(
                    "sda",
                    960_197_124_096,
                    &["gpt", "vfat", "ext4", "LVM2_member"],
                )
            },
            Disk {
                model: "ST4000NM0035".into(),
                serial: "ZC1AAAAA".into(),
                healthy: Some(false),
                health: "1872 reallocated, 16 pending".into(),
                ..disk("sdb", 4_000_787_030_016, &["gpt", "xfs"])
            },
            Disk {
                model: "Ultra Fit".into(),
                serial: "4C530001".into(),
                bus: Bus::Usb.into(),
                removable: true,
                left_out: "removable".into(),
                ..disk("sdc", 30_752_636_928, &["iso9660"])
            },
        ],
        nics: vec![
            nic("eno1", "eth0", "ec:f4:bb:00:11:22", 1000),
            nic("eno2", "eth1", "ec:f4:bb:00:11:23", 0),
            nic("enp4s0f0", "eth2", "a0:36:9f:00:11:22", 10_000),
        ],
        removables: vec![Removable {
            name: "sr0".into(),
            floppy: false,
            bus: Bus::Sata.into(),
        }],
        os_guesses: vec![OsGuess {
            device: "vg0/root".into(),
            product_name: "Debian GNU/Linux 12 (bookworm)".into(),
        }],
        concerns: vec!["sdb: its SMART verdict is failing; copy it soon".into()],
        ..Inventory::default()
    }
}

fn disk(name: &str, virtual_size: u64, contents: &[&str]) -> Disk {
    Disk {
        name: name.into(),
        kind: DiskKind::Plain.into(),
        virtual_size,
        logical_sector_size: 512,
        physical_sector_size: 4096,
        vendor: "ATA".into(),
        serial: "S45NNE0M".into(),
        bus: Bus::Sata.into(),
        contents: contents
            .iter()
            .map(|content| Content {
                content: (*content).into(),
                ..Content::default()
            })
            .collect(),
        ..Disk::default()
    }
}

fn nic(name: &str, kernel_name: &str, mac: &str, speed_mbits: u32) -> Nic {
    Nic {
        name: name.into(),
        kernel_name: kernel_name.into(),
        mac: mac.into(),
        link: speed_mbits > 0,
        speed_mbits,
        driver: "ixgbe".into(),
        model: "82599ES".into(),
        ..Nic::default()
    }
}

/// That machine, set up so far that its screens can be used.
pub(crate) fn view() -> View {
    let interface = |name: &str, link, addresses: &[&str]| InterfaceView {
        name: name.into(),
        link,
        addresses: addresses.iter().map(|a| (*a).into()).collect(),
    };
    View {
        phase: Phase::Setup,
        inventory: Some(Arc::new(inventory())),
        network: NetworkView {
            interfaces: vec![
                interface("eth0", true, &["192.0.2.23/24", "2001:db8::23/64"]),
                interface("eth1", false, &[]),
                interface("eth2", true, &[]),
            ],
            busy: false,
            error: None,
        },
        log: Arc::new(VecDeque::from([
            "eth0: 192.0.2.23/24 by DHCP".to_owned(),
            "found 3 disks, 3 interfaces".to_owned(),
        ])),
        ..View::default()
    }
}
