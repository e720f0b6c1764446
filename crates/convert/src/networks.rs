//! Which target network each NIC is connected to, and the MAC of NICs whose source states none.

use types::{MacAddr, Machine, Nic, NicNetwork};

use crate::{Error, Result};

/// `-n`/`--network`, `-b`/`--bridge` and `--mac`, in virt-v2v's meaning: a `--mac` rule is stronger than a named
/// mapping, and that is stronger than the default (`-n OUT` without a source name).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkRules {
    /// `--mac MAC:network|bridge:OUT`.
    pub by_mac: Vec<MacRule>,
    /// `-n IN:OUT` and `-b IN:OUT`.
    pub by_name: Vec<(String, NicNetwork)>,
    /// `-n OUT` or `-b OUT`.
    pub default: Option<NicNetwork>,
}

/// One `--mac` rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MacRule {
    /// Which NIC.
    pub mac: MacAddr,
    /// What it is connected to.
    pub network: NicNetwork,
}

impl NetworkRules {
    /// Connects every NIC of the machine and gives a MAC to those that have none. It is given once, here, so that
    /// the guest's configuration and the domain agree.
    pub fn apply(&self, machine: &mut Machine) -> Result<()> {
        for rule in &self.by_mac {
            if !machine.nics.iter().any(|nic| nic.mac == Some(rule.mac)) {
                let known: Vec<_> = machine
                    .nics
                    .iter()
                    .filter_map(|nic| nic.mac)
                    .map(|mac| mac.to_string())
                    .collect();
                return Err(Error::Network(format!(
                    "--mac {}: the machine has no such NIC; it has {}",
                    rule.mac,
                    if known.is_empty() {
                        "none with a stated MAC".to_owned()
                    } else {
                        known.join(", ")
                    }
                )));
            }
        }
        for nic in &mut machine.nics {
            if let Some(network) = self.network_of(nic) {
                nic.network = network;
            }
        }
        for index in 0..machine.nics.len() {
            if machine.nics[index].mac.is_none() {
                machine.nics[index].mac = Some(unused_mac(machine)?);
            }
        }
        Ok(())
    }

    fn network_of(&self, nic: &Nic) -> Option<NicNetwork> {
        let by_mac = self
            .by_mac
            .iter()
            .find(|rule| nic.mac == Some(rule.mac))
            .map(|rule| &rule.network);
        let by_name = || {
            self.by_name
                .iter()
                .find(|(name, _)| *name == nic.source_network)
                .map(|(_, out)| out)
        };
        by_mac.or_else(by_name).or(self.default.as_ref()).cloned()
    }
}

/// A random address in KVM's range that no NIC of the machine has.
fn unused_mac(machine: &Machine) -> Result<MacAddr> {
    loop {
        let mut suffix = [0u8; 3];
        rustix::rand::getrandom(&mut suffix, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| Error::Network(format!("making a MAC address: {error}")))?;
        let mac = MacAddr::kvm(suffix);
        if machine.nics.iter().all(|nic| nic.mac != Some(mac)) {
            return Ok(mac);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use types::Hypervisor;

    use super::*;

    pub(crate) fn machine(nics: &[(&str, Option<&str>)]) -> Machine {
        Machine {
            nics: nics
                .iter()
                .map(|(network, mac)| Nic {
                    mac: mac.map(|mac| mac.parse().unwrap()),
                    model: None,
                    network: NicNetwork::Network((*network).into()),
                    source_network: (*network).into(),
                    guest_name: None,
                })
                .collect(),
            ..Machine::bare("m", Hypervisor::Vmware)
        }
    }

    #[test]
    fn a_mac_rule_beats_a_name_and_a_name_beats_the_default() {
        let rules = NetworkRules {
            by_mac: vec![MacRule {
                mac: "00:50:56:00:00:01".parse().unwrap(),
                network: NicNetwork::Bridge("br1".into()),
            }],
            by_name: vec![("VM Network".into(), NicNetwork::Network("prod".into()))],
            default: Some(NicNetwork::Bridge("br0".into())),
        };
        let mut machine = machine(&[
            ("VM Network", Some("00:50:56:00:00:01")),
            ("VM Network", None),
            ("DMZ", None),
        ]);
        rules.apply(&mut machine).unwrap();
        let got: Vec<_> = machine.nics.iter().map(|nic| nic.network.clone()).collect();
        assert_eq!(
            got,
            [
                NicNetwork::Bridge("br1".into()),
                NicNetwork::Network("prod".into()),
                NicNetwork::Bridge("br0".into())
            ]
        );
        assert_ne!(machine.nics[1].mac, machine.nics[2].mac);
        assert!(machine.nics[1].mac.is_some());
    }

    #[test]
    fn a_mac_rule_for_a_nic_that_is_not_there_is_refused() {
        let rules = NetworkRules {
            by_mac: vec![MacRule {
                mac: "00:50:56:00:00:09".parse().unwrap(),
                network: NicNetwork::Bridge("br1".into()),
            }],
            ..NetworkRules::default()
        };
        let error = rules
            .apply(&mut machine(&[("a", Some("00:50:56:00:00:01"))]))
            .unwrap_err();
        assert!(error.to_string().contains("00:50:56:00:00:01"), "{error}");
    }
}
