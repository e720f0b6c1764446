//! Identifiers as other programs write them, in the one spelling of ours.

use types::MacAddr;

/// 32 hexadecimal digits with or without dashes and braces, as lower case with dashes.
pub(crate) fn uuid(text: &str) -> Option<String> {
    let punctuation = |c: char| matches!(c, '-' | '{' | '}');
    let digits: String = text
        .trim()
        .chars()
        .filter(|c| !punctuation(*c))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    let (a, b, c, d, e) = (
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32),
    );
    Some(format!("{a}-{b}-{c}-{d}-{e}"))
}

/// With separators, or twelve digits without. An address that no adapter can own is none.
pub(crate) fn mac(text: &str) -> Option<MacAddr> {
    let text = text.trim();
    let address: MacAddr = if text.len() == 12 && text.is_ascii() {
        let pairs: Vec<&str> = (0..6)
            .filter_map(|index| text.get(2 * index..2 * index + 2))
            .collect();
        pairs.join(":").parse().ok()?
    } else {
        text.parse().ok()?
    };
    (!address.is_multicast() && address.0 != [0; 6]).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_the_same_identifier() {
        let want = Some("7ffee066-9755-4950-9a16-4c94ac67ad00".to_owned());
        assert_eq!(uuid("{7FFEE066-9755-4950-9A16-4C94AC67AD00}"), want);
        assert_eq!(uuid("7ffee066975549509a164c94ac67ad00"), want);
        assert_eq!(uuid("7ffee066-9755-4950-9a16-4c94ac67ad0"), None);
        assert_eq!(uuid("7ffee066-9755-4950-9a16-4c94ac67adzz"), None);
        let want = Some(MacAddr([0x00, 0x15, 0x5d, 0x01, 0x07, 0xdc]));
        assert_eq!(mac("00-15-5D-01-07-DC"), want);
        assert_eq!(mac("00155D0107DC"), want);
        for none in [
            "000000000000",
            "00-00-00-00-00-00",
            "FFFFFFFFFFFF",
            "",
            "0015",
        ] {
            assert_eq!(mac(none), None, "{none}");
        }
    }
}
