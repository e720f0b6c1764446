//! Secure Boot of an EFI machine: VirtualBox keeps it in the machine's `.nvram` alone, which is the flash of EDK2.
//!
//! ```text
//! 0x00  firmware volume header    UEFI PI specification 1.8, volume 3, 3.2.1: "_FVH" at 0x28, its own length at 0x30
//!       variable store header     EDK2 MdeModulePkg, Include/Guid/VariableFormat.h: VARIABLE_STORE_HEADER
//!       variables                 the same: AUTHENTICATED_VARIABLE_HEADER, name in UTF-16, data; at multiples of 4
//! ```
//!
//! The setting is the variable `SecureBootEnable` of EDK2 (SecurityPkg, gEfiSecureBootEnableDisableGuid).

use zerocopy::{FromBytes, Immutable, KnownLayout, LE, U16, U32, U64};

use crate::error::{Error, Result};

/// Largest flash that is read, in bytes. VirtualBox writes 528 KiB.
pub(crate) const MAX_SIZE: u64 = 16 << 20;
/// gEfiAuthenticatedVariableGuid, aaf32c78-947b-439a-a180-2e144ec37792, as stored.
const STORE_GUID: [u8; 16] = [
    0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43, 0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92,
];
/// gEfiSecureBootEnableDisableGuid, f0a30bc7-af08-4556-99c4-001009c93a44, as stored.
const SECURE_BOOT_GUID: [u8; 16] = [
    0xc7, 0x0b, 0xa3, 0xf0, 0x08, 0xaf, 0x56, 0x45, 0x99, 0xc4, 0x00, 0x10, 0x09, 0xc9, 0x3a, 0x44,
];
/// Name of the variable.
const SECURE_BOOT_NAME: &str = "SecureBootEnable";
/// First word of a variable.
const VARIABLE_START: u16 = 0x55aa;
/// States of a variable that counts: added, and added while its successor is being written.
const LIVE: [u8; 2] = [0x3f, 0x3e];

/// The front of a firmware volume.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
struct RawVolume {
    zero: [u8; 16],
    file_system: [u8; 16],
    len: U64<LE>,
    signature: [u8; 4],
    attributes: U32<LE>,
    header_len: U16<LE>,
}

const _: () = assert!(size_of::<RawVolume>() == 0x32);

/// The front of a variable store.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
struct RawStore {
    guid: [u8; 16],
    /// Of the store, this header included.
    size: U32<LE>,
    format: u8,
    state: u8,
    reserved: [u8; 6],
}

const _: () = assert!(size_of::<RawStore>() == 0x1c);

/// The front of a variable.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
struct RawVariable {
    start: U16<LE>,
    state: u8,
    reserved: u8,
    attributes: U32<LE>,
    monotonic_count: U64<LE>,
    time: [u8; 16],
    key_index: U32<LE>,
    name_len: U32<LE>,
    data_len: U32<LE>,
    vendor: [u8; 16],
}

const _: () = assert!(size_of::<RawVariable>() == 0x3c);

/// Whether Secure Boot is on; a flash that does not say is off.
pub(crate) fn secure_boot(bytes: &[u8]) -> Result<bool> {
    let volume = front::<RawVolume>(bytes).filter(|volume| &volume.signature == b"_FVH");
    let Some(volume) = volume else {
        return Err(Error::corrupt(
            "at 0x28: expected a firmware volume, `_FVH`, found none",
        ));
    };
    let at = usize::from(volume.header_len.get());
    let rest = bytes.get(at..).unwrap_or_default();
    let store = front::<RawStore>(rest).filter(|store| store.guid == STORE_GUID);
    let Some(store) = store else {
        return Err(Error::corrupt(format!(
            "at {at:#x}: expected a store of authenticated variables, found none"
        )));
    };
    let size = usize::try_from(store.size.get()).unwrap_or(usize::MAX);
    let Some(mut variables) = rest
        .get(..size)
        .and_then(|store| store.get(size_of::<RawStore>()..))
    else {
        return Err(Error::corrupt(format!(
            "at {at:#x}: expected a store of {size:#x} bytes, found the end of the file"
        )));
    };
    let mut on = false;
    while let Some(variable) =
        front::<RawVariable>(variables).filter(|variable| variable.start == VARIABLE_START)
    {
        let len = |len: U32<LE>| usize::try_from(len.get()).unwrap_or(usize::MAX);
        let (name_len, data_len) = (len(variable.name_len), len(variable.data_len));
        let name_at = size_of::<RawVariable>();
        let end = name_at
            .checked_add(name_len)
            .and_then(|end| end.checked_add(data_len));
        let Some(whole) = end.and_then(|end| variables.get(..end)) else {
            let left = variables.len();
            return Err(Error::corrupt(format!(
                "expected a variable that ends within the store, found {left:#x} bytes less than it says"
            )));
        };
        let (name, data) = whole.get(name_at..).unwrap_or_default().split_at(name_len);
        let wanted = SECURE_BOOT_NAME.encode_utf16().chain([0]);
        if LIVE.contains(&variable.state)
            && variable.vendor == SECURE_BOOT_GUID
            && name.iter().copied().eq(wanted.flat_map(u16::to_le_bytes))
        {
            on = data.first() == Some(&1);
        }
        let next = whole.len().next_multiple_of(4);
        variables = variables.get(next..).unwrap_or_default();
    }
    Ok(on)
}

fn front<T: FromBytes + KnownLayout + Immutable>(bytes: &[u8]) -> Option<T> {
    T::read_from_prefix(bytes).ok().map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let ours = SECURE_BOOT_GUID;
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
        let whole = flash(&[(SECURE_BOOT_GUID, SECURE_BOOT_NAME, 0x3f, 1)]);
        assert!(secure_boot(&whole[..whole.len() - 1]).is_err());
        assert!(secure_boot(b"").is_err());
        let mut long = whole.clone();
        long[0x48 + 0x1c + 36..][..4].copy_from_slice(&[0xff; 4]);
        assert!(secure_boot(&long).is_err());
        for at in 0..0x100 {
            for value in [0, 0x7f, 0xff] {
                let mut mutant = whole.clone();
                mutant[at] = value;
                let _ = secure_boot(&mutant);
            }
        }
    }
}
