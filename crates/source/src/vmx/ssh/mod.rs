//! `-it ssh`: the files of an ESXi host through the system's ssh.
//!
//! ESXi's sshd has OpenSSH's sftp-server as the subsystem `sftp`, which reads at any offset; so `ssh -s HOST sftp` is
//! started once, and the `.vmx`, descriptors and extents are read through it in place. Keys, agent, known hosts,
//! jump hosts and prompts are ssh's own matter.

mod connection;
mod files;
mod packet;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use image::{FileRange, Files};

use self::connection::Connection;
use self::files::RemoteFolder;
use crate::error::{Error, ErrorKind, Result, shown};
use crate::open::{SourceOptions, SshPlace};

/// Where ESXi mounts its datastores; the disks of one machine may lie on several.
const DATASTORES: &str = "/vmfs/volumes";

/// A remote `.vmx`, and the files that it may name.
pub(super) fn open(place: &SshPlace, options: &SourceOptions) -> Result<(FileRange, Files)> {
    let uri = Uri::parse(&place.uri)?;
    let at_host = |e: image::Error| Error::from(e.in_file(uri.front()));
    let connection = Arc::new(Connection::start(&mut command(&uri, place)?).map_err(at_host)?);
    let folder = uri.path.parent().unwrap_or(Path::new("/"));
    let (base, flat) = match &options.base_dir {
        Some(base) => (base.as_path(), false),
        None if uri.path.starts_with(DATASTORES) => (Path::new(DATASTORES), false),
        None => (folder, true),
    };
    let folder = RemoteFolder::new(connection, uri.front(), base, flat).map_err(at_host)?;
    let Some(range) = folder.at(&uri.path)? else {
        let message = "expected a .vmx, found no such file";
        return Err(Error::new(ErrorKind::Missing, message).in_file(shown(&place.uri)));
    };
    Ok((range, Files::of(Arc::new(folder))))
}

/// `ssh://[USER@]HOST[:PORT]/PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Uri {
    user: Option<String>,
    host: String,
    port: Option<u16>,
    path: PathBuf,
}

impl Uri {
    fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::new(
                ErrorKind::Usage,
                format!(
                    "{}: expected ssh://[USER@]HOST[:PORT]/PATH/NAME.vmx{why}",
                    shown(text)
                ),
            )
        };
        let rest = text.strip_prefix("ssh://").ok_or_else(|| wrong(""))?;
        let (authority, path) = rest.split_once('/').ok_or_else(|| wrong(""))?;
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(unescape(user)), place),
            None => (None, authority),
        };
        if user.as_deref().is_some_and(|user| user.contains(':')) {
            return Err(wrong("; a password is given with -ip FILE"));
        }
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(|| wrong(""))?;
                (host, port.strip_prefix(':'))
            }
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        let port = port.filter(|port| !port.is_empty());
        let port = port.map(str::parse).transpose();
        let port = port.map_err(|_| wrong(", found a port that is no number"))?;
        // What begins with a dash ssh would take for an option.
        let odd = |text: &str| {
            text.is_empty() || text.starts_with('-') || text.contains(char::is_control)
        };
        if odd(host) || user.as_deref().is_some_and(odd) {
            return Err(wrong(""));
        }
        Ok(Self {
            user,
            host: host.to_owned(),
            port,
            path: PathBuf::from(format!("/{}", unescape(path))),
        })
    }

    /// What labels of the host's files begin with.
    fn front(&self) -> String {
        format!("ssh://{}", self.host)
    }
}

/// Undoes percent-encoding where it is one that gives UTF-8: datastores have spaces and parentheses in their names, and
/// users write them as they are.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        let decoded = digits
            .filter(|digits| byte == b'%' && digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(decoded.unwrap_or(byte));
        rest = match decoded {
            Some(_) => tail.get(2..).unwrap_or_default(),
            None => tail,
        };
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

/// The command that ends in the remote sftp-server.
fn command(uri: &Uri, place: &SshPlace) -> Result<Command> {
    let program = place
        .program
        .clone()
        .or_else(|| std::env::var_os("V2V_SSH").map(PathBuf::from))
        .unwrap_or_else(|| "ssh".into());
    let mut command = Command::new(program);
    command.args(["-x", "-a", "-T"]);
    for option in [
        "ClearAllForwardings=yes",
        "PermitLocalCommand=no",
        // A host that is gone is noticed after a minute.
        "ServerAliveInterval=15",
        "ServerAliveCountMax=4",
    ] {
        command.arg("-o").arg(option);
    }
    if let Some(file) = &place.password_file {
        with_password(&mut command, file, place.askpass.as_deref())?;
    }
    if let Some(port) = uri.port {
        command.arg("-p").arg(port.to_string());
    }
    if let Some(user) = &uri.user {
        command.arg("-l").arg(user);
    }
    command.args(["-s", "--", &uri.host, "sftp"]);
    Ok(command)
}

/// ssh takes no password but from a terminal or a program that it asks (ssh(1), `SSH_ASKPASS`). That program would answer
/// any question with the password, so there must be no other question: hosts must be known, and keys are not tried.
fn with_password(command: &mut Command, file: &Path, askpass: Option<&Path>) -> Result<()> {
    let Some(askpass) = askpass else {
        return Err(Error::new(
            ErrorKind::Usage,
            "-ip is not available here; hint: use a key or an agent",
        ));
    };
    let file = std::path::absolute(file)
        .and_then(|file| std::fs::File::open(&file).map(|_| file))
        .map_err(|e| Error::io("opening the password file", e).in_file(file.display()))?;
    for option in [
        "StrictHostKeyChecking=yes",
        "PreferredAuthentications=password,keyboard-interactive",
        "PubkeyAuthentication=no",
        "NumberOfPasswordPrompts=1",
    ] {
        command.arg("-o").arg(option);
    }
    command
        .env("SSH_ASKPASS", askpass)
        .env("SSH_ASKPASS_REQUIRE", "force")
        .env(PASSWORD_FILE_VARIABLE, file);
    Ok(())
}

/// Names the password file to the program that ssh asks ([`SshPlace::askpass`]), which prints its first line.
pub const PASSWORD_FILE_VARIABLE: &str = "V2V_SSH_PASSWORD_FILE";
