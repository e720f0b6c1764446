//! Numbers, times and foreign text as people read them; the web page and the command line say them the same way.

use std::borrow::Cow;

/// Longest foreign text that is shown, in characters: a log line or a vendor string is far below it.
const MAX_TEXT: usize = 4096;

/// Three significant digits: `512 B`, `1.38 MiB`, `0.98 GiB` at most 4 characters before the unit.
#[expect(
    clippy::cast_precision_loss,
    reason = "three digits are shown of at most 64 bits"
)]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = match value {
        _ if unit == 0 => 0,
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// Bytes a second: `48.2 MiB/s`.
pub fn rate(bytes_a_second: u64) -> String {
    format!("{}/s", size(bytes_a_second))
}

/// Whole percent of `total`, rounded down so that 100 means all of it; `None` while the total is not known.
pub fn percent(done: u64, total: u64) -> Option<u64> {
    let of = u128::from(done.min(total)) * 100;
    of.checked_div(u128::from(total))
        .and_then(|percent| u64::try_from(percent).ok())
}

/// The two largest units of a time: `45 s`, `12 min`, `3 h 5 min`, `2 d 4 h`.
pub fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min"),
        3600..86400 if minutes % 60 == 0 => format!("{hours} h"),
        3600..86400 => format!("{hours} h {} min", minutes % 60),
        _ if hours % 24 == 0 => format!("{days} d"),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// `YYYY-MM-DD HH:MM:SS UTC` of milliseconds since 1970.
pub fn utc(unix_ms: u64) -> String {
    let (date, time) = date_and_time(unix_ms);
    format!("{date} {time} UTC")
}

/// RFC 3339 of milliseconds since 1970, to the second.
pub fn rfc3339(unix_ms: u64) -> String {
    let (date, time) = date_and_time(unix_ms);
    format!("{date}T{time}Z")
}

/// `HH:MM:SS` of milliseconds since 1970, in UTC.
pub fn time_of_day(unix_ms: u64) -> String {
    date_and_time(unix_ms).1
}

fn date_and_time(unix_ms: u64) -> (String, String) {
    let seconds = unix_ms / 1000;
    let (days, time) = (seconds / 86400, seconds % 86400);
    // Days since 0000-03-01: with March first, the leap day is the last of its year. 146097 days make 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months of 30.6 days from March on give the lengths 31 30 31 30 31 31 30 31 30 31 31.
    let march_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (
        format!("{year:04}-{month:02}-{day_of_month:02}"),
        format!("{:02}:{:02}:{:02}", time / 3600, time / 60 % 60, time % 60),
    )
}

/// Text of a machine, safe to print: what moves a cursor, starts an escape sequence or turns the direction of writing
/// becomes U+FFFD, and what is too long is cut.
pub fn clean(text: &str) -> Cow<'_, str> {
    let hostile = |c: char| {
        c.is_control()
            // Marks, embeddings, overrides and isolates of Unicode's bidirectional algorithm (UAX #9, section 2),
            // line and paragraph separators.
            || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.chars().any(hostile) && text.len() <= MAX_TEXT {
        return Cow::Borrowed(text);
    }
    let mut out: String = text
        .chars()
        .take(MAX_TEXT)
        .map(|c| if hostile(c) { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(MAX_TEXT).is_some() {
        out.push('…');
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "0.98 KiB"),
            (1024, "1.00 KiB"),
            (1_441_792, "1.38 MiB"),
            (10 << 20, "10.0 MiB"),
            (240 << 30, "240 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(rate(50 << 20), "50.0 MiB/s");
    }

    #[test]
    fn percents_say_all_only_when_all_is_done() {
        assert_eq!(percent(999, 1000), Some(99));
        assert_eq!(percent(1000, 1000), Some(100));
        assert_eq!(percent(u64::MAX, 1000), Some(100));
        assert_eq!(percent(5, 0), None);
    }

    #[test]
    fn times_are_civil_and_in_utc() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_399_999), "2000-02-28 23:59:59 UTC");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(time_of_day(1_795_272_874_000), "14:54:34");
        assert_eq!(rfc3339(4_107_542_400_000), "2100-03-01T00:00:00Z");
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (725, "12 min"),
            (3600, "1 h"),
            (11_100, "3 h 5 min"),
            (187_200, "2 d 4 h"),
            (u64::MAX, "213503982334601 d 7 h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
        // A lying agent's clock does not stop the page.
        assert!(!utc(u64::MAX).is_empty());
    }

    #[test]
    fn text_of_machines_cannot_move_the_cursor_or_turn_around() {
        assert_eq!(clean("Dell R730 – ok"), "Dell R730 – ok");
        assert_eq!(clean("a\x1b[2Jb\nc"), "a\u{fffd}[2Jb\u{fffd}c");
        assert_eq!(clean("\u{202e}gpj.exe"), "\u{fffd}gpj.exe");
        let long = clean(&"ä".repeat(5000)).into_owned();
        assert_eq!(long.chars().count(), MAX_TEXT + 1);
    }
}
