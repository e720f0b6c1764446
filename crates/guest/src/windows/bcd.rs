//! Boot configuration data: a hive of objects with elements (Microsoft, "BCD Reference", for their numbers).
//!
//! ```text
//!   Objects\{GUID}\Description      Type: 0x10100002 boot manager, 0x10200003 loader of Windows, …
//!   Objects\{GUID}\Elements\NNNNNNNN   Element: text, list or bytes
//! ```

use registry::{Hive, Logs};
use types::Guid;

use crate::windows::files;
use crate::windows::hives::failed;
use crate::windows::inspect::reader::{Keys, clean};
use crate::{Result, Root};

/// A BCD has some tens of KiB; the limit is generous.
const BCD_MAX: u64 = 16 << 20;
/// Objects that are looked at.
const OBJECTS_MAX: usize = 512;

/// {bootmgr}.
const BOOT_MANAGER: &str = "{9dea862c-5cdd-4e70-acc1-f32b344d4795}";
/// Description\Type of a loader of Windows.
const TYPE_LOADER: u32 = 0x1020_0003;
/// BcdBootMgrObject_DefaultObject.
const DEFAULT_OBJECT: &str = "23000003";
/// BcdLibraryDevice_ApplicationDevice.
const APPLICATION_DEVICE: &str = "11000001";
/// BcdLibraryString_ApplicationPath.
const APPLICATION_PATH: &str = "12000002";
/// BcdLibraryString_Description.
const DESCRIPTION: &str = "12000004";
/// BcdOSLoaderDevice_OSDevice.
const OS_DEVICE: &str = "21000001";
/// BcdOSLoaderString_SystemRoot.
const SYSTEM_ROOT: &str = "22000002";
/// BcdLibraryBoolean_GraphicsModeDisabled.
pub(crate) const GRAPHICS_MODE_DISABLED: &str = "16000046";

/// Where an entry finds what it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Device {
    /// A partition of a disk with a GPT: its unique GUID and the disk's, lower case with dashes.
    Gpt { partition: String, disk: String },
    /// A partition of a disk with an MBR: its offset in bytes and the disk's signature.
    Mbr { offset: u64, signature: u32 },
    /// The device that the firmware started from.
    Boot,
    /// Found by looking for a file, as generalised images have it; or of a kind that is not known.
    Other,
}

/// A loader of Windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loader {
    /// Its GUID with braces.
    pub(crate) id: String,
    /// What the menu shows.
    pub(crate) description: String,
    /// The program, e.g. `\Windows\system32\winload.efi`.
    pub(crate) path: String,
    /// `\Windows`.
    pub(crate) system_root: String,
    /// Where Windows is.
    pub(crate) os_device: Option<Device>,
    /// Where the program is.
    pub(crate) device: Option<Device>,
    /// The boot manager starts it by default.
    pub(crate) is_default: bool,
}

/// A BCD that was read.
#[derive(Debug)]
pub(crate) struct Bcd {
    hive: Hive,
    path: String,
}

impl Bcd {
    /// Reads it with its logs; `None` when it is not there.
    pub(crate) fn open(root: &Root, path: &str) -> Result<Option<Self>> {
        let Some(path) = files::find(root, path) else {
            return Ok(None);
        };
        let log = |suffix: &str| {
            let log = files::read(root, &format!("{path}{suffix}"), BCD_MAX)?;
            Ok::<_, crate::Error>(log.unwrap_or_default())
        };
        let logs = Logs {
            log: log(".LOG")?,
            log1: log(".LOG1")?,
            log2: log(".LOG2")?,
        };
        let recovered = Hive::recover(root.read(&path, BCD_MAX)?, &logs).map_err(failed(&path))?;
        Ok(Some(Self {
            hive: recovered.hive,
            path,
        }))
    }

    /// Takes it from memory.
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        let hive = Hive::open(bytes).map_err(failed("BCD"))?;
        Ok(Self {
            hive,
            path: "BCD".to_owned(),
        })
    }

    /// Its path as spelled on the disk.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    fn element(&self, object: &str, element: &str) -> Option<registry::Value> {
        Keys::new(&self.hive).value(
            &format!("Objects\\{object}\\Elements\\{element}"),
            "Element",
        )
    }

    fn text(&self, object: &str, element: &str) -> Option<String> {
        let text = self.element(object, element)?.as_text()?;
        Some(clean(&text))
    }

    fn device(&self, object: &str, element: &str) -> Option<Device> {
        Some(device(&self.element(object, element)?.data))
    }

    fn objects(&self) -> Vec<String> {
        let mut objects = Keys::new(&self.hive).keys("Objects");
        objects.truncate(OBJECTS_MAX);
        objects
    }

    /// The loaders of Windows, the default one first.
    pub(crate) fn loaders(&self) -> Vec<Loader> {
        let default = self.text(BOOT_MANAGER, DEFAULT_OBJECT).unwrap_or_default();
        let keys = Keys::new(&self.hive);
        let mut loaders: Vec<Loader> = Vec::new();
        for id in self.objects() {
            let description = format!("Objects\\{id}\\Description");
            if keys.number(&description, "Type") != Some(TYPE_LOADER) {
                continue;
            }
            loaders.push(Loader {
                description: self.text(&id, DESCRIPTION).unwrap_or_default(),
                path: self.text(&id, APPLICATION_PATH).unwrap_or_default(),
                system_root: self.text(&id, SYSTEM_ROOT).unwrap_or_default(),
                os_device: self.device(&id, OS_DEVICE),
                device: self.device(&id, APPLICATION_DEVICE),
                is_default: id.eq_ignore_ascii_case(&default),
                id,
            });
        }
        loaders.sort_by_key(|loader| !loader.is_default);
        loaders
    }

    /// Objects whose graphics are switched off.
    pub(crate) fn without_graphics(&self) -> Vec<String> {
        let mut objects = self.objects();
        objects.retain(|object| {
            let value = self.element(object, GRAPHICS_MODE_DISABLED);
            value.is_some_and(|value| value.data.iter().any(|byte| *byte != 0))
        });
        objects
    }

    /// Takes an element away. False when there was none.
    pub(crate) fn delete_element(&mut self, object: &str, element: &str) -> Result<bool> {
        let key = format!("Objects\\{object}\\Elements\\{element}");
        self.hive.delete_key(&key).map_err(failed(&self.path))
    }

    /// The file, after a full walk.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        self.hive.verify().map_err(failed(&self.path))?;
        let written = self.hive.written("").map_err(failed(&self.path))?;
        Ok(self.hive.to_bytes(written.unwrap_or_default()))
    }
}

/// A device element: 16 bytes for the options' GUID, then
///
/// ```text
///   0x10 u32 kind: 5 boot device, 6 partition     0x30 u32 zero
///   0x14 u32 flags                                0x34 u32 table: 0 GPT, 1 MBR
///   0x18 u32 length from 0x10 on, u32 zero        0x38 16 bytes: the disk's GUID or signature
///   0x20 16 bytes: the partition's GUID or offset
/// ```
///
/// (undocumented; as in every BCD, and Geoff Chappell, "BCD Elements").
fn device(data: &[u8]) -> Device {
    parse_device(data).unwrap_or(Device::Other)
}

fn parse_device(data: &[u8]) -> Option<Device> {
    let u32_at = |at: usize| {
        let bytes = data.get(at..)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*bytes))
    };
    match u32_at(0x10)? {
        5 => return Some(Device::Boot),
        6 => {}
        _ => return None,
    }
    let partition = data.get(0x20..)?.first_chunk::<16>()?;
    let disk = data.get(0x38..)?.first_chunk::<16>()?;
    match u32_at(0x34)? {
        0 => Some(Device::Gpt {
            partition: Guid(*partition).to_string(),
            disk: Guid(*disk).to_string(),
        }),
        1 => Some(Device::Mbr {
            offset: u64::from_le_bytes(*partition.first_chunk::<8>()?),
            signature: u32_at(0x38)?,
        }),
        _ => None,
    }
}

impl Device {
    /// True for one that names a partition.
    pub(crate) fn is_partition(&self) -> bool {
        matches!(self, Self::Gpt { .. } | Self::Mbr { .. })
    }

    /// True when a partition with this PARTUUID (as udev spells it: a GUID, or `SIGNATURE-NN`) can be it; of an MBR, only
    /// the disk is compared.
    pub(crate) fn may_be(&self, partuuid: &str) -> bool {
        match self {
            Self::Gpt { partition, .. } => partuuid.eq_ignore_ascii_case(partition),
            Self::Mbr { signature, .. } => {
                let disk = partuuid.split_once('-').map(|(disk, _)| disk);
                disk.is_some_and(|disk| disk.eq_ignore_ascii_case(&format!("{signature:08x}")))
            }
            Self::Boot | Self::Other => false,
        }
    }
}

/// Reads bytes as a BCD, for the fuzzer.
pub(crate) fn probe(bytes: &[u8]) {
    if let Ok(mut bcd) = Bcd::from_bytes(bytes.to_vec()) {
        let _ = bcd.loaders();
        for object in bcd.without_graphics() {
            let _ = bcd.delete_element(&object, GRAPHICS_MODE_DISABLED);
        }
        let _ = bcd.to_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::windows::tests::bcd::{gpt_device, mbr_device, store};

    #[test]
    fn loaders_are_read_the_default_one_first() {
        let bytes = store(&[
            ("Old", "\\WINNT", mbr_device(0x10_0000, 0x1234_abcd)),
            (
                "Windows 10",
                "\\Windows",
                gpt_device("0a1b2c3d-1111-2222-3333-445566778899"),
            ),
        ]);
        let loaders = Bcd::from_bytes(bytes).unwrap().loaders();
        assert_eq!(loaders.len(), 2);
        assert_eq!(loaders[0].description, "Windows 10");
        assert!(loaders[0].is_default && !loaders[1].is_default);
        let device = loaders[0].os_device.clone().unwrap();
        assert!(device.may_be("0A1B2C3D-1111-2222-3333-445566778899"));
        assert!(!device.may_be("1234abcd-01"));
        let old = loaders[1].os_device.clone().unwrap();
        assert_eq!(
            old,
            Device::Mbr {
                offset: 0x10_0000,
                signature: 0x1234_abcd
            }
        );
        assert!(old.may_be("1234abcd-02") && !old.may_be("1234abce-02"));
    }

    #[test]
    fn devices_that_are_cut_are_other_ones() {
        let whole = gpt_device("0a1b2c3d-1111-2222-3333-445566778899");
        for len in 0..0x48 {
            assert_eq!(device(&whole[..len]), Device::Other, "{len}");
        }
    }

    #[test]
    fn strange_bytes_are_no_store() {
        for bytes in [&b""[..], b"regf", &[0xff; 8192]] {
            assert!(Bcd::from_bytes(bytes.to_vec()).is_err());
            probe(bytes);
        }
    }
}
