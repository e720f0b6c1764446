//! `$LogFile`: whether the volume was closed. Its first two pages are restart pages (`RSTR`), written in turn; an empty
//! one, all 0xff, is what formatting and ntfs-3g leave.
//!
//! ```text
//! page: 0 magic  10 system page size (u32)  18 offset of the restart area (u16)  1c major version (u16)
//! area: 0 current LSN (u64)  0c client in use (u16, 0xffff: none)  0e flags (u16): 2 = volume is clean
//! ```

use super::{Result, u16_at, u32_at, u64_at};

/// No client has the journal open.
const NO_CLIENT: u16 = 0xffff;
const IS_CLEAN: u16 = 0x0002;
/// Where the second restart page is, in the pages that Windows makes.
const PAGE: usize = 4096;
/// What has to be read of the journal.
pub(super) const LEN: usize = 2 * PAGE;

/// True when the journal's beginning says that nothing is to be replayed.
pub(super) fn is_closed(start: &[u8]) -> bool {
    let first = restart(start);
    let second_at = match &first {
        Some(page) => page.size,
        None => PAGE,
    };
    let second = start.get(second_at..).and_then(restart);
    let latest = [first, second]
        .into_iter()
        .flatten()
        .max_by_key(|page| page.lsn);
    match latest {
        Some(page) => page.client == NO_CLIENT || page.flags & IS_CLEAN != 0,
        // Nothing of it is a restart page: empty, or a journal that Windows would make anew.
        None => start.iter().all(|byte| *byte == 0xff),
    }
}

struct Restart {
    size: usize,
    lsn: u64,
    client: u16,
    flags: u16,
}

fn restart(page: &[u8]) -> Option<Restart> {
    let parse = || -> Result<Restart> {
        let area = usize::from(u16_at(page, 0x18)?);
        Ok(Restart {
            size: u32_at(page, 0x10)? as usize,
            lsn: u64_at(page, area)?,
            client: u16_at(page, area + 0x0c)?,
            flags: u16_at(page, area + 0x0e)?,
        })
    };
    // `CHKD`: chkdsk was the last to write it.
    if !page.starts_with(b"RSTR") && !page.starts_with(b"CHKD") {
        return None;
    }
    parse().ok()
}

/// A restart page, for tests.
#[cfg(test)]
pub(super) fn page(lsn: u64, client: u16, flags: u16) -> Vec<u8> {
    let mut page = vec![0u8; PAGE];
    let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"RSTR");
    // 9 update sequence numbers at 0x1e.
    put(4, &0x1eu16.to_le_bytes());
    put(6, &9u16.to_le_bytes());
    put(0x10, &4096u32.to_le_bytes());
    put(0x14, &4096u32.to_le_bytes());
    put(0x18, &0x30u16.to_le_bytes());
    put(0x1a, &1u16.to_le_bytes());
    put(0x1c, &1u16.to_le_bytes());
    let area = 0x30;
    put(area, &lsn.to_le_bytes());
    put(area + 8, &1u16.to_le_bytes());
    put(area + 0x0a, &NO_CLIENT.to_le_bytes());
    put(area + 0x0c, &client.to_le_bytes());
    put(area + 0x0e, &flags.to_le_bytes());
    // Bits of a sequence number: 67 less those of the size.
    put(area + 0x10, &40u32.to_le_bytes());
    // Length of the area, offset of its clients.
    put(area + 0x14, &0xe0u16.to_le_bytes());
    put(area + 0x16, &0x40u16.to_le_bytes());
    put(area + 0x18, &0x0400_0000u64.to_le_bytes());
    put(area + 0x24, &0x30u16.to_le_bytes());
    put(area + 0x26, &0x40u16.to_le_bytes());
    // The one client: no other before or behind it, called NTFS.
    put(area + 0x40 + 0x10, &NO_CLIENT.to_le_bytes());
    put(area + 0x40 + 0x12, &NO_CLIENT.to_le_bytes());
    put(area + 0x40 + 0x1c, &8u32.to_le_bytes());
    put(area + 0x40 + 0x20, b"N\0T\0F\0S\0");
    // The update sequence is 1, and what it replaces are zeroes.
    put(0x1e, &1u16.to_le_bytes());
    for sector in 1..=8 {
        put(sector * 512 - 2, &1u16.to_le_bytes());
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_restart_page_counts() {
        let both = |first: Vec<u8>, second: Vec<u8>| is_closed(&[first, second].concat());
        assert!(both(page(1, NO_CLIENT, 0), page(2, NO_CLIENT, 0)));
        assert!(!both(page(1, NO_CLIENT, 0), page(2, 0, 0)));
        assert!(both(page(3, NO_CLIENT, 0), page(2, 0, 0)));
        assert!(both(page(1, 0, 0), page(2, 0, IS_CLEAN)));
        assert!(!both(vec![0xff; PAGE], page(2, 0, 0)));
    }

    #[test]
    fn an_empty_journal_is_closed_and_a_strange_one_is_not() {
        assert!(is_closed(&[0xff; LEN]));
        assert!(!is_closed(&[0; LEN]));
        assert!(!is_closed(b"RSTR"));
    }
}
