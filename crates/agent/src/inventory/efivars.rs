//! Firmware: BIOS or UEFI, Secure Boot, boot entries out of efivarfs (UEFI 2.10, 3.1 and 3.3).

use uefi::LoadOption;
use uefi::device_path::{self, HardDrive};
use uefi::menu::GLOBAL;
use wire::inventory::{BootEntry, Firmware};

use super::Paths;
use super::sysfs;

/// Longest variable that is read: firmware seldom allows more than 32 KiB.
const MAX_VARIABLE: usize = 64 << 10;
/// Boot entries that are read.
const MAX_ENTRIES: usize = 256;
/// efivarfs puts the variable's attributes before its content.
const ATTRIBUTES_LEN: usize = 4;

/// What the machine was started by.
pub(crate) fn firmware(paths: &Paths) -> Firmware {
    let efi = paths.sys.join("firmware/efi");
    if !efi.exists() {
        return Firmware::default();
    }
    let vendor = format!("-{GLOBAL}");
    let read = |name: &str| {
        let all = sysfs::bytes(
            efi.join("efivars").join(format!("{name}{vendor}")),
            MAX_VARIABLE,
        )?;
        all.get(ATTRIBUTES_LEN..).map(<[u8]>::to_vec)
    };
    let order: Vec<u32> = read("BootOrder")
        .unwrap_or_default()
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_le_bytes([pair[0], pair[1]])))
        .collect();
    let mut numbers: Vec<u32> = Vec::new();
    let others = sysfs::names(efi.join("efivars"))
        .into_iter()
        .filter_map(|name| {
            let digits = name.strip_prefix("Boot")?.strip_suffix(&vendor)?;
            (digits.len() == 4).then(|| u32::from_str_radix(digits, 16).ok())?
        });
    for number in order.iter().copied().chain(others) {
        if !numbers.contains(&number) && numbers.len() < MAX_ENTRIES {
            numbers.push(number);
        }
    }
    let boot_entries = numbers
        .into_iter()
        .filter_map(|number| {
            let content = read(&format!("Boot{number:04X}"))?;
            let mut entry = load_option(&content)?;
            entry.number = number;
            entry.ordered = order.contains(&number);
            Some(entry)
        })
        .collect();
    Firmware {
        uefi: true,
        secure_boot: read("SecureBoot")
            .and_then(|content| content.first().copied())
            .map(|value| value == 1),
        boot_entries,
    }
}

fn load_option(content: &[u8]) -> Option<BootEntry> {
    let option = LoadOption::parse(content).ok()?;
    let clean = |text: &str| sysfs::clean(text).unwrap_or_default();
    let nodes = || device_path::nodes(option.path());
    Some(BootEntry {
        description: clean(&option.description()),
        active: option.is_active(),
        load_option: content.to_vec(),
        partuuid: nodes()
            .find_map(HardDrive::of)
            .map_or_else(String::new, |drive| drive.partuuid()),
        loader: clean(&device_path::file(nodes())),
        ..BootEntry::default()
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use types::Guid;
    use uefi::device_path::Signature;

    use super::*;

    /// A load option for a file on a GPT partition; `guid` as it lies in memory.
    pub(crate) fn option(description: &str, guid: [u8; 16], loader: &str) -> Vec<u8> {
        let drive = HardDrive {
            number: 1,
            start_blocks: 2048,
            size_blocks: 2048,
            signature: Signature::Gpt(Guid(guid)),
        };
        let option = LoadOption::new(description, &drive, loader, b"optional".to_vec());
        option.unwrap().to_bytes()
    }

    /// One file of efivarfs.
    pub(crate) fn variable(content: &[u8]) -> Vec<u8> {
        [&7u32.to_le_bytes(), content].concat()
    }

    #[test]
    fn a_load_option_gives_its_partition_and_file() {
        let content = option("debian", [1; 16], "\\EFI\\debian\\shimx64.efi");
        let entry = load_option(&content).unwrap();
        assert_eq!(entry.description, "debian");
        assert_eq!(entry.loader, "\\EFI\\debian\\shimx64.efi");
        assert_eq!(entry.partuuid, "01010101-0101-0101-0101-010101010101");
        assert!(entry.active && entry.load_option == content);
    }
}
