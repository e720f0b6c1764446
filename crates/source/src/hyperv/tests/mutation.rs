//! Damaged configurations: whatever the bytes, the reader answers or refuses, soon. A panic fails the test by itself.

use std::time::{Duration, Instant};

use super::builder::{Layout, vmcx};
use super::sample;
use crate::hyperv::parse;

/// Mutants of each file.
const ROUNDS: u32 = 4000;

/// xorshift64*.
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % end
    }
}

#[test]
fn damaged_configurations_neither_panic_nor_hang() {
    let keys = sample::generation_2();
    let plain = Layout {
        checksums: false,
        ..Layout::default()
    };
    let files = [
        vmcx(&keys, &plain),
        vmcx(
            &keys,
            &Layout {
                big: 20,
                keys_a_table: 9,
                second_table: Some(5),
                ..plain
            },
        ),
        sample::xml_utf16(&keys),
        sample::xml(&keys).into_bytes(),
    ];
    let mut rng = Rng(42);
    let (mut read, mut refused, mut slowest) = (0, 0, Duration::ZERO);
    for file in &files {
        // Half of the changes hit bytes that are not zero: the structures.
        let used: Vec<usize> = (0..file.len()).filter(|&at| file[at] != 0).collect();
        for _ in 0..ROUNDS {
            let mut mutant = file.clone();
            for _ in 0..=rng.below(3) {
                let at = match rng.below(2) {
                    0 => used[rng.below(used.len())],
                    _ => rng.below(mutant.len()),
                };
                mutant[at] = match rng.below(4) {
                    0 => mutant[at] ^ (1 << rng.below(8)),
                    1 => 0xff,
                    2 => 0,
                    _ => u8::try_from(rng.below(256)).unwrap(),
                };
            }
            if rng.below(10) == 0 {
                let len = rng.below(mutant.len());
                mutant.truncate(len);
            }
            let start = Instant::now();
            match parse(&mutant) {
                Ok(_) => read += 1,
                Err(_) => refused += 1,
            }
            slowest = slowest.max(start.elapsed());
        }
    }
    println!("{read} read, {refused} refused, slowest {slowest:?}");
    assert!(
        read > 500 && refused > 500,
        "{read} read, {refused} refused: the mutations miss"
    );
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
}
