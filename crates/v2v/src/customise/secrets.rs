//! Selectors of passwords and of SSH keys.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use types::Password;

use super::options::text_file;
use super::{Generated, Given};

/// Longest password: crypt(3) of libxcrypt takes no more (CRYPT_MAX_PASSPHRASE_SIZE).
const PASSWORD_MAX: usize = 511;
const FILE_MAX: u64 = 64 << 10;
const RANDOM_LEN: usize = 16;
/// Without characters that look alike.
const RANDOM_FROM: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz23456789";

/// Account and selector of `--root-password` or `--password`.
fn account(given: &Given) -> Result<(&str, &str)> {
    if given.option == "root-password" {
        return Ok(("root", given.value.as_str()));
    }
    match given.value.split_once(':') {
        Some((user, selector)) if !user.is_empty() => Ok((user, selector)),
        _ => bail!("--password: expected USER:SELECTOR"),
    }
}

/// Makes a password where a random one is asked for, and puts it in the selector's place.
pub(super) fn draw(given: &mut Given) -> Result<Option<Generated>> {
    if !matches!(given.option, "root-password" | "password") {
        return Ok(None);
    }
    let (user, selector) = account(given)?;
    let lock = match selector {
        "random" => "",
        "locked:random" => "locked:",
        _ => return Ok(None),
    };
    let generated = Generated {
        user: user.to_owned(),
        password: random()?,
    };
    let selector = format!("{lock}password:{}", generated.password);
    given.value = match given.option {
        "root-password" => selector,
        _ => format!("{user}:{selector}"),
    };
    Ok(Some(generated))
}

fn random() -> Result<String> {
    let mut password = String::new();
    // Bytes beyond the largest multiple of the alphabet's length are thrown away: every character is as likely.
    let fair = 256 - 256 % RANDOM_FROM.len();
    while password.len() < RANDOM_LEN {
        let mut byte = [0u8; 1];
        rustix::rand::getrandom(&mut byte, rustix::rand::GetRandomFlags::empty())
            .context("asking for random bytes")?;
        let index = usize::from(byte[0]);
        if index < fair {
            password.extend(
                RANDOM_FROM
                    .get(index % RANDOM_FROM.len())
                    .copied()
                    .map(char::from),
            );
        }
    }
    Ok(password)
}

/// The account and what is to be done to its password, in order. No message repeats the selector.
pub(super) fn passwords(given: &Given) -> Result<(String, Vec<Password>)> {
    let option = given.option;
    let (user, selector) = account(given)?;
    check_user(option, user)?;
    let passwords = match selector {
        "disabled" => vec![Password::Disabled],
        "locked" => vec![Password::Locked],
        selector => match selector.strip_prefix("locked:") {
            Some(selector) => vec![new_password(option, selector)?, Password::Locked],
            None => vec![new_password(option, selector)?],
        },
    };
    Ok((user.to_owned(), passwords))
}

fn new_password(option: &str, selector: &str) -> Result<Password> {
    let text = match selector.split_once(':') {
        Some(("password", text)) => text.to_owned(),
        Some(("file", file)) => {
            let text =
                text_file(Path::new(file), FILE_MAX).with_context(|| format!("--{option}"))?;
            // The first line, as virt-customize reads it.
            text.lines().next().unwrap_or_default().to_owned()
        }
        Some(("hashed", hash)) => {
            let plain =
                |c: char| c.is_ascii_graphic() && !matches!(c, ':' | ';' | '*' | '!' | '\\');
            if !hash.starts_with('$') || !hash.chars().all(plain) {
                bail!("--{option}: expected a hash as crypt(5) has it behind hashed:");
            }
            return Ok(Password::Hashed(hash.to_owned()));
        }
        _ if selector == "random" => {
            bail!("--{option}: a random password has nobody to be told to here")
        }
        _ => bail!(
            "--{option}: expected password:TEXT, file:FILE, hashed:HASH, random, disabled, or locked[:SELECTOR]"
        ),
    };
    if text.is_empty() {
        bail!("--{option}: the password is empty; disabled is for an account without one");
    }
    if text.len() > PASSWORD_MAX || text.contains(['\0', '\n', '\r']) {
        bail!("--{option}: expected a password of one line and at most {PASSWORD_MAX} bytes");
    }
    Ok(Password::Clear(text))
}

/// Names that can stand in passwd(5).
fn check_user(option: &str, user: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, ':' | '/' | ',');
    if user.is_empty() || user.len() > 256 || !user.chars().all(plain) || user.starts_with('-') {
        bail!("--{option}: expected the name of an account");
    }
    Ok(())
}

/// True when `--ssh-inject` has the key in its value, and reads no file.
pub(super) fn is_key_itself(value: &str) -> bool {
    value
        .split_once(':')
        .is_some_and(|(_, selector)| selector.starts_with("string:"))
}

/// The account and the keys of `--ssh-inject`.
pub(super) fn ssh_keys(value: &str) -> Result<(String, Vec<String>)> {
    let (user, selector) = match value.split_once(':') {
        Some((user, selector)) => (user, Some(selector)),
        None => (value, None),
    };
    check_user("ssh-inject", user)?;
    let text = match selector.map(|selector| selector.split_once(':')) {
        Some(Some(("file", file))) => {
            text_file(Path::new(file), FILE_MAX).context("--ssh-inject")?
        }
        Some(Some(("string", key))) => key.to_owned(),
        Some(_) => bail!("--ssh-inject {user}: expected USER, USER:file:FILE or USER:string:KEY"),
        None => text_file(&own_key()?, FILE_MAX).context("--ssh-inject")?,
    };
    let keys: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    if keys.is_empty() {
        bail!("--ssh-inject {user}: there is no key in it");
    }
    if text.contains("PRIVATE KEY") {
        bail!("--ssh-inject {user}: this is a private key; expected the public one (.pub)");
    }
    if let Some(key) = keys.iter().find(|key| !is_public_key(key)) {
        let begin: String = key.chars().take(16).collect();
        bail!(
            "--ssh-inject {user}: expected a public key such as ssh-ed25519 AAAA…, found `{begin}…`"
        );
    }
    Ok((user.to_owned(), keys))
}

/// A line of authorized_keys: perhaps options, then a type, then base64 (sshd(8)).
fn is_public_key(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_type = |word: &str| {
        ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"]
            .iter()
            .any(|prefix| word.starts_with(prefix))
    };
    !line.contains(char::is_control)
        && words
            .windows(2)
            .any(|pair| matches!(pair, [kind, blob] if is_type(kind) && blob.starts_with("AAAA")))
}

/// The public key that ssh-copy-id(1) would take: the youngest `~/.ssh/id*.pub`.
fn own_key() -> Result<PathBuf> {
    let home =
        std::env::var_os("HOME").context("--ssh-inject: there is no $HOME to look for a key in")?;
    newest_key(&Path::new(&home).join(".ssh"))
}

fn newest_key(dir: &Path) -> Result<PathBuf> {
    let mut found: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_key =
            name.starts_with("id") && name.ends_with(".pub") && !name.ends_with("-cert.pub");
        if let Some(changed) = entry.metadata().ok().and_then(|meta| meta.modified().ok())
            && is_key
        {
            found.push((changed, entry.path()));
        }
    }
    let newest = found.into_iter().max();
    let (_, path) = newest.with_context(|| {
        format!(
            "--ssh-inject: there is no id*.pub in {}; give USER:file:FILE",
            dir.display()
        )
    })?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_youngest_key_is_taken_and_certificates_are_not() {
        let dir = tempfile::tempdir().unwrap();
        assert!(
            newest_key(dir.path())
                .unwrap_err()
                .to_string()
                .contains("file:FILE")
        );
        for (name, age) in [
            ("id_rsa.pub", 5),
            ("id_ed25519.pub", 9),
            ("id_x-cert.pub", 1),
            ("known", 0),
        ] {
            let file = std::fs::File::create(dir.path().join(name)).unwrap();
            let then = SystemTime::now() - std::time::Duration::from_secs(age);
            file.set_modified(then).unwrap();
        }
        assert!(newest_key(dir.path()).unwrap().ends_with("id_rsa.pub"));
    }

    #[test]
    fn random_passwords_differ_and_are_easy_to_type() {
        let (one, two) = (random().unwrap(), random().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), RANDOM_LEN);
        assert!(!one.contains(['0', 'O', '1', 'l', 'I', 'o']));
    }
}
