//! Checksums of structures whose algorithm is known by hearsay only.
//!
//! A structure is hashed with its checksum field zero (D). That it is a CRC of 32 bits is likely (S, and the name of
//! the field). So the algorithm is taken from the file: the one of the usual CRCs that the file's own header obeys is
//! the file's, and every structure of a kind must obey it as soon as one of the kind does. Where nothing obeys any,
//! the file is read with a warning, because refusing every real file would help nobody.

/// A CRC of 32 bits, reflected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Algorithm {
    polynomial: u32,
    initial: u32,
    last: u32,
}

/// CRC-32 (IEEE 802.3) and CRC-32C (Castagnoli), each with and without the usual inversion at the ends.
const ALGORITHMS: [Algorithm; 8] = {
    const IEEE: u32 = 0xedb8_8320;
    const CASTAGNOLI: u32 = 0x82f6_3b78;
    const fn of(polynomial: u32, initial: u32, last: u32) -> Algorithm {
        Algorithm {
            polynomial,
            initial,
            last,
        }
    }
    [
        of(IEEE, !0, !0),
        of(CASTAGNOLI, !0, !0),
        of(IEEE, 0, !0),
        of(IEEE, 0, 0),
        of(IEEE, !0, 0),
        of(CASTAGNOLI, 0, !0),
        of(CASTAGNOLI, 0, 0),
        of(CASTAGNOLI, !0, 0),
    ]
};

impl Algorithm {
    /// The one that gives `stated` for `bytes`, whose field of 4 bytes at `field` counts as zero.
    pub(super) fn of(bytes: &[u8], field: usize, stated: u32) -> Option<Self> {
        ALGORITHMS
            .into_iter()
            .find(|algorithm| algorithm.run(bytes, field) == stated)
    }

    fn run(self, bytes: &[u8], field: usize) -> u32 {
        let mut crc = self.initial;
        for (place, &byte) in bytes.iter().enumerate() {
            let zeroed = (field..field.saturating_add(4)).contains(&place);
            crc ^= u32::from(if zeroed { 0 } else { byte });
            for _ in 0..8 {
                let bit = crc & 1;
                crc = (crc >> 1) ^ (self.polynomial * bit);
            }
        }
        crc ^ self.last
    }
}

/// What the checksums of one kind of structure said.
#[derive(Debug)]
pub(super) struct Tally {
    algorithm: Option<Algorithm>,
    good: usize,
    bad: Option<usize>,
}

impl Tally {
    /// Nothing yet; without an algorithm nothing will be.
    pub(super) fn new(algorithm: Option<Algorithm>) -> Self {
        Self {
            algorithm,
            good: 0,
            bad: None,
        }
    }

    /// Notes the structure at `offset` of the file.
    pub(super) fn note(&mut self, bytes: &[u8], field: usize, stated: u32, offset: usize) {
        let Some(algorithm) = self.algorithm else {
            return;
        };
        if algorithm.run(bytes, field) == stated {
            self.good += 1;
        } else {
            self.bad.get_or_insert(offset);
        }
    }

    /// A structure whose checksum is wrong, where others of its kind are right.
    pub(super) fn damaged(&self) -> Option<usize> {
        self.bad.filter(|_| self.good > 0)
    }

    /// True when none of the kind was right.
    pub(super) fn is_unknown(&self) -> bool {
        self.good == 0 && self.bad.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_check_values_tell_the_algorithms() {
        let with_field = b"123456789\xff\xff\xff\xff";
        let ieee = Algorithm::of(b"123456789", 100, 0xcbf4_3926).unwrap();
        assert_eq!(ieee, ALGORITHMS[0]);
        assert_eq!(
            Algorithm::of(b"123456789", 100, 0xe306_9283),
            Some(ALGORITHMS[1])
        );
        assert_eq!(Algorithm::of(b"123456789", 100, 1), None);
        assert_eq!(
            ieee.run(with_field, 9),
            ieee.run(b"123456789\0\0\0\0", 100),
            "the field counts as zero"
        );
    }

    #[test]
    fn one_good_structure_condemns_the_others() {
        let mut tally = Tally::new(Some(ALGORITHMS[0]));
        tally.note(b"123456789", 100, 1, 0x10);
        assert!(tally.is_unknown() && tally.damaged().is_none());
        tally.note(b"123456789", 100, 0xcbf4_3926, 0x20);
        assert_eq!(tally.damaged(), Some(0x10));
    }
}
