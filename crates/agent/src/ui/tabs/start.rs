//! Summary: what is going to happen, what is still missing, and Start.

use super::{bytes, disks};
use crate::app::{Command, Phase, View};
use crate::config::Config;
use crate::ui::form::{Id, Row};
use crate::ui::model::Model;

pub(crate) fn rows(model: &Model, view: &View) -> Vec<Row> {
    let config = &model.config;
    let mut rows = vec![Row::Buttons(vec![
        (Id::Start, "Start"),
        (Id::Poweroff, "Power off"),
        (Id::Reboot, "Reboot"),
    ])];
    rows.push(Row::gap());
    let missing = missing(model, view);
    if !missing.is_empty() {
        rows.push(Row::head("Missing"));
        rows.extend(missing.into_iter().map(Row::note));
        rows.push(Row::gap());
    }
    rows.push(Row::head("Summary"));
    rows.extend(summary(config, view).into_iter().map(Row::note));
    if !config.problems.is_empty() {
        rows.push(Row::gap());
        rows.push(Row::head("Kernel command line"));
        rows.extend(config.problems.iter().map(Row::note));
    }
    rows
}

fn summary(config: &Config, view: &View) -> Vec<String> {
    let server = match (&config.server, &config.join) {
        (Some(server), _) => server.clone(),
        (None, Some(join)) => join.servers.join(", "),
        (None, None) => "-".into(),
    };
    let mut lines = vec![
        line("Server", &server),
        line(
            "Guest",
            config.name.as_deref().unwrap_or("named by the server"),
        ),
    ];
    if let Some(inventory) = &view.inventory {
        let chosen: Vec<_> = inventory
            .disks
            .iter()
            .filter(|disk| disks::is_disk_chosen(config, disk))
            .collect();
        let total = chosen
            .iter()
            .fold(0u64, |sum, disk| sum.saturating_add(disk.virtual_size));
        let names: Vec<&str> = chosen.iter().map(|disk| disk.name.as_str()).collect();
        lines.push(line(
            "Disks",
            &format!("{} ({} in all)", names.join(", "), bytes(total)),
        ));
        let nics: Vec<&str> = inventory
            .nics
            .iter()
            .filter(|nic| disks::is_nic_chosen(config, nic))
            .map(|nic| nic.name.as_str())
            .collect();
        lines.push(line("Interfaces", &nics.join(", ")));
        let memory = config.memory_bytes.unwrap_or(inventory.memory_bytes);
        let logical = inventory.cpu.as_ref().map_or(0, |cpu| cpu.logical);
        lines.push(line("Memory", &bytes(memory)));
        lines.push(line(
            "Virtual CPUs",
            &config.vcpus.unwrap_or(logical).to_string(),
        ));
        let uefi = inventory
            .firmware
            .as_ref()
            .is_some_and(|firmware| firmware.uefi);
        lines.push(line("Firmware", if uefi { "UEFI" } else { "BIOS" }));
    }
    for (name, value) in &config.output {
        lines.push(line("Output", &format!("-{name} {value}")));
    }
    if config.resync {
        lines.push(line("Resync", "only what changed is sent"));
    }
    lines
}

fn line(label: &str, value: &str) -> String {
    format!("{label:<14}{value}")
}

/// What must be given before the start, one line each.
pub(crate) fn missing(model: &Model, view: &View) -> Vec<String> {
    let config = &model.config;
    let mut missing = Vec::new();
    let mut need = |holds: bool, text: &str| {
        if !holds {
            missing.push(text.to_owned());
        }
    };
    let join = config.join.is_some();
    need(
        join || config.server.is_some(),
        "F2 Server: the address, or a join string",
    );
    need(
        join || config.code.is_some(),
        "F2 Server: the code of the token",
    );
    need(
        join || config.fingerprint.is_some(),
        "F2 Server: the fingerprint; choose Test connection, and compare it",
    );
    match &view.inventory {
        None => need(false, "the hardware is still being looked for"),
        Some(inventory) => need(
            inventory
                .disks
                .iter()
                .any(|disk| disks::is_disk_chosen(config, disk)),
            "F3 Disks: at least one disk",
        ),
    }
    need(
        !model.refused_texts(),
        "a field that was typed is wrong; see F2 and F4",
    );
    missing
}

pub(crate) fn press(model: &mut Model, view: &View) {
    if matches!(view.phase, Phase::Running) {
        model.message = Some("It runs already: see F7 Job.".into());
        return;
    }
    if let Some(first) = missing(model, view).into_iter().next() {
        model.message = Some(format!("Not yet: {first}"));
        return;
    }
    model.message = Some("Starting.".into());
    model.send(Command::Start);
}
