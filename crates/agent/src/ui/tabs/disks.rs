//! What is sent: disks, interfaces with the target's network of each, CD and floppy drives.

use wire::inventory::{Disk, Inventory, Nic};

use super::bytes;
use crate::app::View;
use crate::config::{Config, NetworkMap};
use crate::ui::form::{Id, Row};
use crate::ui::model::Model;

pub(crate) fn rows(model: &Model, view: &View) -> Vec<Row> {
    let Some(inventory) = &view.inventory else {
        return vec![Row::note("Looking for disks and interfaces ...")];
    };
    let config = &model.config;
    let mut rows = vec![Row::head("Disks")];
    for (place, disk) in inventory.disks.iter().enumerate() {
        rows.push(Row::Check {
            id: Id::Disk(place),
            on: is_disk_chosen(config, disk),
            lines: disk_lines(disk),
        });
    }
    if inventory.disks.is_empty() {
        rows.push(Row::note(
            "none found; is a driver missing? See F9 Log. F5 looks again.",
        ));
    }
    rows.push(Row::gap());
    rows.push(Row::head("Network interfaces"));
    for (place, nic) in inventory.nics.iter().enumerate() {
        let on = is_nic_chosen(config, nic);
        rows.push(Row::check(Id::Nic(place), on, nic_line(nic)));
        if on {
            let id = Id::NicNetwork(place);
            let value = model.text(id, network_of(config, nic));
            rows.push(Row::text(id, "    target network", value));
        }
    }
    if !inventory.removables.is_empty() {
        rows.push(Row::gap());
        rows.push(Row::head("CD and floppy drives"));
        for (place, drive) in inventory.removables.iter().enumerate() {
            let on = is_removable_chosen(config, &drive.name);
            let kind = if drive.floppy { "floppy" } else { "CD" };
            rows.push(Row::check(
                Id::Removable(place),
                on,
                format!("{:<8}{kind}", drive.name),
            ));
        }
    }
    for concern in &inventory.concerns {
        rows.push(Row::note(format!("! {concern}")));
    }
    rows
}

fn disk_lines(disk: &Disk) -> Vec<String> {
    let model = format!("{} {}", disk.vendor, disk.model);
    let mut lines = vec![format!(
        "{:<10} {:>10}  {}  {}",
        disk.name,
        bytes(disk.virtual_size),
        model.trim(),
        disk.serial
    )];
    let mut about: Vec<String> = Vec::new();
    match disk.healthy {
        Some(true) => about.push("healthy".into()),
        Some(false) => about.push("FAILING".into()),
        None => {}
    }
    if !disk.health.is_empty() {
        about.push(disk.health.clone());
    }
    let mut contents: Vec<&str> = Vec::new();
    for found in disk
        .contents
        .iter()
        .filter(|found| !found.content.is_empty())
    {
        if !contents.contains(&found.content.as_str()) {
            contents.push(&found.content);
        }
    }
    if contents.is_empty() {
        about.push("no content found".into());
    } else {
        about.push(contents.join(", "));
    }
    if !disk.members.is_empty() {
        about.push(format!("made of {}", disk.members.join(", ")));
    }
    lines.push(about.join("; "));
    if !disk.left_out.is_empty() {
        lines.push(format!("left out: {}", disk.left_out));
    }
    lines
}

fn nic_line(nic: &Nic) -> String {
    let link = match (nic.link, nic.speed_mbits) {
        (false, _) => "no link".to_owned(),
        (true, 0) => "link".to_owned(),
        (true, speed) => format!("link {speed} Mbit/s"),
    };
    let name = if nic.name.is_empty() {
        &nic.kernel_name
    } else {
        &nic.name
    };
    format!(
        "{name:<12} {}  {link}  {} {}",
        nic.mac, nic.driver, nic.model
    )
}

/// Whether the disk is going to be sent.
pub(crate) fn is_disk_chosen(config: &Config, disk: &Disk) -> bool {
    match &config.disks {
        Some(names) => names.contains(&disk.name),
        None => disk.left_out.is_empty(),
    }
}

/// Whether the interface is going to be in the guest.
pub(crate) fn is_nic_chosen(config: &Config, nic: &Nic) -> bool {
    match &config.interfaces {
        Some(names) => names.iter().any(|name| is_nic(nic, name)),
        None => true,
    }
}

fn is_removable_chosen(config: &Config, name: &str) -> bool {
    match &config.removables {
        Some(names) => names.iter().any(|n| n == name),
        None => true,
    }
}

fn is_nic(nic: &Nic, name: &str) -> bool {
    nic.name == name || nic.kernel_name == name
}

fn network_of(config: &Config, nic: &Nic) -> String {
    let map = config
        .networks
        .iter()
        .find(|map| {
            map.interface
                .as_deref()
                .is_some_and(|name| is_nic(nic, name))
        })
        .or_else(|| config.networks.iter().find(|map| map.interface.is_none()));
    map.map(|map| map.network.clone()).unwrap_or_default()
}

/// Connects one interface to a network; an empty text leaves it to the server, or to the network of all others.
pub(crate) fn take_network(model: &mut Model, place: usize, text: &str, view: &View) {
    let Some(nic) = view.inventory.as_deref().and_then(|i| i.nics.get(place)) else {
        return;
    };
    if network_of(&model.config, nic) == text {
        return;
    }
    model.change(|config| {
        config.networks.retain(|map| {
            !map.interface
                .as_deref()
                .is_some_and(|name| is_nic(nic, name))
        });
        if !text.is_empty() {
            config.networks.push(NetworkMap {
                interface: Some(nic.kernel_name.clone()),
                network: text.to_owned(),
            });
        }
    });
}

pub(crate) fn press(model: &mut Model, id: Id, view: &View) {
    let Some(inventory) = view.inventory.as_deref() else {
        return;
    };
    model.change(|config| match id {
        Id::Disk(place) => {
            let chosen = inventory
                .disks
                .iter()
                .map(|disk| is_disk_chosen(config, disk));
            let chosen = toggled(chosen, place);
            let default = inventory.disks.iter().map(|disk| disk.left_out.is_empty());
            let is_default = default.eq(chosen.iter().copied());
            let names = inventory.disks.iter().map(|disk| disk.name.as_str());
            config.disks = (!is_default).then(|| picked(names, &chosen));
        }
        Id::Nic(place) => {
            let chosen = inventory.nics.iter().map(|nic| is_nic_chosen(config, nic));
            let chosen = toggled(chosen, place);
            config.interfaces = some_of(nic_names(inventory), &chosen);
        }
        Id::Removable(place) => {
            let names = || inventory.removables.iter().map(|drive| drive.name.as_str());
            let chosen = toggled(names().map(|name| is_removable_chosen(config, name)), place);
            config.removables = some_of(names(), &chosen);
        }
        _ => {}
    });
}

fn nic_names(inventory: &Inventory) -> impl Iterator<Item = &str> {
    inventory.nics.iter().map(|nic| nic.kernel_name.as_str())
}

fn toggled(chosen: impl Iterator<Item = bool>, place: usize) -> Vec<bool> {
    chosen
        .enumerate()
        .map(|(n, on)| on != (n == place))
        .collect()
}

fn picked<'a>(names: impl Iterator<Item = &'a str>, chosen: &[bool]) -> Vec<String> {
    let both = names.zip(chosen);
    both.filter(|(_, on)| **on)
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// `None` where all are chosen.
fn some_of<'a>(names: impl Iterator<Item = &'a str>, chosen: &[bool]) -> Option<Vec<String>> {
    chosen.contains(&false).then(|| picked(names, chosen))
}
