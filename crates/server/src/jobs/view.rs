//! Jobs as the command line, the web page and the agent see them.

use wire::session::JobStatus;

use super::naming::{disk_model, machine_line};
use super::setup::{Told, chosen_nics};
use super::{Jobs, Live, safe_text};
use crate::session::DiskTransfer;
use crate::store::{Documents, JobRow};
use crate::{DiskView, JobDetail, JobState, JobView, Result};

/// Characters of a text of the machine that are shown.
const MAX_TEXT: usize = 300;
/// Lines of a list of the machine that are shown.
const MAX_LINES: usize = 64;
/// Unreadable ranges of a disk that are stored and shown.
const MAX_BAD: usize = 10_000;

/// As in a list.
pub(super) fn view(row: &JobRow, live: Option<&Live>) -> JobView {
    JobView {
        id: row.id,
        name: row.name.clone(),
        state: row.state,
        text: row.text.clone(),
        machine: row.machine.clone(),
        address: row.address.clone(),
        connected: live.is_some_and(|live| live.connected),
        progress: row.progress,
        created_unix_ms: row.created_ms,
        ended_unix_ms: row.ended_ms,
        options: row.effective.clone(),
    }
}

/// What the agent's screen shows.
pub(super) fn status(live: &Live) -> JobStatus {
    use wire::session::JobState as Wire;
    let row = &live.row;
    let state = match row.state {
        JobState::Queued => Wire::Queued,
        JobState::WaitingForApproval => Wire::WaitingForApproval,
        JobState::WaitingForAgent => Wire::WaitingForAgent,
        JobState::Inspecting => Wire::Inspecting,
        JobState::Converting => Wire::Converting,
        JobState::Copying => Wire::Copying,
        JobState::Done => Wire::Done,
        JobState::DoneWithErrors => Wire::DoneWithErrors,
        JobState::Failed => Wire::Failed,
        JobState::Cancelled => Wire::Cancelled,
    };
    JobStatus {
        state: state.into(),
        text: row.text.clone(),
        done_bytes: row.progress.done_bytes,
        total_bytes: row.progress.total_bytes,
        rate_bytes: row.progress.rate_bytes,
        eta_seconds: row.progress.eta_seconds,
        wire_bytes: row.progress.wire_bytes,
        bad_bytes: row.progress.bad_bytes,
        error: if row.state == JobState::Failed {
            row.text.clone()
        } else {
            String::new()
        },
    }
}

/// The disks of a job, with what is known of their transfer.
pub(super) fn disks(told: &Told, transfers: &[DiskTransfer]) -> Vec<DiskView> {
    let mut transfers = transfers.iter();
    told.wish
        .disks
        .iter()
        .filter_map(|place| told.inventory.disks.get(*place as usize))
        .map(|disk| {
            let transfer = transfers.next().cloned().unwrap_or_default();
            let mut bad = transfer.bad;
            bad.truncate(MAX_BAD);
            DiskView {
                name: safe_text(&disk.name, MAX_TEXT),
                model: disk_model(disk),
                virtual_size: disk.virtual_size,
                done_bytes: transfer.done_bytes,
                total_bytes: transfer.total_bytes,
                bad,
                health: safe_text(&disk.health, MAX_TEXT),
            }
        })
        .collect()
}

impl Jobs {
    /// All that is known of a job.
    pub(super) fn detail(
        &self,
        job: JobView,
        documents: Documents,
        transfers: Option<&[DiskTransfer]>,
    ) -> JobDetail {
        let told = Told::read(&documents);
        let disks = match transfers {
            Some(transfers) => disks(&told, transfers),
            None if documents.disks.is_empty() => disks(&told, &[]),
            None => documents.disks,
        };
        let concerns = told.inventory.concerns.iter().take(MAX_LINES);
        JobDetail {
            inventory: inventory_lines(&told),
            nics: self.nics(&job, &told).unwrap_or_default(),
            concerns: concerns.map(|line| safe_text(line, MAX_TEXT)).collect(),
            job,
            disks,
            guest: documents.guest,
            changes: documents.changes,
            placed: documents.placed,
            proof: documents.proof,
        }
    }

    /// Name, MAC and network of each interface, as the options have it.
    fn nics(&self, job: &JobView, told: &Told) -> Result<Vec<(String, String, String)>> {
        let rules = (self.config.parse)(&without_keys(&job.options))
            .map(|conversion| conversion.networks)
            .unwrap_or_default();
        let nics = chosen_nics(told).take(MAX_LINES).map(|(_, nic)| {
            let by_mac = nic.mac.parse().ok().and_then(|mac: types::MacAddr| {
                let rule = rules.by_mac.iter().find(|rule| rule.mac == mac);
                rule.map(|rule| rule.network.clone())
            });
            let network = match by_mac.or_else(|| rules.default.clone()) {
                Some(types::NicNetwork::Network(name)) => name,
                Some(types::NicNetwork::Bridge(name)) => format!("bridge {name}"),
                None => "default".to_owned(),
            };
            let text = |text: &str| safe_text(text, MAX_TEXT);
            (text(&nic.name), text(&nic.mac), network)
        });
        Ok(nics.collect())
    }
}

/// The options without keys: their secrets are not in them any more, and files are not read to show a page.
fn without_keys(options: &[String]) -> Vec<String> {
    let key = |word: &&String| !word.starts_with("--key=");
    options.iter().filter(key).cloned().collect()
}

/// Label and value.
fn inventory_lines(told: &Told) -> Vec<(String, String)> {
    let inventory = &told.inventory;
    let mut lines = Vec::new();
    let mut line = |label: &str, value: String| {
        let value = safe_text(&value, MAX_TEXT);
        if !value.is_empty() && lines.len() < 2 * MAX_LINES {
            lines.push((label.to_owned(), value));
        }
    };
    line("machine", machine_line(inventory, ""));
    if let Some(dmi) = &inventory.dmi {
        line("UUID", dmi.product_uuid.clone());
        line("board", format!("{} {}", dmi.board_vendor, dmi.board_name));
        line("asset tag", dmi.chassis_asset_tag.clone());
        line(
            "firmware version",
            format!("{} {}", dmi.bios_vendor, dmi.bios_version),
        );
    }
    if let Some(firmware) = &inventory.firmware {
        let secure_boot = match firmware.secure_boot {
            Some(true) => ", Secure Boot on",
            Some(false) => ", Secure Boot off",
            None => "",
        };
        let kind = if firmware.uefi { "UEFI" } else { "BIOS" };
        line("firmware", format!("{kind}{secure_boot}"));
    }
    if let Some(cpu) = &inventory.cpu {
        line(
            "processor",
            format!(
                "{}, {} logical processors ({} sockets, {} cores, {} threads)",
                cpu.model_name,
                cpu.logical,
                cpu.sockets,
                cpu.cores_per_socket,
                cpu.threads_per_core
            ),
        );
    }
    line("memory", format!("{} MiB", inventory.memory_bytes >> 20));
    line("TPM", inventory.tpm_version.clone());
    for nic in inventory.nics.iter().take(MAX_LINES) {
        let link = if nic.link { "link" } else { "no link" };
        line(
            "interface",
            format!("{} {} {} {link}", nic.name, nic.mac, nic.driver),
        );
    }
    for guess in inventory.os_guesses.iter().take(MAX_LINES) {
        line(
            "system",
            format!("{} on {}", guess.product_name, guess.device),
        );
    }
    line("agent", inventory.agent_version.clone());
    line("agent's kernel", inventory.kernel_release.clone());
    lines
}
