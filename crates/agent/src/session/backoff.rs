//! Pauses between attempts.

use std::time::Duration;

use super::random;

/// The first pause, where nothing else is said.
pub(crate) const FIRST: Duration = Duration::from_millis(500);
const MOST: Duration = Duration::from_secs(15);

/// 0.5 s, doubled up to 15 s; each pause is between half of that and all of it, so that many machines do not come back
/// in step.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(first: Duration) -> Self {
        Self { first, next: first }
    }

    /// After a success.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }

    pub(super) fn next(&mut self) -> Duration {
        let whole = self.next;
        self.next = (self.next * 2).min(MOST);
        let [random] = random::bytes::<1>().unwrap_or_default();
        whole / 2 + whole * u32::from(random) / 512
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_their_bound_and_start_again() {
        let mut backoff = Backoff::new(FIRST);
        for expected in [500, 1000, 2000, 4000, 8000, 15000, 15000] {
            let pause = backoff.next();
            let whole = Duration::from_millis(expected);
            assert!(
                pause >= whole / 2 && pause <= whole,
                "{pause:?} of {whole:?}"
            );
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
