//! Units of quantities: programmatic units (DSP0004 2.7, annex C: `byte * 2^20`) and the words that older exporters
//! write instead (`MegaBytes`), which always meant powers of 1024.

/// Number of bytes in one of the unit; `None` when it is no unit of bytes that this knows.
pub(crate) fn bytes_per_unit(unit: &str) -> Option<u64> {
    let unit: String = unit
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let mut bytes: u64 = 1;
    let mut is_bytes = false;
    for factor in unit.split('*') {
        let value = match word(factor) {
            Some(value) if !is_bytes => {
                is_bytes = true;
                value
            }
            Some(_) => return None,
            None => number(factor)?,
        };
        bytes = bytes.checked_mul(value)?;
    }
    is_bytes.then_some(bytes)
}

fn word(text: &str) -> Option<u64> {
    match text {
        "byte" | "bytes" | "b" => Some(1),
        "kilobyte" | "kilobytes" | "kb" | "kib" => Some(1 << 10),
        "megabyte" | "megabytes" | "mb" | "mib" => Some(1 << 20),
        "gigabyte" | "gigabytes" | "gb" | "gib" => Some(1 << 30),
        "terabyte" | "terabytes" | "tb" | "tib" => Some(1 << 40),
        _ => None,
    }
}

fn number(text: &str) -> Option<u64> {
    match text.split_once('^') {
        Some((base, exponent)) => base
            .parse::<u64>()
            .ok()?
            .checked_pow(exponent.parse().ok()?),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programmatic_units_and_words_agree() {
        for unit in [
            "byte * 2^20",
            "byte*2^20",
            "byte * 2 ^ 20",
            "MegaBytes",
            "MB",
            "Bytes*1048576",
            "2^20*byte",
            "KB*2^10",
        ] {
            assert_eq!(bytes_per_unit(unit), Some(1 << 20), "{unit}");
        }
        assert_eq!(bytes_per_unit("byte"), Some(1));
        assert_eq!(bytes_per_unit("byte * 10^9"), Some(1_000_000_000));
        assert_eq!(bytes_per_unit("GigaBytes"), Some(1 << 30));
    }

    #[test]
    fn other_units_and_overflow_are_none() {
        for unit in [
            "",
            "hertz * 10^6",
            "2^20",
            "byte * 2^64",
            "byte * 2^-1",
            "byte * byte",
            "byte * ",
            "byte * 2^999999999999",
        ] {
            assert_eq!(bytes_per_unit(unit), None, "{unit}");
        }
    }
}
