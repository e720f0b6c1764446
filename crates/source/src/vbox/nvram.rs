//! What VirtualBox keeps in the machine's `.nvram` alone, which is the flash of EDK2: whether Secure Boot is on, and the boot
//! menu.
//!
//! The setting is the variable `SecureBootEnable` of EDK2 (SecurityPkg, gEfiSecureBootEnableDisableGuid).

use uefi::{Guid, menu, store};

use crate::error::{Error, Result};

/// Largest flash that is read, in bytes. VirtualBox writes 528 KiB.
pub(crate) const MAX_SIZE: u64 = 16 << 20;
/// gEfiSecureBootEnableDisableGuid.
const SECURE_BOOT_GUID: Guid = Guid::of(0xf0a30bc7_af08_4556_99c4_001009c93a44);
/// Name of the variable.
const SECURE_BOOT_NAME: &str = "SecureBootEnable";

/// What a flash says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flash {
    /// A flash that does not say is off.
    pub(crate) secure_boot: bool,
    /// Active entries of the boot menu in their order: EFI_LOAD_OPTIONs.
    pub(crate) boot_options: Vec<Vec<u8>>,
}

/// Reads a flash.
pub(crate) fn read(bytes: &[u8]) -> Result<Flash> {
    Ok(Flash {
        secure_boot: secure_boot(bytes)?,
        boot_options: menu::read(bytes).map_err(corrupt)?,
    })
}

fn secure_boot(bytes: &[u8]) -> Result<bool> {
    let mut on = false;
    for variable in store::variables(bytes).map_err(corrupt)? {
        let variable = variable.map_err(corrupt)?;
        if variable.is(SECURE_BOOT_GUID, SECURE_BOOT_NAME) {
            on = variable.data.first() == Some(&1);
        }
    }
    Ok(on)
}

fn corrupt(error: uefi::Error) -> Error {
    Error::corrupt(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// gEfiAuthenticatedVariableGuid.
    const STORE_GUID: [u8; 16] = Guid::of(0xaaf32c78_947b_439a_a180_2e144ec37792).0;

    /// A flash with these variables: vendor, name, state, data.
    fn flash(variables: &[([u8; 16], &str, u8, u8)]) -> Vec<u8> {
        let mut store = STORE_GUID.to_vec();
        store.extend(0x400u32.to_le_bytes());
        store.extend([0x5a, 0xfe, 0, 0, 0, 0, 0, 0]);
        for (vendor, name, state, data) in variables {
            store.extend([0xaa, 0x55, *state, 0]);
            store.extend([0; 4 + 8 + 16 + 4]);
            let name: Vec<u8> = name
                .encode_utf16()
                .chain([0])
                .flat_map(u16::to_le_bytes)
                .collect();
            store.extend(u32::try_from(name.len()).unwrap().to_le_bytes());
            store.extend(1u32.to_le_bytes());
            store.extend(vendor);
            store.extend(name);
            store.push(*data);
            store.resize(store.len().next_multiple_of(4), 0xff);
        }
        store.resize(0x400, 0xff);
        let mut bytes = vec![0; 0x28];
        bytes.extend(b"_FVH");
        bytes.extend([0; 4]);
        bytes.extend(0x48u16.to_le_bytes());
        bytes.resize(0x48, 0);
        bytes.extend(store);
        bytes
    }

    #[test]
    fn the_live_variable_of_the_right_vendor_counts() {
        let ours = SECURE_BOOT_GUID.0;
        let on = flash(&[
            ([1; 16], SECURE_BOOT_NAME, 0x3f, 0),
            (ours, "Other", 0x3f, 0),
            (ours, SECURE_BOOT_NAME, 0x3f, 1),
            (ours, SECURE_BOOT_NAME, 0x3c, 0),
        ]);
        assert!(secure_boot(&on).unwrap());
        assert!(!secure_boot(&flash(&[(ours, SECURE_BOOT_NAME, 0x3f, 0)])).unwrap());
        assert!(!secure_boot(&flash(&[(ours, SECURE_BOOT_NAME, 0x3c, 1)])).unwrap());
        assert!(!secure_boot(&flash(&[])).unwrap());
    }

    #[test]
    fn damage_is_an_error_and_no_panic() {
        let whole = flash(&[(SECURE_BOOT_GUID.0, SECURE_BOOT_NAME, 0x3f, 1)]);
        assert!(secure_boot(&whole[..whole.len() - 1]).is_err());
        assert!(read(b"").is_err());
        let mut long = whole.clone();
        long[0x48 + 0x1c + 36..][..4].copy_from_slice(&[0xff; 4]);
        assert!(secure_boot(&long).is_err());
        for at in 0..0x100 {
            for value in [0, 0x7f, 0xff] {
                let mut mutant = whole.clone();
                mutant[at] = value;
                let _ = read(&mutant);
            }
        }
    }
    #[test]
    fn the_boot_menu_of_a_flash_comes_along() {
        let drive = uefi::device_path::HardDrive {
            number: 1,
            start_blocks: 2048,
            size_blocks: 204_800,
            signature: uefi::device_path::Signature::Mbr(7),
        };
        let option = uefi::LoadOption::new("debian", &drive, r"\x.efi", Vec::new()).unwrap();
        let mut store = uefi::Store::empty(uefi::Layout::Ovmf4M);
        menu::add(&mut store, &[option.to_bytes()]).unwrap();
        let want = Flash {
            secure_boot: false,
            boot_options: vec![option.to_bytes()],
        };
        assert_eq!(read(store.bytes()).unwrap(), want);
    }
}
