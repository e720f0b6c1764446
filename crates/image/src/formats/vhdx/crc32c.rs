//! CRC-32C (Castagnoli), the checksum of every VHDX structure: MS-VHDX 2.2.2, 2.2.3, 2.3.1.1.

/// The polynomial 0x1EDC6F41, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// What each value of a byte does to the remainder.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0u32;
    while byte < 256 {
        let mut crc = byte;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
            bit += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
};

/// Where the checksum lies in each of the structures that have one.
const FIELD: std::ops::Range<usize> = 4..8;

/// The checksum of a structure, its own field at byte 4 taken for zero. `bytes` is longer than the field.
/// For the fuzzer every structure has the right one.
pub(super) fn of_structure(bytes: &[u8]) -> u32 {
    if cfg!(fuzzing)
        && let Ok(stored) = bytes[FIELD].try_into()
    {
        return u32::from_le_bytes(stored);
    }
    let parts = [&bytes[..FIELD.start], &[0; 4], &bytes[FIELD.end..]];
    !parts.into_iter().fold(!0, update)
}

fn update(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, byte| {
        (crc >> 8) ^ TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_come_out() {
        // RFC 3720, B.4.
        assert_eq!(!update(!0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(!update(!0, &[0xff; 32]), 0x62a8_ab43);
        assert_eq!(!update(!0, b"123456789"), 0xe306_9283);
        assert_eq!(
            of_structure(b"head\xff\xff\xff\xffrest"),
            !update(!0, b"head\0\0\0\0rest")
        );
    }
}
