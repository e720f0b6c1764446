//! Password hashes as crypt(5) writes them, in the strongest scheme that needs no question: SHA-512 (`$6$`), which every
//! libcrypt since glibc 2.7 (2007), libxcrypt and musl know; MD5 (`$1$`) for a guest whose glibc is older.
//!
//! yescrypt is not made: whatever knows it takes `$6$` as well.

use md5::{Digest, Md5};
use sha_crypt::{ROUNDS_DEFAULT, Sha512Params, sha512_crypt_b64};

use crate::{Error, Result, Root};

/// Characters of salts and of encoded hashes, in the order of their values (crypt(3)).
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// The first glibc with `$5$` and `$6$`.
const SHA_SINCE: (u32, u32) = (2, 7);

/// A way of hashing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Sha512,
    Md5,
}

impl Scheme {
    /// What the guest's libcrypt knows, by the version in its file's name (`libcrypt-2.5.so`).
    pub(super) fn of(root: &Root) -> Self {
        let dirs = [
            "/lib",
            "/lib64",
            "/usr/lib",
            "/usr/lib64",
            "/lib/tls",
            "/lib/x86_64-linux-gnu",
            "/lib/i386-linux-gnu",
        ];
        let versions: Vec<_> = dirs
            .iter()
            .flat_map(|dir| root.names(dir))
            .filter_map(|name| glibc_version(&name))
            .collect();
        match versions.iter().max() {
            Some(newest) if *newest < SHA_SINCE => Self::Md5,
            _ => Self::Sha512,
        }
    }

    /// Hashes with a new salt.
    pub(super) fn hash(self, password: &str) -> Result<String> {
        self.with_salt(password, &salt(if self == Self::Md5 { 8 } else { 16 })?)
    }

    fn with_salt(self, password: &str, salt: &str) -> Result<String> {
        match self {
            Self::Md5 => Ok(format!(
                "$1${salt}${}",
                md5_crypt(password.as_bytes(), salt.as_bytes())
            )),
            Self::Sha512 => {
                let failed = || Error::corrupt("the password cannot be hashed");
                let rounds = Sha512Params::new(ROUNDS_DEFAULT).map_err(|_| failed())?;
                let hash = sha512_crypt_b64(password.as_bytes(), salt.as_bytes(), &rounds)
                    .map_err(|_| failed())?;
                Ok(format!("$6${salt}${hash}"))
            }
        }
    }
}

/// True when `hash` is one of ours of this password.
pub(super) fn matches(password: &str, hash: &str) -> bool {
    let mut parts = hash.split('$');
    let scheme = match (parts.next(), parts.next()) {
        (Some(""), Some("6")) => Scheme::Sha512,
        (Some(""), Some("1")) => Scheme::Md5,
        _ => return false,
    };
    let Some(salt) = parts.next().filter(|salt| (1..=16).contains(&salt.len())) else {
        return false;
    };
    scheme
        .with_salt(password, salt)
        .is_ok_and(|again| again == hash)
}

fn glibc_version(name: &str) -> Option<(u32, u32)> {
    let version = name.strip_prefix("libcrypt-")?.strip_suffix(".so")?;
    let mut numbers = version.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn salt(len: usize) -> Result<String> {
    let mut bytes = vec![0u8; len];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Error::io("asking for random bytes", error))?;
    // 64 characters: six bits of each byte.
    let pick = |byte: &u8| {
        ALPHABET
            .get(usize::from(byte & 0x3f))
            .copied()
            .map(char::from)
    };
    Ok(bytes.iter().filter_map(pick).collect())
}

/// Poul-Henning Kamp's MD5 scheme (crypt(5), "md5crypt"): a thousand rounds over password, salt and the last digest.
fn md5_crypt(password: &[u8], salt: &[u8]) -> String {
    let inner = [password, salt, password].concat();
    let inner = Md5::digest(&inner);
    let mut first = Md5::new();
    first.update(password);
    first.update(b"$1$");
    first.update(salt);
    for at in 0..password.len() {
        first.update(inner.get(at % 16..=at % 16).unwrap_or_default());
    }
    let mut bits = password.len();
    while bits > 0 {
        let byte = if bits & 1 == 1 {
            &b"\0"[..]
        } else {
            password.get(..1).unwrap_or_default()
        };
        first.update(byte);
        bits >>= 1;
    }
    let mut digest = first.finalize();
    for round in 0..1000u32 {
        let mut next = Md5::new();
        let odd = round & 1 == 1;
        if odd {
            next.update(password);
        } else {
            next.update(digest);
        }
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        if odd {
            next.update(digest);
        } else {
            next.update(password);
        }
        digest = next.finalize();
    }
    encode(&digest)
}

/// Three bytes to four characters, low bits first, in the scheme's order of bytes.
fn encode(digest: &[u8]) -> String {
    const ORDER: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
    let byte = |at: usize| u32::from(digest.get(at).copied().unwrap_or_default());
    let mut out = String::new();
    let mut push = |mut value: u32, count: u32| {
        for _ in 0..count {
            let index = usize::try_from(value & 0x3f).unwrap_or_default();
            out.extend(ALPHABET.get(index).copied().map(char::from));
            value >>= 6;
        }
    };
    for [a, b, c] in ORDER {
        push(byte(a) << 16 | byte(b) << 8 | byte(c), 4);
    }
    push(byte(11), 2);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_other_programs() {
        // openssl passwd -1 -salt abcdefgh secret; openssl passwd -6 -salt 0123456789abcdef secret
        for (scheme, salt, flag, password) in [
            (Scheme::Md5, "abcdefgh", "-1", "secret"),
            (
                Scheme::Md5,
                "x",
                "-1",
                "a longer password than sixteen bytes",
            ),
            (Scheme::Sha512, "0123456789abcdef", "-6", "secret"),
            (Scheme::Sha512, "ab", "-6", "pass: $w\u{f6}rd"),
        ] {
            let ours = scheme.with_salt(password, salt).unwrap();
            assert!(matches(password, &ours) && !matches("other", &ours));
            if !crate::tests::tree::tools(&["openssl"]) {
                continue;
            }
            let theirs = crate::tests::tree::run(
                std::process::Command::new("openssl")
                    .args(["passwd", flag, "-salt", salt, password]),
            );
            assert_eq!(
                ours,
                String::from_utf8(theirs).unwrap().trim(),
                "{password}"
            );
        }
    }

    #[test]
    fn salts_differ_and_foreign_hashes_do_not_match() {
        let (one, two) = (
            Scheme::Sha512.hash("x").unwrap(),
            Scheme::Sha512.hash("x").unwrap(),
        );
        assert_ne!(one, two);
        for foreign in ["", "*", "!", "$y$j9T$abc$def", "$6$", "$6$rounds=10$a$b"] {
            assert!(!matches("x", foreign), "{foreign}");
        }
    }

    #[test]
    fn only_a_glibc_before_2_7_gets_md5() {
        assert_eq!(glibc_version("libcrypt-2.5.so"), Some((2, 5)));
        assert_eq!(glibc_version("libcrypt.so.1"), None);
        let tree = tempfile::tempdir().unwrap();
        let root = Root::open(tree.path()).unwrap();
        assert_eq!(Scheme::of(&root), Scheme::Sha512);
        std::fs::create_dir(tree.path().join("lib")).unwrap();
        std::fs::write(tree.path().join("lib/libcrypt-2.5.so"), "").unwrap();
        assert_eq!(Scheme::of(&root), Scheme::Md5);
        std::fs::write(tree.path().join("lib/libcrypt-2.17.so"), "").unwrap();
        assert_eq!(Scheme::of(&root), Scheme::Sha512);
    }
}
