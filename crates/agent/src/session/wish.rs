//! What was decided, in the terms of what was found.

use wire::inventory::Inventory;
use wire::session::{NetworkWish, OutputOption, Wish};

use crate::config::Config;

/// Fails, for people, where something is named that is not there.
pub fn wish(config: &Config, inventory: &Inventory) -> Result<Wish, String> {
    let disks = match &config.disks {
        None => places(inventory.disks.iter().map(|disk| disk.left_out.is_empty())),
        Some(names) => named(names, "disk", &inventory.disks, |disk, name| {
            let name = name.strip_prefix("/dev/").unwrap_or(name);
            let bare = disk.name.replace('!', "/");
            disk.name == name || bare == name || same(&disk.serial, name) || same(&disk.wwid, name)
        })?,
    };
    if disks.is_empty() {
        return Err("no disk is chosen".to_owned());
    }
    let removables = match &config.removables {
        None => places(inventory.removables.iter().map(|_| true)),
        Some(names) => named(
            names,
            "removable drive",
            &inventory.removables,
            |drive, name| drive.name == name,
        )?,
    };
    let interfaces = match &config.interfaces {
        None => places(inventory.nics.iter().map(|_| true)),
        Some(names) => named(names, "interface", &inventory.nics, |nic, name| {
            nic.name == name
                || nic.kernel_name == name
                || nic.mac.eq_ignore_ascii_case(name)
                || nic.alternative_names.iter().any(|other| other == name)
        })?,
    };
    Ok(Wish {
        name: config.name.clone().unwrap_or_default(),
        disks,
        removables,
        interfaces,
        networks: config
            .networks
            .iter()
            .map(|map| NetworkWish {
                interface: map.interface.clone().unwrap_or_default(),
                network: map.network.clone(),
            })
            .collect(),
        memory_bytes: config.memory_bytes.unwrap_or(0),
        vcpus: config.vcpus.unwrap_or(0),
        physical_topology: config.physical_topology,
        cpu_vendor: config.cpu.vendor.clone().unwrap_or_default(),
        cpu_model: config.cpu.model.clone().unwrap_or_default(),
        cpu_acpi: config.cpu.acpi,
        cpu_apic: config.cpu.apic,
        cpu_pae: config.cpu.pae,
        output: config
            .output
            .iter()
            .map(|(name, value)| OutputOption {
                name: name.clone(),
                value: value.clone(),
            })
            .collect(),
        resync: config.resync,
        clock_basis: config.rtc.basis.clone().unwrap_or_default(),
        clock_offset_seconds: config.rtc.offset_seconds.unwrap_or(0),
    })
}

/// Name of the machine, for people: as given, else vendor, product and serial.
pub fn label(config: &Config, inventory: &Inventory) -> String {
    if let Some(name) = &config.name {
        return name.clone();
    }
    let dmi = inventory.dmi.clone().unwrap_or_default();
    let parts = [dmi.system_vendor, dmi.product_name, dmi.product_serial];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        "unnamed machine".to_owned()
    } else {
        parts.join(" ")
    }
}

fn same(found: &str, name: &str) -> bool {
    !found.is_empty() && found == name
}

fn places(taken: impl Iterator<Item = bool>) -> Vec<u32> {
    taken
        .zip(0..)
        .filter(|(taken, _)| *taken)
        .map(|(_, place)| place)
        .collect()
}

/// Places of what was named, in the order of the names.
fn named<T>(
    names: &[String],
    what: &str,
    found: &[T],
    is: impl Fn(&T, &str) -> bool,
) -> Result<Vec<u32>, String> {
    let mut places = Vec::new();
    for name in names {
        let place = found.iter().zip(0u32..).find(|(item, _)| is(item, name));
        let (_, place) = place.ok_or_else(|| format!("this machine has no {what} {name}"))?;
        if !places.contains(&place) {
            places.push(place);
        }
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use wire::inventory::{Disk, Nic};

    use super::*;

    fn inventory() -> Inventory {
        let disk = |name: &str, left_out: &str| Disk {
            name: name.to_owned(),
            left_out: left_out.to_owned(),
            ..Disk::default()
        };
        let nic = Nic {
            name: "eno1".into(),
            kernel_name: "eth0".into(),
            mac: "52:54:00:00:00:01".into(),
            ..Nic::default()
        };
        Inventory {
            disks: vec![
                disk("sda", ""),
                disk("sdb", "removable"),
                disk("cciss!c0d0", ""),
            ],
            nics: vec![nic],
            ..Inventory::default()
        }
    }

    #[test]
    fn names_become_places() {
        let ask = |text: &str| wish(&Config::parse(text), &inventory());
        assert_eq!(ask("").unwrap().disks, [0, 2]);
        assert_eq!(
            ask("p2v.disks=cciss/c0d0,/dev/sdb,sdb").unwrap().disks,
            [2, 1]
        );
        assert_eq!(
            ask("p2v.interfaces=52:54:00:00:00:01").unwrap().interfaces,
            [0]
        );
        assert_eq!(ask("p2v.interfaces=").unwrap().interfaces, [0; 0]);
        assert_eq!(
            ask("p2v.disks=sdz").unwrap_err(),
            "this machine has no disk sdz"
        );
        assert!(wish(&Config::default(), &Inventory::default()).is_err());
    }

    #[test]
    fn a_machine_without_a_name_is_called_after_its_maker() {
        let mut inventory = inventory();
        assert_eq!(label(&Config::default(), &inventory), "unnamed machine");
        let dmi = inventory.dmi.get_or_insert_default();
        dmi.system_vendor = "Dell Inc.".into();
        dmi.product_serial = "ABC".into();
        assert_eq!(label(&Config::default(), &inventory), "Dell Inc. ABC");
        assert_eq!(label(&Config::parse("p2v.name=web"), &inventory), "web");
    }
}
