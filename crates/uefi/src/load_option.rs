//! EFI_LOAD_OPTION (UEFI 2.10, 3.1.3): content of a `Boot####` variable.
//!
//! ```text
//! 0   attributes       32 bits
//! 4   path_len         16 bits
//! 6   description      UTF-16, ended by a null character
//!     path             device paths, path_len bytes; the first is what is started
//!     data             what the program is told, to the end
//! ```

use crate::device_path::{self, HardDrive};
use crate::error::{Error, Result};

/// LOAD_OPTION_ACTIVE: the firmware tries it without being asked.
const ACTIVE: u32 = 1;

/// One entry of the boot menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadOption {
    /// LOAD_OPTION_ACTIVE and others.
    pub attributes: u32,
    /// What the menu shows, in UTF-16 without the null character.
    description: Vec<u8>,
    path: Vec<u8>,
    /// What the program is told.
    pub data: Vec<u8>,
}

impl LoadOption {
    /// An active entry that starts a file on a partition; `None` where the path is too long for one.
    pub fn new(description: &str, drive: &HardDrive, file: &str, data: Vec<u8>) -> Option<Self> {
        let units = description.encode_utf16().filter(|&unit| unit != 0);
        let path = device_path::file_on(drive, file)?;
        u16::try_from(path.len()).ok()?;
        Some(Self {
            attributes: ACTIVE,
            description: units.flat_map(u16::to_le_bytes).collect(),
            path,
            data,
        })
    }

    /// Reads one. That its path is whole is not asked here: see [`device_path::is_whole`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let missing = Error::LoadOption;
        let (attributes, rest) = bytes.split_first_chunk().ok_or(missing("attributes"))?;
        let (path_len, rest) = rest.split_first_chunk().ok_or(missing("a length"))?;
        let units = rest.chunks_exact(2).position(|unit| unit == [0, 0]);
        let (description, rest) = units
            .and_then(|units| rest.split_at_checked(units * 2))
            .ok_or(missing("a description that ends"))?;
        let (path, data) = rest
            .get(2..)
            .and_then(|rest| rest.split_at_checked(usize::from(u16::from_le_bytes(*path_len))))
            .ok_or(missing("a path that ends within it"))?;
        Ok(Self {
            attributes: u32::from_le_bytes(*attributes),
            description: description.to_vec(),
            path: path.to_vec(),
            data: data.to_vec(),
        })
    }

    /// As the variable holds it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let path_len = u16::try_from(self.path.len()).unwrap_or(u16::MAX);
        let mut bytes = self.attributes.to_le_bytes().to_vec();
        bytes.extend(path_len.to_le_bytes());
        bytes.extend(&self.description);
        bytes.extend([0, 0]);
        bytes.extend(&self.path);
        bytes.extend(&self.data);
        bytes
    }

    /// The firmware tries it without being asked.
    pub fn is_active(&self) -> bool {
        self.attributes & ACTIVE != 0
    }

    /// What the menu shows.
    pub fn description(&self) -> String {
        crate::text(&self.description)
    }

    /// Device paths, the first of which is what is started.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The partition and the file on it that it starts; `None` for one that starts anything else: a network, a drive, a part
    /// of the firmware. The file is empty where the firmware is to look for its fallback loader.
    pub fn file_on_partition(&self) -> Option<(HardDrive, String)> {
        let mut nodes = device_path::nodes(&self.path);
        let drive = nodes.find_map(HardDrive::of)?;
        Some((drive, device_path::file(nodes)))
    }

    /// The same entry with a path that begins with its partition: what is before it names hardware of the machine that it was
    /// made on. `None` where it starts from no partition, or its path is damaged.
    pub fn shortened(&self) -> Option<Self> {
        if !device_path::is_whole(&self.path) {
            return None;
        }
        let mut nodes = device_path::nodes(&self.path);
        let drive = nodes.find(|node| HardDrive::of(*node).is_some())?;
        Some(Self {
            path: self.path.get(drive.at..)?.to_vec(),
            ..self.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device_path::Signature;

    const FILE: &str = r"\EFI\debian\shimx64.efi";

    fn drive() -> HardDrive {
        HardDrive {
            number: 1,
            start_blocks: 2048,
            size_blocks: 204_800,
            signature: Signature::of_partuuid("aaaaaaaa-0001-4000-8000-0123456789ab").unwrap(),
        }
    }

    /// The entry, with a PCI root and a device before its partition.
    fn of_old_machine() -> Vec<u8> {
        let hardware = [
            2, 1, 12, 0, 0xd0, 0x41, 3, 0x0a, 0, 0, 0, 0, 1, 1, 6, 0, 0, 0x1f,
        ];
        let short = LoadOption::new("debian", &drive(), FILE, b"told".to_vec()).unwrap();
        let long = LoadOption {
            path: [&hardware[..], &short.path].concat(),
            ..short
        };
        long.to_bytes()
    }

    #[test]
    fn an_entry_has_its_fields_where_the_specification_puts_them() {
        let bytes = LoadOption::new("ab\0c", &drive(), r"\x", vec![7])
            .unwrap()
            .to_bytes();
        let path_len = 42 + 4 + 6 + 4;
        assert_eq!(bytes[..6], [1, 0, 0, 0, path_len, 0]);
        assert_eq!(bytes[6..14], [b'a', 0, b'b', 0, b'c', 0, 0, 0]);
        assert_eq!(bytes[14..18], [4, 1, 42, 0]);
        assert_eq!(bytes[14 + usize::from(path_len)..], [7]);
    }

    #[test]
    fn an_entry_of_another_machine_is_shortened_and_keeps_its_data() {
        let old = LoadOption::parse(&of_old_machine()).unwrap();
        assert_eq!(old.to_bytes(), of_old_machine());
        assert_eq!(old.file_on_partition(), Some((drive(), FILE.to_owned())));
        let short = old.shortened().unwrap();
        let want = LoadOption::new("debian", &drive(), FILE, b"told".to_vec());
        assert_eq!(Some(short), want);
    }

    #[test]
    fn damaged_entries_are_refused_or_read_without_harm() {
        let good = of_old_machine();
        for cut in 0..good.len() - b"told".len() {
            assert!(LoadOption::parse(&good[..cut]).is_err(), "{cut}");
        }
        for at in 0..good.len() {
            for value in [0, 1, 2, 3, 4, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                if let Ok(option) = LoadOption::parse(&bad) {
                    assert_eq!(option.to_bytes(), bad);
                    let _ = (option.shortened(), option.file_on_partition());
                }
            }
        }
    }
}
