//! `--ssh-inject`: one more line in the account's authorized_keys (sshd(8), "AUTHORIZED_KEYS FILE FORMAT").
//!
//! The account may be anybody's: a link in the place of `.ssh` or of the file, by which the account would have another
//! account's file written, is refused.

use super::accounts;
use crate::recorder::{from_bytes, to_bytes};
use crate::root::{CONFIG_MAX, Kind, join};
use crate::{Error, ErrorKind, Recorder, Result};

pub(super) fn apply(recorder: &mut Recorder<'_>, user: &str, key: &str) -> Result<()> {
    let root = recorder.root();
    let account = accounts::find(root, user)?;
    let why = format!("{user} may log in with this key");
    let refused = |message: String, path: &str| Error::new(ErrorKind::Refused, message).at(path);
    if !account.home.starts_with('/') {
        let message = format!("the account {user} has no home directory");
        return Err(refused(message, accounts::PASSWD));
    }
    if !root.is_dir(&account.home) {
        let message = format!("the home directory of {user} is missing: --mkdir makes it");
        return Err(refused(message, &account.home));
    }
    let dir = join(&account.home, ".ssh");
    match root.link_meta(&dir) {
        Ok(meta) if meta.kind == Kind::Dir => {}
        Ok(meta) => {
            return Err(refused(
                format!("expected a directory, found {:?}", meta.kind),
                &dir,
            ));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            recorder.create_dir(&dir, 0o700, &why)?;
            recorder.own(&dir, account.uid, account.gid, &why)?;
        }
        Err(error) => return Err(error),
    }
    let path = join(&dir, "authorized_keys");
    let old = match root.link_meta(&path) {
        Ok(meta) if meta.kind == Kind::File => Some(from_bytes(&root.read(&path, CONFIG_MAX)?)),
        Ok(meta) => {
            return Err(refused(
                format!("expected a regular file, found {:?}", meta.kind),
                &path,
            ));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let is_new = old.is_none();
    let mut text = old.unwrap_or_default();
    let key = from_bytes(key.trim().as_bytes());
    if text.lines().any(|line| line.trim() == key) {
        return Ok(());
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&key);
    text.push('\n');
    recorder.write_mode(&path, &to_bytes(&text), 0o600, &why)?;
    if is_new {
        recorder.own(&path, account.uid, account.gid, &why)?;
    }
    Ok(())
}
