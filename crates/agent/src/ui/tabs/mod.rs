//! The screens: rows of each, and what their fields and buttons do.

pub(crate) mod disks;
pub(crate) mod guest;
pub(crate) mod job;
pub(crate) mod network;
pub(crate) mod server;
pub(crate) mod start;

use super::form::{Id, Row};
use super::model::{Ask, Model};
use crate::app::{Command, View};

/// One screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tab {
    Network,
    #[default]
    Server,
    Disks,
    Guest,
    Start,
    Job,
    Log,
}

/// All, in their order, with their keys.
pub(crate) const TABS: [(Tab, u8, &str); 7] = [
    (Tab::Network, 1, "Network"),
    (Tab::Server, 2, "Server"),
    (Tab::Disks, 3, "Disks"),
    (Tab::Guest, 4, "Guest"),
    (Tab::Start, 6, "Start"),
    (Tab::Job, 7, "Job"),
    (Tab::Log, 9, "Log"),
];

impl Tab {
    /// The tab of a function key.
    pub(crate) fn of_key(number: u8) -> Option<Self> {
        TABS.iter()
            .find(|(_, key, _)| *key == number)
            .map(|(tab, ..)| *tab)
    }

    pub(crate) fn next(self) -> Self {
        self.moved(1)
    }

    pub(crate) fn before(self) -> Self {
        self.moved(TABS.len() - 1)
    }

    fn moved(self, by: usize) -> Self {
        let at = TABS.iter().position(|(tab, ..)| *tab == self).unwrap_or(0);
        TABS.get((at + by) % TABS.len())
            .map_or(self, |(tab, ..)| *tab)
    }
}

/// Rows of a tab; the log has none.
pub(crate) fn rows(tab: Tab, model: &Model, view: &View) -> Vec<Row> {
    match tab {
        Tab::Network => network::rows(model, view),
        Tab::Server => server::rows(model, view),
        Tab::Disks => disks::rows(model, view),
        Tab::Guest => guest::rows(model, view),
        Tab::Start => start::rows(model, view),
        Tab::Job => job::rows(view),
        Tab::Log => Vec::new(),
    }
}

/// Takes the text of a field, or says what is wrong with it.
pub(crate) fn take(model: &mut Model, id: Id, text: &str, view: &View) -> Result<(), String> {
    match id {
        Id::Server | Id::Code => server::take(model, id, text),
        Id::NicNetwork(place) => {
            disks::take_network(model, place, text, view);
            Ok(())
        }
        Id::Name | Id::Memory | Id::Vcpus | Id::Output => guest::take(model, id, text),
        _ => model.network.take(id, text),
    }
}

/// Enter or Space on what is no text.
pub(crate) fn press(model: &mut Model, id: Id, view: &View) {
    match id {
        Id::Apply | Id::BondPort(_) => network::press(model, id, view),
        Id::Test | Id::Same | Id::Different => server::press(model, id, view),
        Id::Disk(_) | Id::Nic(_) | Id::Removable(_) => disks::press(model, id, view),
        Id::Topology => model.change(|config| config.physical_topology = !config.physical_topology),
        Id::Resync => model.change(|config| config.resync = !config.resync),
        Id::Start => start::press(model, view),
        Id::Retry => model.send(Command::Retry),
        Id::Cancel => model.question(Ask::Cancel),
        Id::Poweroff => model.question(Ask::Poweroff),
        Id::Reboot => model.question(Ask::Reboot),
        _ => turn(model, id, 1, view),
    }
}

/// The next (1) or the one before (-1) of a choice.
pub(crate) fn turn(model: &mut Model, id: Id, by: isize, _view: &View) {
    match id {
        Id::Interface | Id::Method | Id::BondMode => {
            model.network.turn(id, by);
            for text in [Id::Address, Id::Gateway, Id::Dns, Id::Vlan] {
                model.forget(text);
            }
        }
        Id::Post | Id::Fail => guest::turn(model, id, by),
        _ => {}
    }
}

/// The place `by` further in a ring of `len`.
pub(crate) fn around(at: usize, by: isize, len: usize) -> usize {
    match at.checked_add_signed(by) {
        Some(next) if next < len => next,
        Some(_) => 0,
        None => len.saturating_sub(1),
    }
}

/// Bytes for people: `931.5 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    // In tenths, so that no float rounds 1023.96 up to 1024.0.
    let mut tenths = u128::from(count) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_for_people() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (1_000_204_886_016, "931.5 GiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn tabs_go_round() {
        assert_eq!(Tab::Log.next(), Tab::Network);
        assert_eq!(Tab::Network.before(), Tab::Log);
        assert_eq!(Tab::of_key(6), Some(Tab::Start));
        assert_eq!(Tab::of_key(8), None);
    }
}
