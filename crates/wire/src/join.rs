//! Join strings: all that an agent must know to reach one converter server and be let in.
//!
//! The string has no characters that a kernel command line, a shell or a URL would take for their own.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD, HEXLOWER};
use prost::Message;

use crate::enrol::Join;

/// Goes up when the content changes.
const PREFIX: &str = "v2v1.";
const CHECK_LEN: usize = 4;
/// Longest string that is looked at; a kernel command line has 2048 bytes in all.
const MAX_LEN: usize = 1024;
/// Characters of a code between two dashes.
const CODE_GROUP: usize = 4;

/// Why a join string is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a join string: {0}")]
pub struct JoinError(String);

/// SHA-256 of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl FromStr for Fingerprint {
    type Err = JoinError;

    /// 64 hexadecimal digits; colons and spaces between them are passed over.
    fn from_str(text: &str) -> Result<Self, JoinError> {
        let digits: String = text
            .chars()
            .filter(|c| !matches!(c, ':' | ' '))
            .map(|c| c.to_ascii_lowercase())
            .collect();
        HEXLOWER
            .decode(digits.as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| JoinError("expected a fingerprint of 64 hexadecimal digits".to_owned()))
    }
}

/// One-time secret of a token. Never printed by `Debug`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub [u8; 16]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// As it is typed by hand: base32 in groups of four.
    pub fn code(&self) -> String {
        let letters = BASE32_NOPAD.encode(&self.0);
        let groups: Vec<&str> = letters
            .as_bytes()
            .chunks(CODE_GROUP)
            .filter_map(|group| std::str::from_utf8(group).ok())
            .collect();
        groups.join("-")
    }

    /// Reads a typed code; case, dashes and spaces do not matter.
    pub fn from_code(text: &str) -> Result<Self, JoinError> {
        let letters: String = text
            .chars()
            .filter(|c| !matches!(c, '-' | ' '))
            .map(|c| c.to_ascii_uppercase())
            .collect();
        BASE32_NOPAD
            .decode(letters.as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| JoinError("expected a code of 26 letters and digits".to_owned()))
    }
}

/// A parsed join string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinString {
    /// `ADDR:PORT`, tried in order.
    pub servers: Vec<String>,
    /// Of the server's certificate.
    pub fingerprint: Fingerprint,
    /// What is traded for a client certificate.
    pub secret: Secret,
}

impl fmt::Display for JoinString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Join {
            servers: self.servers.clone(),
            fingerprint: self.fingerprint.0.to_vec(),
            secret: self.secret.0.to_vec(),
        }
        .encode_to_vec();
        let check = blake3::hash(&bytes);
        bytes.extend(check.as_bytes().iter().take(CHECK_LEN));
        write!(f, "{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes))
    }
}

impl FromStr for JoinString {
    type Err = JoinError;

    fn from_str(text: &str) -> Result<Self, JoinError> {
        let wrong = |what: &str| JoinError(what.to_owned());
        let text = text.trim();
        if text.len() > MAX_LEN {
            return Err(wrong("it is too long"));
        }
        let body = text
            .strip_prefix(PREFIX)
            .ok_or_else(|| wrong("it does not begin with v2v1."))?;
        let bytes = BASE64URL_NOPAD
            .decode(body.as_bytes())
            .map_err(|_| wrong("characters are missing or wrong"))?;
        let (message, check) = bytes
            .len()
            .checked_sub(CHECK_LEN)
            .and_then(|at| bytes.split_at_checked(at))
            .ok_or_else(|| wrong("it is too short"))?;
        if !blake3::hash(message).as_bytes().starts_with(check) {
            return Err(wrong(
                "its check does not hold: characters are missing or wrong",
            ));
        }
        let join = Join::decode(message).map_err(|_| wrong("its content is damaged"))?;
        let fingerprint = join.fingerprint.try_into().map(Fingerprint);
        let secret = join.secret.try_into().map(Secret);
        match (fingerprint, secret) {
            (Ok(fingerprint), Ok(secret)) if !join.servers.is_empty() => Ok(Self {
                servers: join.servers,
                fingerprint,
                secret,
            }),
            _ => Err(wrong("its content is damaged")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> JoinString {
        JoinString {
            servers: vec!["192.0.2.7:7440".into(), "[2001:db8::7]:7440".into()],
            fingerprint: Fingerprint([0xa5; 32]),
            secret: Secret([7; 16]),
        }
    }

    #[test]
    fn a_join_string_comes_back_and_fits_on_a_kernel_command_line() {
        let text = sample().to_string();
        assert_eq!(text.parse(), Ok(sample()));
        assert!(text.len() < 200, "{}", text.len());
        assert!(
            text.chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')),
            "{text}"
        );
    }

    #[test]
    fn a_mistyped_join_string_is_refused() {
        let text = sample().to_string();
        for at in PREFIX.len()..text.len() {
            let mut wrong = text.clone();
            let new = if &text[at..=at] == "A" { "B" } else { "A" };
            wrong.replace_range(at..=at, new);
            assert!(wrong.parse::<JoinString>().is_err(), "{wrong}");
        }
        for cut in 0..text.len() {
            assert!(text[..cut].parse::<JoinString>().is_err());
        }
    }

    #[test]
    fn codes_and_fingerprints_can_be_typed() {
        let secret = Secret([0x3c; 16]);
        let code = secret.code();
        assert_eq!(code.len(), 26 + 6);
        assert_eq!(Secret::from_code(&code.to_lowercase()), Ok(secret));
        assert!(Secret::from_code("ABCD").is_err());
        let print = Fingerprint([0xab; 32]);
        let typed = print.to_string().to_uppercase();
        let typed: Vec<&str> = typed
            .as_bytes()
            .chunks(2)
            .map(|c| std::str::from_utf8(c).unwrap())
            .collect();
        assert_eq!(typed.join(":").parse(), Ok(print));
    }

    #[test]
    fn a_secret_is_not_in_debug_output() {
        assert!(!format!("{:?}", sample()).contains("7, 7"));
    }
}
