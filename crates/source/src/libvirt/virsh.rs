//! Asks libvirt through virsh.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use crate::error::{Error, ErrorKind, Result, shown};

/// A connection of virsh.
#[derive(Clone, Debug, Default)]
pub(crate) struct Virsh {
    uri: Option<String>,
}

impl Virsh {
    /// A connection to `uri`; `None` is virsh's default.
    pub(crate) fn new(uri: Option<&str>) -> Self {
        Self {
            uri: uri.map(str::to_owned),
        }
    }

    /// What it prints, in English and UTF-8 wherever it has a say.
    fn run(&self, args: &[&str]) -> Result<String> {
        let program = std::env::var_os("V2V_VIRSH");
        let program = program.as_deref().unwrap_or(OsStr::new("virsh"));
        let mut command = Command::new(program);
        command.env("LC_ALL", "C.UTF-8").stdin(Stdio::inherit());
        command.arg("--readonly").arg("--quiet");
        if let Some(uri) = &self.uri {
            command.arg("--connect").arg(uri);
        }
        command.args(args);
        let shown_args = args.join(" ");
        let output = command
            .stderr(Stdio::piped())
            .output()
            .map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => Error::new(
                    ErrorKind::Missing,
                    "virsh is not installed; hint: install libvirt-clients, or use -i libvirtxml with the XML of the \
                     domain",
                ),
                _ => Error::io("starting virsh", e),
            })?;
        if output.status.success() {
            return String::from_utf8(output.stdout)
                .map_err(|_| Error::corrupt("virsh printed what is no UTF-8"));
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said: Vec<&str> = said
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let said = said.join("; ");
        let uri = self.uri.as_deref().unwrap_or("default connection");
        Err(Error::new(
            ErrorKind::Io,
            format!(
                "virsh {} ({}): {}",
                shown(&shown_args),
                shown(uri),
                shown(said.trim_start_matches("error: "))
            ),
        ))
    }

    /// The state of a domain, e.g. `shut off`.
    pub(crate) fn state(&self, domain: &str) -> Result<String> {
        Ok(self
            .run(&["domstate", "--domain", domain])?
            .trim()
            .to_owned())
    }

    /// The XML that the domain is started from.
    pub(crate) fn xml(&self, domain: &str) -> Result<String> {
        self.run(&["dumpxml", "--inactive", "--domain", domain])
    }

    /// The path of a volume.
    pub(crate) fn volume_path(&self, pool: &str, volume: &str) -> Result<String> {
        let text = self.run(&["vol-path", "--pool", pool, "--vol", volume])?;
        Ok(text.trim_end_matches('\n').to_owned())
    }
}
