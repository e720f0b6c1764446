//! An inventory for people and scripts.

use std::fmt::Write;

use data_encoding::HEXLOWER;
use serde_json::{Map, Value, json};
use wire::inventory::{Disk, Inventory, Nic};

/// As JSON; names as in proto/inventory.proto. What was not found out is left out.
pub(crate) fn json(found: &Inventory) -> Value {
    let dmi = found.dmi.clone().unwrap_or_default();
    let firmware = found.firmware.clone().unwrap_or_default();
    let cpu = found.cpu.clone().unwrap_or_default();
    let clock = found.clock.unwrap_or_default();
    let boot_entries: Vec<Value> = firmware
        .boot_entries
        .iter()
        .map(|entry| {
            json!({
                "number": entry.number, "description": entry.description, "active": entry.active,
                "ordered": entry.ordered, "loader": entry.loader, "partuuid": entry.partuuid,
            })
        })
        .collect();
    let removables = found.removables.iter();
    let guesses = found.os_guesses.iter();
    let value = json!({
        "machine_id": HEXLOWER.encode(&found.machine_id),
        "dmi": {
            "system_vendor": dmi.system_vendor, "product_name": dmi.product_name,
            "product_version": dmi.product_version, "product_serial": dmi.product_serial,
            "product_uuid": dmi.product_uuid, "product_sku": dmi.product_sku,
            "product_family": dmi.product_family, "board_vendor": dmi.board_vendor,
            "board_name": dmi.board_name, "board_serial": dmi.board_serial,
            "chassis_serial": dmi.chassis_serial, "chassis_asset_tag": dmi.chassis_asset_tag,
            "bios_vendor": dmi.bios_vendor, "bios_version": dmi.bios_version,
        },
        "firmware": {
            "uefi": firmware.uefi, "secure_boot": firmware.secure_boot,
            "boot_entries": boot_entries,
        },
        "cpu": {
            "vendor": cpu.vendor, "model_name": cpu.model_name, "logical": cpu.logical,
            "sockets": cpu.sockets, "cores_per_socket": cpu.cores_per_socket,
            "threads_per_core": cpu.threads_per_core, "flags": cpu.flags,
        },
        "memory_bytes": found.memory_bytes,
        "numa_nodes": found.numa_nodes,
        "tpm_version": found.tpm_version,
        "sound": found.sound,
        "disks": found.disks.iter().map(disk).collect::<Vec<_>>(),
        "nics": found.nics.iter().map(nic).collect::<Vec<_>>(),
        "removables": removables.map(|drive| json!({
            "name": drive.name, "floppy": drive.floppy, "bus": drive.bus().as_str_name(),
        })).collect::<Vec<_>>(),
        "clock": { "utc": clock.utc, "offset_seconds": clock.offset_seconds },
        "os_guesses": guesses.map(|guess| json!({
            "device": guess.device, "product_name": guess.product_name,
        })).collect::<Vec<_>>(),
        "kernel_release": found.kernel_release,
        "agent_version": found.agent_version,
        "concerns": found.concerns,
    });
    without_empty(value)
}

fn disk(disk: &Disk) -> Value {
    let contents: Vec<Value> = disk
        .contents
        .iter()
        .map(|content| {
            json!({
                "number": content.number, "offset": content.offset, "len": content.len,
                "content": content.content, "label": content.label, "uuid": content.uuid,
            })
        })
        .collect();
    json!({
        "name": disk.name, "kind": disk.kind().as_str_name(), "virtual_size": disk.virtual_size,
        "logical_sector_size": disk.logical_sector_size,
        "physical_sector_size": disk.physical_sector_size, "vendor": disk.vendor,
        "model": disk.model, "serial": disk.serial, "wwid": disk.wwid,
        "bus": disk.bus().as_str_name(), "removable": disk.removable,
        "rotational": disk.rotational, "read_only": disk.read_only, "healthy": disk.healthy,
        "health": disk.health, "members": disk.members, "contents": contents,
        "left_out": disk.left_out, "extents_known": disk.extents_known,
        "edd_number": disk.edd_number,
    })
}

fn nic(nic: &Nic) -> Value {
    json!({
        "name": nic.name, "kernel_name": nic.kernel_name, "mac": nic.mac, "link": nic.link,
        "speed_mbits": nic.speed_mbits, "driver": nic.driver, "vendor": nic.vendor,
        "model": nic.model, "alternative_names": nic.alternative_names,
        "addresses": nic.addresses,
    })
}

fn without_empty(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map
                .into_iter()
                .map(|(key, value)| (key, without_empty(value)));
            Value::Object(
                kept.filter(|(_, value)| !is_empty(value))
                    .collect::<Map<_, _>>(),
            )
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_empty).collect()),
        other => other,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The same as lines `disks.0.name = sda`.
pub(crate) fn lines(value: &Value) -> String {
    let mut out = String::new();
    put(&mut out, "", value);
    out
}

fn put(out: &mut String, key: &str, value: &Value) {
    let under = |name: &str| {
        if key.is_empty() {
            name.to_owned()
        } else {
            format!("{key}.{name}")
        }
    };
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(name, value)| put(out, &under(name), value)),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            let _ = writeln!(out, "{key} = {}", items.join(" "));
        }
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(n, value)| put(out, &under(&n.to_string()), value));
        }
        Value::String(text) => {
            let _ = writeln!(out, "{key} = {text}");
        }
        other => {
            let _ = writeln!(out, "{key} = {other}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_printed_and_the_rest_is_not() {
        let found = Inventory {
            machine_id: vec![1; 32],
            memory_bytes: 1 << 30,
            disks: vec![Disk {
                name: "sda".into(),
                members: vec!["a".into(), "b".into()],
                ..Disk::default()
            }],
            ..Inventory::default()
        };
        let value = json(&found);
        assert_eq!(value["disks"][0]["name"], "sda");
        assert!(value.get("dmi").is_none(), "{value}");
        let lines = lines(&value);
        assert!(lines.contains("disks.0.members = a b\n"), "{lines}");
        assert!(lines.contains("memory_bytes = 1073741824\n"), "{lines}");
    }
}
