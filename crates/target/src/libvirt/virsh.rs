//! One libvirt connection, spoken to through virsh. Names are passed as `--option=NAME`, so that a name that
//! begins with a dash or looks like an id or a UUID is still a name.

use crate::hostcmd::HostCmd;
use crate::{Error, ErrorKind, Result};

const PACKAGE: &str = "libvirt-clients";

/// A connection that has answered once.
#[derive(Clone, Debug)]
pub(crate) struct Virsh {
    /// `-oc`; without it virsh decides (LIBVIRT_DEFAULT_URI, its configuration, else the local system).
    given: Option<String>,
    uri: Uri,
}

/// What matters of a connection URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uri {
    text: String,
    /// `qemu`, `test`, ….
    pub(crate) driver: String,
    /// The daemon runs on another host, or cannot be told from one that does.
    pub(crate) remote: bool,
}

impl Uri {
    /// `driver[+transport]://[host]/path[?parameters]` (<https://libvirt.org/uri.html>).
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let (driver, transport) = scheme.split_once('+').unwrap_or((scheme, ""));
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        let remote = !host.is_empty() || !matches!(transport, "" | "unix");
        Some(Self {
            text: text.to_owned(),
            driver: driver.to_owned(),
            remote,
        })
    }
}

impl Virsh {
    /// Connects; a daemon that does not answer, and one that runs no QEMU guests, are refused.
    pub(crate) fn connect(given: Option<String>) -> Result<Self> {
        let answer = virsh(given.as_deref())
            .arg("uri")
            .output()
            .map_err(|error| {
                if error.hint().is_some() {
                    return error;
                }
                let to = given.as_deref().unwrap_or("its default connection");
                Error::new(
                    ErrorKind::Command,
                    format!("libvirt does not answer at {to}"),
                )
                .with_hint(
                    "is libvirtd running there? another connection can be given with -oc URI",
                )
                .caused_by(error)
            })?;
        let text = given.as_deref().unwrap_or(answer.trim());
        let uri = Uri::parse(text).ok_or_else(|| {
            Error::new(
                ErrorKind::Usage,
                format!("expected a libvirt URI such as qemu:///system, found `{text}`"),
            )
        })?;
        if !matches!(uri.driver.as_str(), "qemu" | "test") {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "expected a connection to QEMU, found `{}` ({})",
                    uri.driver, uri.text
                ),
            )
            .with_hint("name one with -oc, for example qemu:///system"));
        }
        Ok(Self { given, uri })
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The URI for messages.
    pub(crate) fn label(&self) -> &str {
        &self.uri.text
    }

    /// Runs one virsh command.
    pub(crate) fn run(&self, args: &[&str]) -> Result<String> {
        virsh(self.given.as_deref()).args(args).output()
    }

    /// Runs a command that lists names, one a line.
    pub(crate) fn names(&self, args: &[&str]) -> Result<Vec<String>> {
        let text = self.run(args)?;
        Ok(text
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect())
    }
}

fn virsh(uri: Option<&str>) -> HostCmd {
    let command = HostCmd::new("virsh", PACKAGE).arg("--quiet");
    match uri {
        Some(uri) => command.arg(format!("--connect={uri}")),
        None => command,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_or_a_network_transport_makes_it_remote() {
        for (text, driver, remote) in [
            ("qemu:///system", "qemu", false),
            ("qemu:///system?socket=/run/x/libvirt-sock", "qemu", false),
            ("qemu+unix:///system", "qemu", false),
            ("test:///default", "test", false),
            ("qemu+ssh://root@kvm1/system", "qemu", true),
            ("qemu+ext:///system?command=/bin/x", "qemu", true),
            ("qemu://kvm1/system", "qemu", true),
            ("xen:///", "xen", false),
        ] {
            let uri = Uri::parse(text).unwrap();
            assert_eq!(
                (uri.driver.as_str(), uri.remote),
                (driver, remote),
                "{text}"
            );
        }
        assert_eq!(Uri::parse("qemu"), None);
    }
}
