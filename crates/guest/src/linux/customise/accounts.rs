//! Accounts of the guest, from /etc/passwd (passwd(5)).

use crate::{Error, ErrorKind, Result, Root};

pub(super) const PASSWD: &str = "/etc/passwd";

/// One account.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Account {
    /// Password field: `x` when it is in the shadow file.
    pub(super) password: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: String,
}

/// The account called `user`.
pub(super) fn find(root: &Root, user: &str) -> Result<Account> {
    let text = root.read_text(PASSWD)?.unwrap_or_default();
    let line = text
        .lines()
        .find(|line| line.split(':').next() == Some(user))
        .ok_or_else(|| {
            let message = format!("the guest has no account {user}");
            Error::new(ErrorKind::Refused, message).at(PASSWD)
        })?;
    parse(line).ok_or_else(|| {
        Error::corrupt(format!("expected seven fields for the account {user}")).at(PASSWD)
    })
}

fn parse(line: &str) -> Option<Account> {
    let fields: Vec<&str> = line.split(':').collect();
    let [_, password, uid, gid, _, home, _] = fields.as_slice() else {
        return None;
    };
    Some(Account {
        password: (*password).to_owned(),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        home: (*home).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_passwd_are_read() {
        let account = parse("kim:x:1000:100:Kim,,,:/home/kim:/bin/bash").unwrap();
        assert_eq!((account.uid, account.gid), (1000, 100));
        assert_eq!(
            (account.home.as_str(), account.password.as_str()),
            ("/home/kim", "x")
        );
        for bad in ["kim:x:1000", "+::::::", "kim:x:-1:100::/:/bin/sh", ""] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
