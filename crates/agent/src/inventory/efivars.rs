//! Firmware: BIOS or UEFI, Secure Boot, boot entries out of efivarfs (UEFI 2.10, sections 3.1.3, 3.3 and 10.3).

use wire::inventory::{BootEntry, Firmware};

use super::Paths;
use super::read::{guid, le};
use super::sysfs;
use super::table::utf16;

/// EFI_GLOBAL_VARIABLE.
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Longest variable that is read: firmware seldom allows more than 32 KiB.
const MAX_VARIABLE: usize = 64 << 10;
/// Boot entries that are read.
const MAX_ENTRIES: usize = 256;
/// efivarfs puts the variable's attributes before its content.
const ATTRIBUTES_LEN: usize = 4;
/// LOAD_OPTION_ACTIVE.
const ACTIVE: u32 = 1;
/// Nodes of a device path: type and subtype.
const HARD_DRIVE: (u8, u8) = (4, 1);
const FILE_PATH: (u8, u8) = (4, 4);
const END: u8 = 0x7f;
/// Signature type of a GPT partition in a hard drive node.
const SIGNATURE_GUID: u8 = 2;

/// What the machine was started by.
pub(crate) fn firmware(paths: &Paths) -> Firmware {
    let efi = paths.sys.join("firmware/efi");
    if !efi.exists() {
        return Firmware::default();
    }
    let read = |name: &str| {
        let all = sysfs::bytes(
            efi.join("efivars").join(format!("{name}-{GLOBAL}")),
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
            let digits = name.strip_prefix("Boot")?.strip_suffix(GLOBAL)?;
            let digits = digits.strip_suffix('-').filter(|d| d.len() == 4)?;
            u32::from_str_radix(digits, 16).ok()
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

/// EFI_LOAD_OPTION: attributes, length of the path list, description, path list, optional data.
pub(crate) fn load_option(content: &[u8]) -> Option<BootEntry> {
    let attributes = le::u32(content, 0)?;
    let path_len = usize::from(le::u16(content, 4)?);
    let text = content.get(6..)?;
    let units = text.chunks_exact(2).position(|unit| unit == [0, 0])?;
    let path = le::slice(text, (units + 1) * 2, path_len)?;
    let mut entry = BootEntry {
        description: utf16(text.get(..units * 2)?),
        active: attributes & ACTIVE != 0,
        load_option: content.to_vec(),
        ..BootEntry::default()
    };
    device_path(path, &mut entry);
    Some(entry)
}

/// Nodes: type, subtype, length with these four bytes. The first path counts.
fn device_path(mut path: &[u8], entry: &mut BootEntry) {
    while let (Some(&kind), Some(&subtype), Some(len)) =
        (path.first(), path.get(1), le::u16(path, 2))
    {
        let Some(node) = path.get(4..usize::from(len)) else {
            return;
        };
        match (kind, subtype) {
            (END, _) => return,
            HARD_DRIVE if node.get(37) == Some(&SIGNATURE_GUID) => {
                entry.partuuid = le::slice(node, 20, 16).and_then(guid).unwrap_or_default();
            }
            FILE_PATH => {
                let part = utf16(node);
                let is_joined = entry.loader.is_empty()
                    || entry.loader.ends_with('\\')
                    || part.starts_with('\\');
                if !is_joined {
                    entry.loader.push('\\');
                }
                entry.loader.push_str(&part);
            }
            _ => {}
        }
        path = path.get(usize::from(len)..).unwrap_or_default();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn wide(text: &str) -> Vec<u8> {
        text.encode_utf16()
            .chain([0])
            .flat_map(u16::to_le_bytes)
            .collect()
    }

    fn node(kind: (u8, u8), body: &[u8]) -> Vec<u8> {
        let len = u16::try_from(4 + body.len()).unwrap();
        [&[kind.0, kind.1], &len.to_le_bytes()[..], body].concat()
    }

    /// A load option for a file on a GPT partition; `guid` as it lies in memory.
    pub(crate) fn option(description: &str, guid: [u8; 16], loader: &str) -> Vec<u8> {
        let mut drive = vec![0u8; 38];
        drive[20..36].copy_from_slice(&guid);
        drive[36] = 2;
        drive[37] = SIGNATURE_GUID;
        let path = [
            node(HARD_DRIVE, &drive),
            node(FILE_PATH, &wide(loader)),
            node((END, 0xff), &[]),
        ]
        .concat();
        let mut all = ACTIVE.to_le_bytes().to_vec();
        all.extend(u16::try_from(path.len()).unwrap().to_le_bytes());
        all.extend(wide(description));
        all.extend(path);
        all.extend(b"optional");
        all
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

    #[test]
    fn damaged_load_options_are_read_without_harm() {
        let good = option("debian", [1; 16], "\\EFI\\x");
        for cut in 0..good.len() {
            load_option(&good[..cut]);
        }
        for at in 0..good.len() {
            for value in [0, 1, 2, 3, 4, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                load_option(&bad);
            }
        }
    }
}
