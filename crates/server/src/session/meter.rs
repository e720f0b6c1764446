//! Bytes a second over the last few seconds.

use std::time::{Duration, Instant};

const SLOT: Duration = Duration::from_millis(250);
const SLOTS: usize = 20;

/// A sliding window of 5 s in slots.
#[derive(Debug)]
pub(super) struct Meter {
    started: Instant,
    slots: [u64; SLOTS],
    /// Number of the newest slot, counted from the start.
    newest: u64,
    /// Number of the first slot that was used.
    first: Option<u64>,
}

impl Meter {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            started: now,
            slots: [0; SLOTS],
            newest: 0,
            first: None,
        }
    }

    /// Counts bytes.
    pub(super) fn add(&mut self, bytes: u64, now: Instant) {
        let slot = self.roll(now);
        self.first.get_or_insert(slot);
        let at = index(slot);
        self.slots[at] = self.slots[at].saturating_add(bytes);
    }

    /// Bytes a second; 0 when nothing came for 5 s.
    pub(super) fn rate(&mut self, now: Instant) -> u64 {
        let slot = self.roll(now);
        let Some(first) = self.first else {
            return 0;
        };
        let sum: u64 = self.slots.iter().fold(0, |sum, n| sum.saturating_add(*n));
        if sum == 0 {
            // The next bytes begin a new window; the pause before them does not dilute it.
            self.first = None;
            return 0;
        }
        let slots = (slot - first + 1).min(SLOTS as u64);
        let millis = u128::from(slots) * SLOT.as_millis();
        u64::try_from(u128::from(sum) * 1000 / millis).unwrap_or(u64::MAX)
    }

    /// Clears the slots that time has passed over.
    fn roll(&mut self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.started).as_millis();
        let slot = u64::try_from(elapsed / SLOT.as_millis()).unwrap_or(u64::MAX);
        let passed = slot.saturating_sub(self.newest).min(SLOTS as u64);
        for n in 0..passed {
            self.slots[index(slot - n)] = 0;
        }
        self.newest = self.newest.max(slot);
        self.newest
    }
}

fn index(slot: u64) -> usize {
    usize::try_from(slot % SLOTS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert_eq!(meter.rate(at(0)), 0);
        for tick in 0..100 {
            meter.add(1000, at(tick * 100));
        }
        let rate = meter.rate(at(9_999));
        assert!((9_000..=11_000).contains(&rate), "{rate}");
        // Half as fast after ten more seconds.
        for tick in 0..50 {
            meter.add(1000, at(10_000 + tick * 200));
        }
        let rate = meter.rate(at(19_999));
        assert!((4_500..=5_500).contains(&rate), "{rate}");
        assert_eq!(meter.rate(at(60_000)), 0);
        // A start is not diluted by the time before it.
        meter.add(1000, at(60_000));
        assert_eq!(meter.rate(at(60_001)), 4_000);
    }
}
