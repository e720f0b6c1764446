//! Marvin32, the checksum of log entries (US patent 20130262421; SymCrypt's `Marvin32`).

/// Seed of registry logs, the bytes 82 EF 4D 88 7A 4E 55 C5 (regf specification, "Log entries", note 3).
pub(crate) const SEED: u64 = 0xc555_4e7a_884d_ef82;

/// The 64-bit hash; stored little-endian.
pub(crate) fn hash(seed: u64, data: &[u8]) -> u64 {
    let [a, b, c, d, e, f, g, h] = seed.to_le_bytes();
    let mut state = State {
        low: u32::from_le_bytes([a, b, c, d]),
        high: u32::from_le_bytes([e, f, g, h]),
    };
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        state.add(u32::from_le_bytes(*word));
    }
    // What is left of a word ends with a byte 0x80.
    let last = rest
        .iter()
        .rev()
        .fold(0x80, |word, byte| (word << 8) | u32::from(*byte));
    state.add(last);
    state.add(0);
    u64::from(state.high) << 32 | u64::from(state.low)
}

struct State {
    low: u32,
    high: u32,
}

impl State {
    fn add(&mut self, word: u32) {
        self.low = self.low.wrapping_add(word);
        self.high ^= self.low;
        self.low = self.low.rotate_left(20).wrapping_add(self.high);
        self.high = self.high.rotate_left(9) ^ self.low;
        self.low = self.low.rotate_left(27).wrapping_add(self.high);
        self.high = self.high.rotate_left(19);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_vectors_agree() {
        // Vectors that SymCrypt, .NET and others test with.
        let seed = 0x004f_b61a_001b_dbcc;
        for (data, expected) in [
            (&[][..], 0x30ed_35c1_00cd_3c7d),
            (&[0xaf], 0x48e7_3fc7_7d75_ddc1),
            (&[0xe7, 0x0f], 0xb5f6_e1fc_485d_bff8),
            (&[0x37, 0xf4, 0x95], 0xf0b0_7c78_9b8c_f7e8),
        ] {
            assert_eq!(hash(seed, data), expected, "{data:x?}");
        }
    }
}
