//! Run lists ("mapping pairs"): each run is a byte with the lengths of two numbers, its count of clusters, and the distance
//! of its first cluster from the last run's; without a distance it is a hole. A zero byte ends the list.

use super::{Result, corrupt};

/// A run of clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first; `None` for a hole.
    pub first: Option<u64>,
    /// How many.
    pub clusters: u64,
}

/// Decodes a run list; all of it lies within a volume of `total` clusters.
pub(super) fn decode(mut pairs: &[u8], total: u64) -> Result<Vec<Extent>> {
    let short = || corrupt("a run list ends before its end");
    let (mut extents, mut last, mut sum) = (Vec::new(), 0i64, 0u64);
    loop {
        let (head, rest) = pairs.split_first().ok_or_else(short)?;
        if *head == 0 {
            return Ok(extents);
        }
        let (count_len, delta_len) = (usize::from(head & 0x0f), usize::from(head >> 4));
        let (count, rest) = rest.split_at_checked(count_len).ok_or_else(short)?;
        let (delta, rest) = rest.split_at_checked(delta_len).ok_or_else(short)?;
        pairs = rest;
        let clusters = u64::try_from(signed(count)?)
            .ok()
            .filter(|count| *count > 0)
            .ok_or_else(|| corrupt("a run without clusters"))?;
        // The sum of all cannot overflow.
        sum = sum
            .checked_add(clusters)
            .filter(|sum| *sum <= 1 << 62)
            .ok_or_else(|| corrupt("a run list longer than any volume"))?;
        let first = if delta.is_empty() {
            None
        } else {
            last = last
                .checked_add(signed(delta)?)
                .ok_or_else(|| corrupt("a run outside of the volume"))?;
            let first = u64::try_from(last).ok();
            let inside =
                first.filter(|first| first.checked_add(clusters).is_some_and(|end| end <= total));
            Some(inside.ok_or_else(|| {
                corrupt(format!(
                    "a run of {clusters} clusters at {last}, of {total}"
                ))
            })?)
        };
        extents.push(Extent { first, clusters });
    }
}

/// A little-endian number of 1 to 8 bytes with a sign.
fn signed(bytes: &[u8]) -> Result<i64> {
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut all = [if negative { 0xff } else { 0 }; 8];
    match (bytes.len(), all.get_mut(..bytes.len())) {
        (1.., Some(place)) => place.copy_from_slice(bytes),
        _ => return Err(corrupt(format!("a number of {} bytes", bytes.len()))),
    }
    Ok(i64::from_le_bytes(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: Option<u64>, clusters: u64) -> Extent {
        Extent { first, clusters }
    }

    #[test]
    fn runs_go_forth_and_back_and_have_holes() {
        // 0x18 clusters at 0x5634, a hole of 8, 2 clusters 0x10 before.
        let pairs = [0x21, 0x18, 0x34, 0x56, 0x01, 0x08, 0x11, 0x02, 0xf0, 0];
        assert_eq!(
            decode(&pairs, 0x10000).unwrap(),
            [run(Some(0x5634), 0x18), run(None, 8), run(Some(0x5624), 2)]
        );
        assert_eq!(decode(&[0], 1).unwrap(), []);
    }

    #[test]
    fn runs_outside_of_the_volume_are_refused() {
        for bad in [
            &[0x21, 0x18, 0x34, 0x56, 0][..],   // ends behind the volume
            &[0x11, 0x01, 0xff, 0],             // begins before it
            &[0x11, 0x00, 0x01, 0],             // no clusters
            &[0x11, 0x80, 0x01, 0],             // a negative number of them
            &[0x11, 0x01],                      // cut
            &[],                                // no end
            &[0x1f, 1, 1, 1, 1, 1, 1, 1, 1, 1], // numbers of 15 bytes
            &[0x10, 1, 0],                      // no count
        ] {
            assert!(decode(bad, 0x5000).is_err(), "{bad:x?}");
        }
        let long = [
            0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0x01, 0,
        ];
        assert!(decode(&long, u64::MAX).is_err());
    }
}
