//! The SMBIOS structure table (DMTF DSP0134 3.7): memory devices.

use std::collections::BTreeMap;

use super::read::le;

/// Structures that are looked at; a large server has a few hundred.
const MAX_STRUCTURES: usize = 16 << 10;
const TYPE_MEMORY_ARRAY: u8 = 16;
const TYPE_MEMORY_DEVICE: u8 = 17;
const TYPE_END: u8 = 127;
/// Use of a memory array (section 7.17.2).
const USE_SYSTEM_MEMORY: u8 = 3;

/// One structure: its type, handle and formatted area with the header; strings are skipped.
struct Structure<'a> {
    kind: u8,
    handle: u16,
    data: &'a [u8],
}

/// Splits the table (section 6.1.2). What is cut off ends it.
fn structures(table: &[u8]) -> Vec<Structure<'_>> {
    let mut all = Vec::new();
    let mut rest = table;
    while all.len() < MAX_STRUCTURES {
        let (Some(&kind), Some(&len), Some(handle)) = (rest.first(), rest.get(1), le::u16(rest, 2))
        else {
            break;
        };
        let len = usize::from(len);
        let Some(data) = rest.get(..len).filter(|_| len >= 4 && kind != TYPE_END) else {
            break;
        };
        all.push(Structure { kind, handle, data });
        // The strings end with two zero bytes.
        let strings = rest.get(len..).unwrap_or_default();
        let Some(end) = strings.windows(2).position(|pair| pair == [0, 0]) else {
            break;
        };
        rest = strings.get(end + 2..).unwrap_or_default();
    }
    all
}

/// Sum of the memory devices of the system's memory, in bytes; 0 where there is none.
pub(crate) fn memory_bytes(table: &[u8]) -> u64 {
    let all = structures(table);
    let uses: BTreeMap<u16, u8> = all
        .iter()
        .filter(|s| s.kind == TYPE_MEMORY_ARRAY)
        .filter_map(|s| Some((s.handle, *s.data.get(0x05)?)))
        .collect();
    all.iter()
        .filter(|s| s.kind == TYPE_MEMORY_DEVICE)
        .filter(|s| {
            let array = le::u16(s.data, 0x04);
            let purpose = array.and_then(|handle| uses.get(&handle));
            purpose.is_none_or(|&purpose| purpose == USE_SYSTEM_MEMORY)
        })
        .filter_map(|s| device_bytes(s.data))
        .fold(0, u64::saturating_add)
}

/// Section 7.18: size in MiB, or in KiB with bit 15; 0x7fff: the extended size in MiB; 0xffff: unknown.
fn device_bytes(data: &[u8]) -> Option<u64> {
    const EXTENDED: u16 = 0x7fff;
    const UNKNOWN: u16 = 0xffff;
    const IN_KIB: u16 = 0x8000;
    match le::u16(data, 0x0c)? {
        UNKNOWN => None,
        EXTENDED => {
            let mib = le::u32(data, 0x1c)? & 0x7fff_ffff;
            Some(u64::from(mib) << 20)
        }
        size if size & IN_KIB != 0 => Some(u64::from(size & !IN_KIB) << 10),
        size => Some(u64::from(size) << 20),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One structure with its strings.
    pub(crate) fn structure(kind: u8, handle: u16, body: &[u8]) -> Vec<u8> {
        let mut all = vec![kind, u8::try_from(4 + body.len()).unwrap()];
        all.extend(handle.to_le_bytes());
        all.extend(body);
        all.extend(b"DIMM A1\0\0");
        all
    }

    /// A memory device of the array 0x1000.
    pub(crate) fn device(array: u16, size: u16, extended_mib: u32) -> Vec<u8> {
        let mut body = vec![0u8; 0x24];
        body[0..2].copy_from_slice(&array.to_le_bytes());
        body[8..10].copy_from_slice(&size.to_le_bytes());
        body[0x18..0x1c].copy_from_slice(&extended_mib.to_le_bytes());
        structure(TYPE_MEMORY_DEVICE, 0x1100, &body)
    }

    pub(crate) fn array(handle: u16, purpose: u8) -> Vec<u8> {
        structure(TYPE_MEMORY_ARRAY, handle, &[3, purpose, 6, 0, 0])
    }

    fn table() -> Vec<u8> {
        [
            structure(0, 0, &[1, 2, 3]),
            array(0x1000, USE_SYSTEM_MEMORY),
            array(0x1001, 5),
            device(0x1000, 16384, 0),
            device(0x1000, 0x7fff, 65536),
            device(0x1000, 0, 0),
            device(0x1000, 0xffff, 0),
            device(0x1000, 0x8000 | 512, 0),
            // Flash.
            device(0x1001, 64, 0),
            vec![TYPE_END, 4, 0, 0, 0, 0],
            device(0x1000, 16384, 0),
        ]
        .concat()
    }

    #[test]
    fn memory_devices_add_up_in_all_three_forms() {
        assert_eq!(
            memory_bytes(&table()),
            (16 << 30) + (64 << 30) + (512 << 10)
        );
    }

    #[test]
    fn damaged_tables_are_read_without_harm() {
        let good = table();
        for cut in 0..good.len() {
            memory_bytes(&good[..cut]);
        }
        for at in 0..good.len() {
            for value in [0, 1, 3, 4, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                memory_bytes(&bad);
            }
        }
        assert_eq!(memory_bytes(&[0xff; 4096]), 0);
        assert_eq!(memory_bytes(&[17, 4].repeat(1 << 16)), 0);
    }
}
