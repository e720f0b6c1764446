//! Ethernet hardware addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An EUI-48 address, written `00:50:56:ab:cd:ef` (lower case).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr(pub [u8; 6]);

/// The text is not six hexadecimal octets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a MAC address: expected six hexadecimal octets such as 52:54:00:12:34:56")]
pub struct MacParseError(pub String);

impl MacAddr {
    /// An address in KVM's range 52:54:00 with the given last three octets.
    pub fn kvm(suffix: [u8; 3]) -> Self {
        let [a, b, c] = suffix;
        Self([0x52, 0x54, 0x00, a, b, c])
    }

    /// True for group (multicast and broadcast) addresses, which no NIC can own.
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = MacParseError;

    /// Accepts `:` or `-` between octets, either case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || MacParseError(text.to_owned());
        let mut octets = [0u8; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().ok_or_else(bad)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() {
            return Err(bad());
        }
        Ok(Self(octets))
    }
}

impl TryFrom<String> for MacAddr {
    type Error = MacParseError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_separators_and_cases_parse_to_the_same_address() {
        let want = MacAddr([0, 0x50, 0x56, 0xab, 0xcd, 0xef]);
        assert_eq!("00:50:56:AB:cd:EF".parse::<MacAddr>().unwrap(), want);
        assert_eq!("00-50-56-ab-cd-ef".parse::<MacAddr>().unwrap(), want);
        assert_eq!(want.to_string(), "00:50:56:ab:cd:ef");
    }

    #[test]
    fn anything_but_six_octets_is_refused() {
        for bad in [
            "",
            "00:50:56:ab:cd",
            "00:50:56:ab:cd:ef:01",
            "00:50:56:ab:cd:+f",
            "0:5:5:a:c:e",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad} was accepted");
        }
    }
}
