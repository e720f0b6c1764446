//! An inventory as text for people: `p2v-agent inventory`, the screens, the job on the web page.

use crate::inventory::{Bus, Cpu, Disk, DiskKind, Firmware, Inventory, Nic};

/// Labels and values in the order in which they are shown; nothing that is not known, several of one label where there
/// are several.
pub fn describe(inventory: &Inventory) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut add = |label: &str, value: String| {
        if !value.is_empty() {
            all.push((label.to_owned(), value));
        }
    };
    let dmi = inventory.dmi.clone().unwrap_or_default();
    add(
        "Machine",
        words(&[&dmi.system_vendor, &dmi.product_name, &dmi.product_version]),
    );
    add("Serial number", dmi.product_serial);
    add("UUID", dmi.product_uuid);
    add("Firmware", firmware(inventory, &dmi.bios_version));
    add(
        "Processor",
        inventory.cpu.as_ref().map(cpu).unwrap_or_default(),
    );
    add("Memory", size(inventory.memory_bytes));
    if inventory.numa_nodes > 1 {
        add("NUMA nodes", inventory.numa_nodes.to_string());
    }
    if !inventory.tpm_version.is_empty() {
        add("TPM", inventory.tpm_version.clone());
    }
    for found in &inventory.disks {
        add(&format!("Disk {}", found.name), disk(found));
        for content in found.contents.iter().filter(|content| content.number > 0) {
            let label = format!("Disk {} partition {}", found.name, content.number);
            let what = words(&[&content.content, &content.label]);
            add(&label, words(&[&size(content.len), &what]));
        }
    }
    for found in &inventory.nics {
        add(&format!("Network {}", found.name), nic(found));
    }
    for drive in &inventory.removables {
        let kind = if drive.floppy { "floppy" } else { "CD" };
        add("Removable drive", format!("{} ({kind})", drive.name));
    }
    for guess in &inventory.os_guesses {
        add(
            "System",
            format!("{} on {}", guess.product_name, guess.device),
        );
    }
    if let Some(utc) = inventory.clock.and_then(|clock| clock.utc) {
        let basis = if utc { "UTC" } else { "local time" };
        add("Hardware clock", format!("probably {basis}"));
    }
    add("Agent", agent(inventory));
    for concern in &inventory.concerns {
        add("Note", concern.clone());
    }
    all
}

/// Bytes with a binary unit and at most one decimal: `16 GiB`, `1.8 TiB`; empty for 0.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes == 0 {
        return String::new();
    }
    let mut shift = 0;
    let mut unit = "bytes";
    for name in UNITS {
        if bytes >> shift < 1024 {
            break;
        }
        shift += 10;
        unit = name;
    }
    let whole = bytes >> shift;
    let rest = bytes & ((1 << shift) - 1);
    // Below 2^60, times ten still fits.
    let tenth = if shift == 0 {
        0
    } else {
        (rest >> (shift - 10)) * 10 / 1024
    };
    match tenth {
        0 => format!("{whole} {unit}"),
        tenth => format!("{whole}.{tenth} {unit}"),
    }
}

/// What is not empty, with blanks between.
fn words(parts: &[&str]) -> String {
    let kept: Vec<&str> = parts
        .iter()
        .copied()
        .filter(|part| !part.is_empty())
        .collect();
    kept.join(" ")
}

fn firmware(inventory: &Inventory, version: &str) -> String {
    let Firmware {
        uefi, secure_boot, ..
    } = inventory.firmware.clone().unwrap_or_default();
    let kind = match (uefi, secure_boot) {
        (false, _) => "BIOS",
        (true, Some(true)) => "UEFI with Secure Boot",
        (true, Some(false)) => "UEFI, Secure Boot off",
        (true, None) => "UEFI",
    };
    if version.is_empty() {
        kind.to_owned()
    } else {
        format!("{kind} ({version})")
    }
}

fn cpu(cpu: &Cpu) -> String {
    let topology = if cpu.sockets == 0 {
        String::new()
    } else {
        format!(
            " ({} sockets, {} cores, {} threads)",
            cpu.sockets, cpu.cores_per_socket, cpu.threads_per_core
        )
    };
    let name = words(&[&cpu.model_name]);
    words(&[&name, &format!("× {}{topology}", cpu.logical)])
}

fn disk(disk: &Disk) -> String {
    let kind = match disk.kind() {
        DiskKind::FirmwareRaid => format!("firmware RAID of {}", disk.members.join(", ")),
        DiskKind::Multipath => format!("multipath over {}", disk.members.join(", ")),
        DiskKind::File => "file".to_owned(),
        DiskKind::Plain | DiskKind::Unspecified => match disk.bus() {
            Bus::Unspecified => String::new(),
            bus => bus.as_str_name().to_lowercase().replace('_', "-"),
        },
    };
    let sectors = match disk.logical_sector_size {
        0 | 512 => String::new(),
        len => format!("{len}-byte sectors"),
    };
    let left_out = if disk.left_out.is_empty() {
        String::new()
    } else {
        format!("not chosen: {}", disk.left_out)
    };
    let name = words(&[&disk.vendor, &disk.model]);
    let serial = match disk.serial.as_str() {
        "" => String::new(),
        serial => format!("serial {serial}"),
    };
    let size = size(disk.virtual_size);
    let parts = [
        size,
        name,
        serial,
        kind,
        sectors,
        disk.health.clone(),
        left_out,
    ];
    let kept: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    kept.join(", ")
}

fn nic(nic: &Nic) -> String {
    let link = match (nic.link, nic.speed_mbits) {
        (false, _) => "no link".to_owned(),
        (true, 0) => "link".to_owned(),
        (true, speed) => format!("{speed} Mbit/s"),
    };
    let kernel = if nic.kernel_name == nic.name {
        String::new()
    } else {
        format!("here {}", nic.kernel_name)
    };
    let parts = [
        nic.mac.clone(),
        link,
        words(&[&nic.vendor, &nic.driver]),
        kernel,
        nic.addresses.join(" "),
    ];
    let kept: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    kept.join(", ")
}

fn agent(inventory: &Inventory) -> String {
    let kernel = match inventory.kernel_release.as_str() {
        "" => String::new(),
        release => format!("Linux {release}"),
    };
    words(&[&inventory.agent_version, &kernel])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Content;

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, ""),
            (1, "1 bytes"),
            (1023, "1023 bytes"),
            (16 << 30, "16 GiB"),
            (2_000_398_934_016, "1.8 TiB"),
            (1536, "1.5 KiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn an_empty_inventory_has_nothing_to_say_but_the_firmware() {
        let lines = describe(&Inventory::default());
        assert_eq!(lines, [("Firmware".to_owned(), "BIOS".to_owned())]);
    }

    #[test]
    fn a_disk_says_why_it_is_not_chosen() {
        let inventory = Inventory {
            disks: vec![Disk {
                name: "sda".into(),
                virtual_size: 1 << 40,
                model: "ST1000".into(),
                serial: "Z1".into(),
                logical_sector_size: 4096,
                bus: Bus::Sata.into(),
                left_out: "removable".into(),
                contents: vec![Content {
                    number: 1,
                    len: 1 << 30,
                    content: "ext4".into(),
                    label: "root".into(),
                    ..Content::default()
                }],
                ..Disk::default()
            }],
            ..Inventory::default()
        };
        let lines = describe(&inventory);
        let line = |label: &str| {
            let found = lines.iter().find(|(name, _)| name == label);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(
            line("Disk sda"),
            Some("1 TiB, ST1000, serial Z1, sata, 4096-byte sectors, not chosen: removable")
        );
        assert_eq!(line("Disk sda partition 1"), Some("1 GiB ext4 root"));
    }
}
