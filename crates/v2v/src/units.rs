//! Times, sizes and rates as they are written on the command line.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::image_cmd::humane;

/// `90s`, `30m`, `1h`, `2d`, or several: `1h30m`. At least a second, at most ten years.
pub(crate) fn duration(text: &str) -> Result<Duration> {
    const UNITS: [(char, u64); 5] = [
        ('s', 1),
        ('m', 60),
        ('h', 3600),
        ('d', 86400),
        ('w', 7 * 86400),
    ];
    const LONGEST: u64 = 3653 * 86400;
    let wrong = || format!("expected a time such as 90s, 30m, 1h or 2d, found {text:?}");
    let mut total = 0u64;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .with_context(wrong)?;
        let (digits, tail) = rest.split_at(end);
        let unit = tail.chars().next().with_context(wrong)?;
        let (_, seconds) = UNITS
            .into_iter()
            .find(|(known, _)| *known == unit)
            .with_context(wrong)?;
        let count: u64 = digits.parse().ok().with_context(wrong)?;
        total = count
            .checked_mul(seconds)
            .and_then(|part| total.checked_add(part))
            .with_context(wrong)?;
        rest = &tail[unit.len_utf8()..];
    }
    if !(1..=LONGEST).contains(&total) {
        bail!("{}, between 1s and ten years", wrong());
    }
    Ok(Duration::from_secs(total))
}

/// Bytes: `512`, `10G`, `1.5T`; suffixes are powers of 1024.
pub(crate) fn size(text: &str) -> Result<u64> {
    humane::parse_size(text)
}

/// Bytes a second: `100M`, `1.5G` (powers of 1024), or in bits as networks count them: `100Mbit`, `10Gbit`.
pub(crate) fn rate(text: &str) -> Result<u64> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    let bytes = match number.strip_suffix("bit") {
        Some(bits) => {
            bits_a_second(bits).with_context(|| {
                format!("expected a rate such as 100Mbit or 10Gbit, found {text:?}")
            })? / 8
        }
        None => humane::parse_size(number)?,
    };
    if bytes == 0 {
        bail!("expected a rate above 0, found {text:?}; leave the option out for no limit");
    }
    Ok(bytes)
}

fn bits_a_second(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit());
    let (digits, unit) = text.split_at(split.unwrap_or(text.len()));
    let scale: u64 = match unit {
        "" => 1,
        "k" | "K" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, seconds) in [
            ("90s", 90),
            ("30m", 1800),
            ("1h", 3600),
            ("1h30m", 5400),
            ("2d", 172_800),
            ("1w", 604_800),
        ] {
            assert_eq!(duration(text).unwrap().as_secs(), seconds, "{text}");
        }
        for text in [
            "",
            "5",
            "h",
            "1y",
            "-1h",
            "1.5h",
            "0s",
            "1h 2m",
            "99999999999999999999s",
            "20000w",
            "1ä",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_are_bytes_or_bits() {
        for (text, bytes) in [
            ("1000", 1000),
            ("100M", 100 << 20),
            ("1.5G", 3 << 29),
            ("100M/s", 100 << 20),
            ("100Mbit", 12_500_000),
            ("10Gbit/s", 1_250_000_000),
            ("800bit", 100),
        ] {
            assert_eq!(rate(text).unwrap(), bytes, "{text}");
        }
        for text in [
            "",
            "0",
            "0Mbit",
            "7bit",
            "M",
            "fast",
            "1.5Mbit",
            "1Tbit",
            "-1M",
            "99999999999999999999Gbit",
        ] {
            assert!(rate(text).is_err(), "{text}");
        }
        assert_eq!(size("2T").unwrap(), 2 << 40);
    }
}
