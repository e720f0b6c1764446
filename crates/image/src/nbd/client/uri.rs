//! The NBD URI specification (doc/uri.md of the NBD project): which server, and which export.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::nbd::proto::MAX_STRING;
use crate::{Error, ErrorKind, Result};

/// "TCP port", the one that IANA gave to NBD.
const PORT: u16 = 10809;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// Host name or address without brackets, and port.
    Tcp(String, u16),
    /// A socket of this host.
    Unix(PathBuf),
}

/// A parsed URI: `nbd://HOST[:PORT][/EXPORT]` or `nbd+unix:///[EXPORT]?socket=PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    /// The server.
    pub address: Address,
    /// Name of the export; empty is the server's default.
    pub export: String,
    text: String,
}

impl Uri {
    /// True when this names an NBD server rather than a file, supported or not.
    pub fn is_one(text: &str) -> bool {
        text.split_once("://").is_some_and(|(scheme, _)| {
            let scheme = scheme.to_ascii_lowercase();
            let transport = scheme.strip_prefix("nbds").or(scheme.strip_prefix("nbd"));
            matches!(transport, Some("" | "+unix" | "+vsock" | "+ssh"))
        })
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Uri {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |kind, what: &str| Error::new(kind, what.to_owned()).in_file(text);
        let usage = |what: &str| wrong(ErrorKind::Usage, what);
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| usage("expected nbd://HOST[:PORT][/EXPORT]"))?;
        let rest = match rest.split_once('#') {
            Some(_) => return Err(usage("expected no fragment in an NBD URI")),
            None => rest,
        };
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = place.split_once('/').unwrap_or((place, ""));
        let export = decode(path)
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| usage("expected an export name in UTF-8, percent-encoded"))?;
        if export.len() > MAX_STRING {
            return Err(usage("expected an export name of at most 4096 bytes"));
        }
        let address = match scheme.to_ascii_lowercase().as_str() {
            "nbd" if !query.is_empty() => {
                return Err(usage("expected no ?QUERY after nbd://HOST/EXPORT"));
            }
            "nbd" => tcp(authority).map_err(|e| e.in_file(text))?,
            "nbd+unix" if !authority.is_empty() => {
                return Err(usage(
                    "expected nbd+unix:///[EXPORT]?socket=PATH, three slashes before the export",
                ));
            }
            "nbd+unix" => unix(query).map_err(|e| e.in_file(text))?,
            "nbds" | "nbds+unix" => {
                return Err(wrong(
                    ErrorKind::Unsupported,
                    "NBD over TLS (nbds) is not supported; hint: tunnel the socket with ssh -L",
                ));
            }
            other => {
                return Err(wrong(
                    ErrorKind::Unsupported,
                    &format!("the transport {other} is not supported (nbd and nbd+unix are)"),
                ));
            }
        };
        Ok(Self {
            address,
            export,
            text: text.to_owned(),
        })
    }
}

/// `HOST[:PORT]`; an IPv6 address is in brackets.
fn tcp(authority: &str) -> Result<Address> {
    let usage = |what: &str| Error::new(ErrorKind::Usage, what.to_owned());
    if authority.contains('@') {
        return Err(usage("expected no user name in an NBD URI"));
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest
                .split_once(']')
                .ok_or_else(|| usage("expected `]` after an IPv6 address"))?;
            match after {
                "" => (host, None),
                after => (
                    host,
                    Some(
                        after
                            .strip_prefix(':')
                            .ok_or_else(|| usage("expected `:PORT` after `]`"))?,
                    ),
                ),
            }
        }
        None => match authority.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => {
                return Err(usage("expected an IPv6 address in brackets"));
            }
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        None | Some("") => PORT,
        Some(port) => port
            .parse()
            .map_err(|_| usage("expected a port from 1 to 65535"))?,
    };
    // doc/uri.md: no host is this one.
    let host = if host.is_empty() { "localhost" } else { host };
    Ok(Address::Tcp(host.to_owned(), port))
}

/// `socket=PATH`, the one parameter that is known.
fn unix(query: &str) -> Result<Address> {
    let usage = |what: String| Error::new(ErrorKind::Usage, what);
    let mut socket = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("socket", path)) if socket.is_none() => socket = decode(path),
            _ => return Err(usage(format!("expected only ?socket=PATH, found {pair:?}"))),
        }
    }
    match socket {
        Some(path) if !path.is_empty() => {
            Ok(Address::Unix(PathBuf::from(OsString::from_vec(path))))
        }
        _ => Err(usage("expected ?socket=PATH".to_owned())),
    }
}

/// Percent-decoding (RFC 3986, 2.1); `None` for a broken escape or a NUL.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let value = digit(bytes.next()?)? * 16 + digit(bytes.next()?)?;
            u8::try_from(value).ok()?
        } else {
            byte
        };
        if byte == 0 {
            return None;
        }
        decoded.push(byte);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(text: &str) -> (String, u16, String) {
        match text.parse::<Uri>().unwrap() {
            Uri {
                address: Address::Tcp(host, port),
                export,
                ..
            } => (host, port, export),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn hosts_ports_and_exports_are_told_apart() {
        let cases = [
            ("nbd://h", "h", 10809, ""),
            ("nbd://h/", "h", 10809, ""),
            ("NBD://h:1/disk", "h", 1, "disk"),
            ("nbd://[::1]:2/a%20b/c", "::1", 2, "a b/c"),
            ("nbd://[fe80::1]", "fe80::1", 10809, ""),
            ("nbd://h//abs", "h", 10809, "/abs"),
            ("nbd:///x", "localhost", 10809, "x"),
        ];
        for (text, host, port, export) in cases {
            assert_eq!(tcp(text), (host.into(), port, export.into()), "{text}");
        }
        let unix: Uri = "nbd+unix:///sda?socket=/tmp/a%3Fb".parse().unwrap();
        assert_eq!(unix.address, Address::Unix("/tmp/a?b".into()));
        assert_eq!(unix.export, "sda");
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_reason() {
        for (text, word) in [
            ("nbds://h/x", "TLS"),
            ("nbds+unix:///?socket=/x", "TLS"),
            ("nbd+vsock://2/x", "nbd+vsock"),
            ("nbd://u@h", "user name"),
            ("nbd://::1/x", "brackets"),
            ("nbd://h:x", "port"),
            ("nbd://h:99999", "port"),
            ("nbd://[::1", "`]`"),
            ("nbd://h/x?tls-type=psk", "QUERY"),
            ("nbd+unix:///x", "socket=PATH"),
            ("nbd+unix:///x?socket=", "socket=PATH"),
            ("nbd+unix://h/x?socket=/s", "three slashes"),
            ("nbd+unix:///x?socket=/s&more=1", "more=1"),
            ("nbd://h/%zz", "percent"),
            ("nbd://h/%00", "percent"),
        ] {
            let error = text.parse::<Uri>().unwrap_err().to_string();
            assert!(error.contains(word) && error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_file_is_no_uri() {
        for text in ["nbd.img", "./nbd://x", "http://h", "/a://b"] {
            assert!(!Uri::is_one(text), "{text}");
        }
        for text in ["nbd://", "nbds://h", "nbd+unix:///", "nbd+vsock://1"] {
            assert!(Uri::is_one(text), "{text}");
        }
    }
}
