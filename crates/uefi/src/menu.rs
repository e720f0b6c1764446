//! The boot menu: `BootOrder` lists the numbers of the `Boot####` variables that the firmware tries (UEFI 2.10, 3.1 and 3.3).

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::load_option::LoadOption;
use crate::store::{self, Store, Variable};
use types::Guid;

/// EFI_GLOBAL_VARIABLE (UEFI 2.10, 3.3).
pub const GLOBAL: Guid = Guid::of(0x8be4df61_93ca_11d2_aa0d_00e098032b8c);
/// Numbers of the entries that are tried, each 16 bits.
const ORDER: &str = "BootOrder";
/// EFI_VARIABLE_NON_VOLATILE, _BOOTSERVICE_ACCESS and _RUNTIME_ACCESS (UEFI 2.10, 8.2.1), as 3.3 has them for both.
const ATTRIBUTES: u32 = 1 | 1 << 1 | 1 << 2;
/// Entries that are read: no machine has more.
const MAX_ENTRIES: usize = 256;

/// The active entries of a flash, in the order in which they are tried: raw load options.
pub fn read(flash: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut live = Vec::new();
    for variable in store::variables(flash)? {
        let variable = variable?;
        if variable.is_live() && variable.vendor == GLOBAL && live.len() < MAX_ENTRIES {
            live.push(variable);
        }
    }
    let order = newest(&live, ORDER).unwrap_or_default();
    let entries = numbers(order)
        .filter_map(|number| newest(&live, &name(number)))
        .filter(|bytes| LoadOption::parse(bytes).is_ok_and(|option| option.is_active()));
    Ok(entries.map(<[u8]>::to_vec).collect())
}

/// Adds these entries; they are tried before those that are there.
pub fn add(store: &mut Store, entries: &[Vec<u8>]) -> Result<()> {
    let old = store.get(GLOBAL, ORDER).unwrap_or_default().to_vec();
    let mut order = Vec::new();
    let mut numbers = 0..=u16::MAX;
    for entry in entries {
        let number = numbers
            .find(|&number| store.get(GLOBAL, &name(number)).is_none())
            .ok_or(Error::TooMany)?;
        store.set(GLOBAL, &name(number), ATTRIBUTES, entry)?;
        order.extend(number.to_le_bytes());
    }
    order.extend(old);
    store.set(GLOBAL, ORDER, ATTRIBUTES, &order)
}

fn newest<'a>(live: &[Variable<'a>], name: &str) -> Option<&'a [u8]> {
    store::newest(live.iter().copied(), GLOBAL, name)
}

fn name(number: u16) -> String {
    format!("Boot{number:04X}")
}

/// Each number once.
fn numbers(order: &[u8]) -> impl Iterator<Item = u16> {
    let mut seen = BTreeSet::new();
    order
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .filter(move |&number| seen.insert(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device_path::{HardDrive, Signature};
    use crate::store::Layout;

    fn entry(description: &str) -> Vec<u8> {
        let drive = HardDrive {
            number: 1,
            start_blocks: 2048,
            size_blocks: 204_800,
            signature: Signature::Mbr(7),
        };
        let option = LoadOption::new(description, &drive, r"\x.efi", Vec::new());
        option.unwrap().to_bytes()
    }

    #[test]
    fn a_menu_reads_back_in_its_order_and_goes_before_an_older_one() {
        let mut store = Store::empty(Layout::Ovmf4M);
        add(&mut store, &[entry("a"), entry("b")]).unwrap();
        assert_eq!(read(store.bytes()).unwrap(), [entry("a"), entry("b")]);
        add(&mut store, &[entry("c")]).unwrap();
        assert_eq!(store.get(GLOBAL, "Boot0002"), Some(&entry("c")[..]));
        let all = [entry("c"), entry("a"), entry("b")];
        assert_eq!(read(store.bytes()).unwrap(), all);
    }

    #[test]
    fn entries_that_are_off_damaged_absent_or_listed_twice_are_left_out() {
        let mut store = Store::empty(Layout::Ovmf2M);
        let mut off = entry("off");
        off[0] = 0;
        for (number, bytes) in [(0, off), (1, vec![1, 0]), (2, entry("on"))] {
            store
                .set(GLOBAL, &name(number), ATTRIBUTES, &bytes)
                .unwrap();
        }
        let order = [0, 0, 1, 0, 2, 0, 2, 0, 9, 0, 9];
        store.set(GLOBAL, ORDER, ATTRIBUTES, &order).unwrap();
        assert_eq!(read(store.bytes()).unwrap(), [entry("on")]);
        let nothing = Store::empty(Layout::Ovmf2M);
        assert_eq!(read(nothing.bytes()).unwrap(), Vec::<Vec<u8>>::new());
    }
}
