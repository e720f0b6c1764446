//! Whether the hardware clock holds UTC. /etc/adjtime would say it, but nothing is mounted: the systems that seem to be
//! installed are the guess, and a hardware clock that is whole quarters of an hour away from a system clock that the
//! network has set.

use std::time::{SystemTime, UNIX_EPOCH};

use wire::inventory::{Clock, OsGuess};

use super::Paths;
use super::guesses::WINDOWS;
use super::sysfs;

/// Offsets from UTC are whole quarters of an hour, at most 14 hours.
const QUARTER_SECONDS: i64 = 15 * 60;
const MAX_OFFSET_SECONDS: i64 = 14 * 3600;
/// How far a hardware clock may be off and still count as right, in seconds.
const DRIFT_SECONDS: i64 = 120;

/// The guess.
pub(crate) fn clock(paths: &Paths, guesses: &[OsGuess]) -> Clock {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    let now = now.and_then(|now| i64::try_from(now.as_secs()).ok());
    let rtc = sysfs::text(paths.sys.join("class/rtc/rtc0/since_epoch"));
    let rtc: Option<i64> = rtc.and_then(|text| text.parse().ok());
    let offset = now
        .zip(rtc)
        .and_then(|(now, rtc)| zone(rtc.checked_sub(now)?));
    let is = |guess: &OsGuess| guess.product_name.starts_with(WINDOWS);
    let utc = match (offset, guesses) {
        (Some(_), _) => Some(false),
        (None, []) => None,
        // Windows beside Linux: Linux can be told either way, Windows seldom is.
        (None, guesses) => Some(!guesses.iter().any(is)),
    };
    Clock {
        utc,
        offset_seconds: offset.unwrap_or_default(),
    }
}

/// The offset of a time zone that a difference is near to; `None` for no difference and for none that a zone has.
fn zone(difference: i64) -> Option<i64> {
    if difference.checked_abs()? > MAX_OFFSET_SECONDS + DRIFT_SECONDS {
        return None;
    }
    let quarters = (difference + QUARTER_SECONDS.div_euclid(2)).div_euclid(QUARTER_SECONDS);
    let zone = quarters * QUARTER_SECONDS;
    ((difference - zone).abs() <= DRIFT_SECONDS && zone != 0).then_some(zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_quarters_of_an_hour_are_time_zones() {
        assert_eq!(zone(7200 + 30), Some(7200));
        assert_eq!(zone(-5 * 3600 - 100), Some(-5 * 3600));
        assert_eq!(zone(20700), Some(20700), "Nepal");
        assert_eq!(zone(60), None);
        assert_eq!(zone(1200), None);
        assert_eq!(zone(10 * 365 * 86400), None);
        assert_eq!(zone(i64::MIN), None);
    }
}
