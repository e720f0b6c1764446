//! `--root-password`, `--password`: one field of one line of /etc/shadow (shadow(5)), in place. Where the account's
//! password is in /etc/passwd itself, or in the account's own file of tcb (ALT Linux, tcb(5)), it is changed there.

use std::time::{SystemTime, UNIX_EPOCH};

use types::Password;

use super::accounts::{self, PASSWD};
use super::crypt::{self, Scheme};
use crate::recorder::{from_bytes, to_bytes};
use crate::root::CONFIG_MAX;
use crate::{Error, ErrorKind, Recorder, Result, Root};

const SHADOW: &str = "/etc/shadow";
const DAY: u64 = 24 * 60 * 60;

/// The file that holds the account's password.
pub(super) fn place(root: &Root, user: &str) -> Result<String> {
    let account = accounts::find(root, user)?;
    let tcb = format!("/etc/tcb/{user}/shadow");
    let place = if user != "." && user != ".." && root.is_file(&tcb) {
        tcb
    } else if root.exists(SHADOW) {
        SHADOW.to_owned()
    } else if account.password == "x" {
        let message = format!("the guest has no shadow entry for {user}: no such file");
        return Err(Error::new(ErrorKind::Refused, message).at(SHADOW));
    } else {
        return Ok(PASSWD.to_owned());
    };
    let text = from_bytes(&root.read(&place, CONFIG_MAX)?);
    if text.lines().any(|line| names(line, user)) {
        return Ok(place);
    }
    let message = format!("the guest has no shadow entry for {user}");
    Err(Error::new(ErrorKind::Refused, message).at(place))
}

pub(super) fn apply(recorder: &mut Recorder<'_>, user: &str, password: &Password) -> Result<()> {
    let root = recorder.root();
    let place = place(root, user)?;
    let scheme = Scheme::of(root);
    let today = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() / DAY);
    let old = from_bytes(&root.read(&place, CONFIG_MAX)?);
    let new = edited(&old, user, &place, today, |old| match password {
        Password::Clear(text) if crypt::matches(text, old) => Ok(old.to_owned()),
        Password::Clear(text) => scheme.hash(text),
        Password::Hashed(hash) => Ok(hash.clone()),
        Password::Disabled => Ok("*".to_owned()),
        Password::Locked if old.starts_with('!') => Ok(old.to_owned()),
        Password::Locked => Ok(format!("!{old}")),
    })?;
    let why = match password {
        Password::Locked => format!("{user} is locked"),
        Password::Disabled => format!("{user} has no password"),
        Password::Clear(_) | Password::Hashed(_) => format!("{user} has a new password"),
    };
    recorder.write(&place, &to_bytes(&new), &why)?;
    Ok(())
}

fn names(line: &str, user: &str) -> bool {
    line.split_once(':').is_some_and(|(name, _)| name == user)
}

/// The text with a new password for `user`. Its day of change follows in a shadow file, unless ageing is off (empty) or
/// a change is due at the next login (0).
fn edited(
    text: &str,
    user: &str,
    place: &str,
    today: u64,
    new: impl Fn(&str) -> Result<String>,
) -> Result<String> {
    let mut out = String::with_capacity(text.len() + 128);
    let mut found = false;
    for line in text.split_inclusive('\n') {
        let (body, end) = match line.strip_suffix('\n') {
            Some(body) => (body, "\n"),
            None => (line, ""),
        };
        // The first entry counts, as for getspnam(3).
        if found || !names(body, user) {
            out.push_str(line);
            continue;
        }
        found = true;
        let mut fields: Vec<String> = body.split(':').map(str::to_owned).collect();
        let Some(field) = fields.get_mut(1) else {
            return Err(Error::corrupt(format!("expected a password field for {user}")).at(place));
        };
        let password = new(field)?;
        let locks = password.trim_start_matches('!') == field.trim_start_matches('!');
        *field = password;
        if place != PASSWD
            && !locks
            && let Some(changed) = fields.get_mut(2)
            && !matches!(changed.as_str(), "" | "0")
        {
            *changed = today.to_string();
        }
        out.push_str(&fields.join(":"));
        out.push_str(end);
    }
    if found {
        return Ok(out);
    }
    let message = format!("the guest has no entry for {user}");
    Err(Error::new(ErrorKind::Refused, message).at(place))
}
