//! Sizes and times as qemu-img reads and writes them.

use std::fmt::Write;

use anyhow::{Context, Result, bail};

/// A size with a suffix, each a power of 1024: `512`, `10G`, `1.5T`, `64k`. Without one it is bytes.
pub(crate) fn parse_size(text: &str) -> Result<u64> {
    const SUFFIXES: [(&str, u32); 7] = [
        ("b", 0),
        ("k", 10),
        ("m", 20),
        ("g", 30),
        ("t", 40),
        ("p", 50),
        ("e", 60),
    ];
    let wrong = || format!("expected a size such as 512, 10G or 1.5T, found {text:?}");
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let shift = if suffix.is_empty() {
        0
    } else {
        let lower = suffix.to_ascii_lowercase();
        let found = SUFFIXES.iter().find(|(known, _)| *known == lower);
        found.map(|(_, shift)| *shift).with_context(wrong)?
    };
    let unit = 1u64 << shift;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && (part.is_empty() || shift == 0)) {
        bail!(wrong());
    }
    let mut bytes = whole
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(unit))
        .with_context(wrong)?;
    // Digits behind the point, exactly: unit * digits / 10^n.
    if !part.is_empty() {
        if part.len() > 18 {
            bail!(wrong());
        }
        let digits: u128 = part.parse().ok().with_context(wrong)?;
        let scale = 10u128.pow(u32::try_from(part.len()).unwrap_or(18));
        let extra = u64::try_from(digits * u128::from(unit) / scale)
            .ok()
            .with_context(wrong)?;
        bytes = bytes.checked_add(extra).with_context(wrong)?;
    }
    if i64::try_from(bytes).is_err() {
        bail!("expected a size of at most {}, found {text:?}", i64::MAX);
    }
    Ok(bytes)
}

/// Three significant digits and a unit of which there are less than a thousand: `10 MiB`, `1.38 MiB`, `0.977 GiB`.
#[expect(
    clippy::cast_precision_loss,
    reason = "three digits are shown of at most 64 bits"
)]
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let before_point = match value {
        v if v >= 99.95 => 3,
        v if v >= 9.995 => 2,
        v if v >= 0.9995 || v == 0.0 => 1,
        _ => 0,
    };
    let mut digits = format!("{value:.*}", 3 - before_point);
    if digits.contains('.') {
        digits = digits
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned();
    }
    format!("{digits} {}B", UNITS[unit])
}

/// `YYYY-MM-DD HH:MM:SS` in UTC, from seconds since 1970. qemu-img writes local time; a list that says the same
/// everywhere can be compared.
pub(super) fn date(seconds: u64) -> String {
    let (days, time) = (seconds / 86400, seconds % 86400);
    // Civil date from days since 1970-01-01, in eras of 400 years that begin in March of year 0.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Guest time: `HHHH:MM:SS.mmm`.
pub(super) fn clock(nanoseconds: u64) -> String {
    let (seconds, millis) = (nanoseconds / 1_000_000_000, nanoseconds / 1_000_000 % 1000);
    let mut text = String::new();
    let _ = write!(
        text,
        "{:04}:{:02}:{:02}.{millis:03}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_qemu_img_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("1000", 1000),
            ("1k", 1024),
            ("1K", 1024),
            ("64b", 64),
            ("1.5G", 3 << 29),
            ("0.5k", 512),
            ("10T", 10 << 40),
            ("7E", 7 << 60),
        ] {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
        for text in [
            "",
            "k",
            "-1",
            "1x",
            "1.5",
            "1.k",
            ".5k",
            "8E",
            "99999999999999999999",
            "1 k",
            "1kB",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_written_as_qemu_img_writes_them() {
        for (bytes, text) in [
            (0, "0 B"),
            (512, "512 B"),
            (999, "999 B"),
            (1000, "0.977 KiB"),
            (1024, "1 KiB"),
            (348_160, "340 KiB"),
            (1_441_792, "1.38 MiB"),
            (10 << 20, "10 MiB"),
            (1000 << 20, "0.977 GiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn dates_are_civil() {
        assert_eq!(date(0), "1970-01-01 00:00:00");
        assert_eq!(date(951_782_399), "2000-02-28 23:59:59");
        assert_eq!(date(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(date(1_795_272_874), "2026-11-21 14:54:34");
        assert_eq!(clock(3_723_004_000_000), "0001:02:03.004");
    }
}
