//! Marvin32, the checksum of log entries (US patent 20130262421; SymCrypt's `Marvin32`).

/// Seed of registry logs (regf specification, "Log entries", note 3, which gives its bytes with the highest first: real logs
/// are valid to readers that take it so).
pub(crate) const SEED: u64 = 0x82ef_4d88_7a4e_55c5;

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

    #[test]
    fn an_entry_of_windows_10_agrees() {
        // The header of a log entry of a real SYSTEM.LOG1, and its second hash.
        let mut header = b"HvLE".to_vec();
        for field in [11_776u32, 1, 4064, 16_445_440, 2] {
            header.extend(field.to_le_bytes());
        }
        header.extend(9_224_533_926_344_046_332_u64.to_le_bytes());
        assert_eq!(hash(SEED, &header), 17_775_315_420_625_959_254);
    }
}
