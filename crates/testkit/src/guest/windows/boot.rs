//! Programs that are nothing but headers, and boot configuration data.

use anyhow::Result;
use registry::{Hive, Value};

use super::Windows;
use super::disk::{self, Layout};

/// Boot manager and the one loader (BCD Reference of Microsoft: well-known objects).
const BOOT_MANAGER: &str = "{9dea862c-5cdd-4e70-acc1-f32b344d4795}";
const LOADER: &str = "{5a3d1f07-0000-11e5-9a5e-08002700cafe}";
const WRITTEN: u64 = 133_000_000_000_000_000;

/// A PE program without code (PE/COFF specification, sections 3 and 4), for x86 or amd64.
pub(super) fn program(which: Windows) -> Vec<u8> {
    let mut file = vec![0u8; 1024];
    let (machine, magic, optional): (u16, u16, u16) = match which {
        Windows::Seven => (0x014c, 0x010b, 224),
        Windows::EightOne => (0x8664, 0x020b, 240),
    };
    let fields: [(usize, Vec<u8>); 6] = [
        (0, b"MZ".to_vec()),
        (0x3c, 0x80u32.to_le_bytes().to_vec()),
        (0x80, b"PE\0\0".to_vec()),
        (0x84, machine.to_le_bytes().to_vec()),
        (
            0x94,
            [optional.to_le_bytes(), 0x0102u16.to_le_bytes()].concat(),
        ),
        (0x98, magic.to_le_bytes().to_vec()),
    ];
    for (at, bytes) in fields {
        if let Some(place) = file.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(&bytes);
        }
    }
    file
}

/// The bytes of a GUID as Windows stores it.
pub(super) fn guid(text: &str) -> Vec<u8> {
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let bytes: Vec<u8> = (0..digits.len())
        .step_by(2)
        .filter_map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
        .collect();
    // The first three fields are little-endian.
    [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]
        .iter()
        .filter_map(|at| bytes.get(*at).copied())
        .collect()
}

/// A hive of boot configuration data with a boot manager and a loader.
pub(super) fn bcd(which: Windows) -> Result<Vec<u8>> {
    let mut hive = Hive::create("NewStoreRoot");
    hive.set("Description", "KeyName", &Value::text("BCD00000000"))?;
    hive.set("Description", "System", &Value::dword(1))?;
    hive.set("Description", "TreatAsSystem", &Value::dword(1))?;
    let mut object = |id: &str, kind: u32, elements: &[(&str, Value)]| -> Result<()> {
        let key = format!("Objects\\{id}");
        hive.set(&format!("{key}\\Description"), "Type", &Value::dword(kind))?;
        for (element, value) in elements {
            hive.set(&format!("{key}\\Elements\\{element}"), "Element", value)?;
        }
        Ok(())
    };
    let layout = Layout::of(which);
    let (loader, manager) = match which {
        Windows::Seven => ("\\Windows\\system32\\winload.exe", "\\bootmgr"),
        Windows::EightOne => (
            "\\Windows\\system32\\winload.efi",
            "\\EFI\\Microsoft\\Boot\\bootmgfw.efi",
        ),
    };
    object(
        BOOT_MANAGER,
        0x1010_0002,
        &[
            (
                "11000001",
                Value::binary(device(which, layout.boot.start, disk::ESP_GUID)),
            ),
            ("12000002", Value::text(manager)),
            ("12000004", Value::text("Windows Boot Manager")),
            ("23000003", Value::text(LOADER)),
            ("24000001", Value::multi(&[LOADER])),
            ("25000004", Value::binary(30u64.to_le_bytes())),
        ],
    )?;
    let own = device(which, layout.system.start, disk::SYSTEM_GUID);
    object(
        LOADER,
        0x1020_0003,
        &[
            ("11000001", Value::binary(own.clone())),
            ("12000002", Value::text(loader)),
            ("12000004", Value::text("Windows")),
            ("12000005", Value::text("en-US")),
            // A loader that shows no graphics: nothing would be seen on another display.
            ("16000046", Value::binary([1])),
            ("21000001", Value::binary(own)),
            ("22000002", Value::text("\\Windows")),
            ("25000020", Value::binary(0u64.to_le_bytes())),
        ],
    )?;
    hive.verify()?;
    Ok(hive.to_bytes(WRITTEN))
}

/// A qualified partition: type 6, 0x48 bytes; its offset or GUID, then the table's kind and the disk's signature or GUID.
fn device(which: Windows, start: u64, partition: &str) -> Vec<u8> {
    let mut bytes = vec![0u8; 0x58];
    let mut put = |at: usize, field: &[u8]| {
        if let Some(place) = bytes.get_mut(at..at + field.len()) {
            place.copy_from_slice(field);
        }
    };
    put(0x10, &6u32.to_le_bytes());
    put(0x18, &0x48u32.to_le_bytes());
    match which {
        Windows::Seven => {
            put(0x20, &start.to_le_bytes());
            put(0x34, &1u32.to_le_bytes());
            put(0x38, &disk::SIGNATURE.to_le_bytes());
        }
        Windows::EightOne => {
            put(0x20, &guid(partition));
            put(0x38, &guid(disk::DISK_GUID));
        }
    }
    bytes
}
