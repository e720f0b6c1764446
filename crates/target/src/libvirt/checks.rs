//! What libvirt must have for the domain: a free name and the networks. Asked before any work.

use std::path::Path;

use types::{Machine, NicNetwork};

use crate::libvirt::virsh::Virsh;
use crate::{Error, ErrorKind, Result};

/// Refuses a name that a domain of this connection has.
pub(crate) fn refuse_taken_domain(virsh: &Virsh, name: &str) -> Result<()> {
    if !virsh
        .names(&["list", "--all", "--name"])?
        .iter()
        .any(|domain| domain == name)
    {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::NameTaken,
        format!("libvirt at {} has a domain `{name}` already", virsh.label()),
    )
    .with_hint("give the result another name with -on NAME, or undefine that domain first"))
}

/// Refuses networks and bridges that do not exist. Gives notes on those that are not ready.
pub(crate) fn networks(virsh: &Virsh, machine: &Machine) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    let mut seen = Vec::new();
    let mut lists: Option<(Vec<String>, Vec<String>)> = None;
    for nic in machine.nics.iter().filter(|nic| {
        let new = !seen.contains(&&nic.network);
        seen.push(&nic.network);
        new
    }) {
        match &nic.network {
            NicNetwork::Network(name) => {
                let (all, active) = match &mut lists {
                    Some(lists) => lists,
                    none => none.insert((
                        virsh.names(&["net-list", "--all", "--name"])?,
                        virsh.names(&["net-list", "--name"])?,
                    )),
                };
                if !all.contains(name) {
                    return Err(no_network(virsh, name, all));
                }
                if !active.contains(name) {
                    notes.push(format!(
                        "the network `{name}` is not active: virsh net-start {name}"
                    ));
                }
            }
            NicNetwork::Bridge(name) if virsh.uri().remote => {
                notes.push(format!(
                    "whether {} has the bridge `{name}` was not looked up",
                    virsh.label()
                ));
            }
            NicNetwork::Bridge(name) => refuse_absent_bridge(Path::new("/sys/class/net"), name)?,
        }
    }
    Ok(notes)
}

fn no_network(virsh: &Virsh, name: &str, known: &[String]) -> Error {
    let known = if known.is_empty() {
        "there is none".to_owned()
    } else {
        format!("there is {}", known.join(", "))
    };
    Error::new(
        ErrorKind::NotFound,
        format!(
            "libvirt at {} has no network `{name}`: {known}",
            virsh.label()
        ),
    )
    .with_hint("map the networks of the source with -n SOURCE:NETWORK or -b SOURCE:BRIDGE")
}

fn refuse_absent_bridge(interfaces: &Path, name: &str) -> Result<()> {
    if !name.is_empty() && !name.contains('/') && interfaces.join(name).exists() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::NotFound,
        format!("this host has no bridge `{name}`"),
    )
    .with_hint("create it, or map the networks of the source with -n or -b"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_is_an_interface_of_this_host() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("br0")).unwrap();
        refuse_absent_bridge(dir.path(), "br0").unwrap();
        for name in ["br1", "", "../", "br0/../br0"] {
            assert_eq!(
                refuse_absent_bridge(dir.path(), name).unwrap_err().kind(),
                ErrorKind::NotFound,
                "{name}"
            );
        }
    }
}
