//! Bytes a second: one limit for a job, one that all jobs share.
//!
//! A limit is a clock of its own: the moment at which everything granted so far has been paid for. A grant moves that
//! moment on by what it costs and may be used once the moment before it has come, so a debt is always paid off and
//! grants come due in the order in which they were asked for. A job holds one grant at a time; so jobs that share a
//! limit take turns. Grants are estimates: what really crossed is settled afterwards.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What an idle limit saves up, as time: enough to go on without gaps, too little to be seen in a rate.
const SAVED: Duration = Duration::from_millis(100);
/// No single grant costs more time than this, however low the rate.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Bytes a second over several users.
#[derive(Debug)]
pub struct RateLimit {
    limited: Option<Limited>,
}

#[derive(Debug)]
struct Limited {
    bytes_a_second: u64,
    /// When all that was granted is paid for.
    paid: Mutex<Instant>,
}

impl RateLimit {
    /// `None` limits nothing.
    pub fn new(bytes_a_second: Option<u64>) -> Arc<Self> {
        let limited = bytes_a_second.map(|rate| Limited {
            bytes_a_second: rate.max(1),
            paid: Mutex::new(Instant::now()),
        });
        Arc::new(Self { limited })
    }

    /// Bytes a second; `None` without limit.
    pub(super) fn bytes_a_second(&self) -> Option<u64> {
        self.limited.as_ref().map(|limited| limited.bytes_a_second)
    }

    /// Grants `bytes`; they may be asked for from the returned moment on, `None` for at once.
    pub(super) fn grant(&self, bytes: u64, now: Instant) -> Option<Instant> {
        let limited = self.limited.as_ref()?;
        let mut paid = limited.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let start = match now.checked_sub(SAVED) {
            Some(earliest) => (*paid).max(earliest),
            None => *paid,
        };
        *paid = start.checked_add(limited.cost(bytes)).unwrap_or(start);
        (start > now).then_some(start)
    }

    /// Corrects a grant of `granted` bytes to the `used` that really crossed.
    pub(super) fn settle(&self, granted: u64, used: u64) {
        let Some(limited) = &self.limited else {
            return;
        };
        let mut paid = limited.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = if used >= granted {
            paid.checked_add(limited.cost(used - granted))
        } else {
            paid.checked_sub(limited.cost(granted - used))
        };
        *paid = changed.unwrap_or(*paid);
    }
}

impl Limited {
    fn cost(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_a_second);
        u64::try_from(nanos)
            .map_or(LONGEST, Duration::from_nanos)
            .min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn nothing_is_held_back_without_a_limit() {
        let limit = RateLimit::new(None);
        let now = Instant::now();
        assert_eq!(limit.grant(u64::MAX, now), None);
        limit.settle(1, 2);
    }

    #[test]
    fn grants_come_due_at_the_rate_and_debts_are_paid_off() {
        let limit = RateLimit::new(Some(10 * MIB));
        let now = Instant::now() + Duration::from_secs(5);
        let mut last = now;
        for _ in 0..101 {
            last = limit.grant(MIB, now).unwrap_or(now);
        }
        // The hundred grants before the last one take 10 s, less what was saved.
        let waited = (last - now).as_secs_f64();
        assert!((9.85..=9.95).contains(&waited), "{waited}");
        // Half of each was not used: the same again comes twice as early.
        limit.settle(101 * MIB, 50 * MIB);
        let next = limit.grant(MIB, now).unwrap();
        assert!(((next - now).as_secs_f64() - 4.9).abs() < 0.05);
    }

    #[test]
    fn the_slowest_rate_and_the_largest_grant_do_not_overflow() {
        for rate in [0, 1, u64::MAX] {
            let limit = RateLimit::new(Some(rate));
            limit.grant(u64::MAX, Instant::now());
            limit.grant(u64::MAX, Instant::now());
            limit.settle(u64::MAX, 0);
            limit.settle(0, u64::MAX);
        }
    }
}
