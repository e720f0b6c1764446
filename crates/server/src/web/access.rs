//! Who may see the page: one key opens it; a browser that showed the key holds a cookie that the key has signed.
//!
//! A cookie is `EXPIRY.NONCE.MAC`, the MAC by keyed BLAKE3 under a key derived from the page's key. So there is no
//! table of sessions that could grow, a restart of the server leaves browsers where they were, and a new key ends all.
//! The token in every form is another MAC over the same cookie: a foreign site can know neither.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use tokio::sync::Semaphore;
use wire::tls::Identity;

/// How long a browser stays in.
const SESSION_SECONDS: u64 = 12 * 3600;
/// What a wrong key costs who tried it.
const FAILURE_DELAY: Duration = Duration::from_secs(1);
/// Wrong keys that are being waited for at the same time; more are refused at once.
const FAILURES_AT_ONCE: usize = 8;
/// Bytes of a random key: cannot be guessed.
const KEY_LEN: usize = 16;
/// Shortest key that is taken from a file, in characters.
const MIN_KEY_LEN: usize = 16;
/// Longest key in characters.
const MAX_KEY_LEN: usize = 256;
const NONCE_LEN: usize = 16;

/// The key to the page, and the identity that it shows over TLS.
pub struct Access {
    key: String,
    cookie_name: String,
    cookie_key: [u8; 32],
    csrf_key: [u8; 32],
    identity: Identity,
    failures: Semaphore,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

/// A browser that is in: the value of its cookie.
#[derive(Clone)]
pub(super) struct Session {
    cookie: String,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session(…)")
    }
}

/// Too many wrong keys at the same time.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooMany;

impl Access {
    /// The page opens with `key` (16 to 256 letters, digits, `-` or `_`) and shows `identity` where it is served by TLS.
    pub fn new(key: &str, identity: Identity) -> io::Result<Self> {
        let sound = (MIN_KEY_LEN..=MAX_KEY_LEN).contains(&key.len())
            && key
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'));
        if !sound {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "the web page's key: expected {MIN_KEY_LEN} to {MAX_KEY_LEN} letters, digits, - or _ \
                     (remove its file for a new one)"
                ),
            ));
        }
        let name = blake3::derive_key("v2v web page 2026 cookie name", key.as_bytes());
        Ok(Self {
            key: key.to_owned(),
            // Cookies know no ports: two servers on one host must not take each other's.
            cookie_name: format!("v2v-{}", HEXLOWER.encode(&name[..4])),
            cookie_key: blake3::derive_key("v2v web page 2026 cookie", key.as_bytes()),
            csrf_key: blake3::derive_key("v2v web page 2026 form token", key.as_bytes()),
            identity,
            failures: Semaphore::new(FAILURES_AT_ONCE),
        })
    }

    /// The key in the file `path`; made there, for its owner only, where it is missing.
    pub fn open(path: &Path, identity: Identity) -> io::Result<Self> {
        let at =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let mut options = std::fs::OpenOptions::new();
        let made = options.write(true).create_new(true).mode(0o600).open(path);
        let key = match made {
            Ok(mut file) => {
                let key = HEXLOWER.encode(&random::<KEY_LEN>().map_err(at)?);
                file.write_all(key.as_bytes())
                    .and_then(|()| file.sync_all())
                    .map_err(at)?;
                key
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let mut key = String::new();
                // One byte more than a key may have, and a line end.
                std::fs::File::open(path)
                    .and_then(|file| file.take(MAX_KEY_LEN as u64 + 2).read_to_string(&mut key))
                    .map_err(at)?;
                key.trim().to_owned()
            }
            Err(error) => return Err(at(error)),
        };
        Self::new(&key, identity).map_err(at)
    }

    /// The address that opens the page with one click.
    pub fn link(&self, address: SocketAddr) -> String {
        format!("{}/?key={}", origin(address), self.key)
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity.clone()
    }

    /// A session for who shows the key. A wrong one waits; with many wrong ones waiting, more are refused at once.
    pub(super) async fn log_in(&self, key: &str) -> Result<Option<Session>, TooMany> {
        // BLAKE3 hashes compare in constant time, and hide the length.
        if blake3::hash(key.as_bytes()) == blake3::hash(self.key.as_bytes()) {
            return Ok(Some(self.session(now())));
        }
        let Ok(_permit) = self.failures.try_acquire() else {
            return Err(TooMany);
        };
        tokio::time::sleep(FAILURE_DELAY).await;
        Ok(None)
    }

    fn session(&self, now: u64) -> Session {
        // Without entropy the nonce is the time alone; the MAC does not rest on it.
        let nonce = random::<NONCE_LEN>().unwrap_or_default();
        let body = format!(
            "{}.{}",
            now.saturating_add(SESSION_SECONDS),
            HEXLOWER.encode(&nonce)
        );
        let mac = blake3::keyed_hash(&self.cookie_key, body.as_bytes());
        Session {
            cookie: format!("{body}.{}", mac.to_hex()),
        }
    }

    /// The session of a `Cookie` header, if it is one of ours and not too old.
    pub(super) fn recognise(&self, header: &str) -> Option<Session> {
        header
            .split(';')
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(name, _)| *name == self.cookie_name)
            .find_map(|(_, value)| self.check(value, now()))
    }

    fn check(&self, cookie: &str, now: u64) -> Option<Session> {
        let (body, mac) = cookie.rsplit_once('.')?;
        let mac = blake3::Hash::from_hex(mac).ok()?;
        if blake3::keyed_hash(&self.cookie_key, body.as_bytes()) != mac {
            return None;
        }
        let expiry: u64 = body.split('.').next()?.parse().ok()?;
        (now < expiry).then(|| Session {
            cookie: cookie.to_owned(),
        })
    }

    /// Value of a `Set-Cookie` header.
    pub(super) fn set_cookie(&self, session: &Session, tls: bool) -> String {
        format!(
            "{}={}; Path=/; Max-Age={SESSION_SECONDS}; HttpOnly; SameSite=Strict{}",
            self.cookie_name,
            session.cookie,
            if tls { "; Secure" } else { "" }
        )
    }

    /// Value of a `Set-Cookie` header that takes the cookie away.
    pub(super) fn clear_cookie(&self) -> String {
        format!(
            "{}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict",
            self.cookie_name
        )
    }

    /// What the forms of this session carry.
    pub(super) fn form_token(&self, session: &Session) -> String {
        blake3::keyed_hash(&self.csrf_key, session.cookie.as_bytes())
            .to_hex()
            .to_string()
    }

    /// True for the token of this session's forms.
    pub(super) fn is_form_token(&self, session: &Session, token: &str) -> bool {
        let expected = blake3::keyed_hash(&self.csrf_key, session.cookie.as_bytes());
        blake3::Hash::from_hex(token).is_ok_and(|token| token == expected)
    }
}

/// Whether the page at `address` is served by TLS: everywhere but on the loopback interface, where nobody listens in
/// and browsers would only warn of the certificate.
pub fn needs_tls(address: IpAddr) -> bool {
    !address.to_canonical().is_loopback()
}

/// `http://ADDR:PORT` or `https://…`. For "any address" it has this host's name, since a browser cannot go to 0.0.0.0.
fn origin(address: SocketAddr) -> String {
    let scheme = if needs_tls(address.ip()) {
        "https"
    } else {
        "http"
    };
    if !address.ip().is_unspecified() {
        return format!("{scheme}://{address}");
    }
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy();
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.'))
    };
    let name = if is_name(&name) { &name } else { "localhost" };
    format!("{scheme}://{name}:{}", address.port())
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled +=
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::web::tests::identity;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn access() -> Access {
        Access::new(KEY, identity()).unwrap()
    }

    #[test]
    fn only_loopback_goes_without_tls() {
        for (address, tls) in [
            ("127.0.0.1", false),
            ("127.9.9.9", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("0.0.0.0", true),
            ("::", true),
            ("192.0.2.1", true),
            ("::ffff:192.0.2.1", true),
        ] {
            assert_eq!(needs_tls(address.parse().unwrap()), tls, "{address}");
        }
    }

    #[test]
    fn links_carry_scheme_and_key() {
        let link = |address: &str| access().link(address.parse().unwrap());
        assert_eq!(
            link("127.0.0.1:7480"),
            format!("http://127.0.0.1:7480/?key={KEY}")
        );
        assert_eq!(
            link("[2001:db8::1]:80"),
            format!("https://[2001:db8::1]:80/?key={KEY}")
        );
        let any = link("0.0.0.0:7480");
        assert!(
            any.starts_with("https://") && !any.contains("0.0.0.0"),
            "{any}"
        );
    }

    #[test]
    fn cookies_are_ours_whole_and_young() {
        let access = access();
        let session = access.session(1000);
        let cookie = session.cookie.clone();
        assert!(access.check(&cookie, 1000).is_some());
        assert!(access.check(&cookie, 1000 + SESSION_SECONDS).is_none());
        for at in 0..cookie.len() {
            let mut wrong = cookie.clone();
            let new = if &cookie[at..=at] == "1" { "2" } else { "1" };
            wrong.replace_range(at..=at, new);
            assert!(access.check(&wrong, 1000).is_none(), "{wrong}");
        }
        let other = Access::new(&KEY.replace('0', "1"), identity()).unwrap();
        assert!(other.check(&cookie, 1000).is_none());
        assert!(!access.is_form_token(&session, &other.form_token(&session)));
        assert!(access.is_form_token(&session, &access.form_token(&session)));
        assert_ne!(
            access.form_token(&session),
            access.form_token(&access.session(1000))
        );
    }

    #[test]
    fn the_key_is_made_once_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.key");
        let first = Access::open(&path, identity()).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Access::open(&path, identity()).unwrap().key, first.key);
        assert_eq!(first.key.len(), 2 * KEY_LEN);
        std::fs::write(&path, "short").unwrap();
        let error = Access::open(&path, identity()).unwrap_err().to_string();
        assert!(
            error.contains("web.key") && !error.contains("short"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn wrong_keys_wait_and_many_are_refused_at_once() {
        let access = access();
        assert!(access.log_in(KEY).await.unwrap().is_some());
        let start = std::time::Instant::now();
        assert!(access.log_in("wrong").await.unwrap().is_none());
        assert!(start.elapsed() >= FAILURE_DELAY);
        let tries = (0..20).map(|_| access.log_in("wrong"));
        let results = futures_util::future::join_all(tries).await;
        let refused = results.iter().filter(|result| result.is_err()).count();
        assert_eq!(refused, 20 - FAILURES_AT_ONCE);
        // Who has the key gets in nevertheless.
        assert!(access.log_in(KEY).await.unwrap().is_some());
    }
}
