//! The parts of a job's page that only show.

use std::fmt::Write;

use maud::{Markup, html};
use types::Change;

use super::humane::{self, clean};
use super::layout::bar;
use crate::{DiskView, LogLine, ProofRange};

/// Rows of a list that may be long; how many more there are is said.
const MAX_ROWS: usize = 500;
/// Unreadable ranges that are written out for a disk.
const MAX_BAD: usize = 50;
/// Width of the picture of a disk, in its own units.
const MAP_WIDTH: u64 = 1000;

fn more(len: usize, shown: usize) -> Markup {
    html! {
        @if len > shown { p.more { "and " (len - shown) " more" } }
    }
}

pub(super) fn concerns(concerns: &[String]) -> Markup {
    html! {
        @if !concerns.is_empty() {
            section.card.warn-card {
                h2 { span.sign aria-hidden="true" { "! " } "To look at" }
                ul { @for concern in concerns.iter().take(MAX_ROWS) { li { bdi { (clean(concern)) } } } }
                (more(concerns.len(), MAX_ROWS))
            }
        }
    }
}

pub(super) fn disks(disks: &[DiskView]) -> Markup {
    html! {
        section.card {
            h2 { "Disks" }
            @if disks.is_empty() { p.quiet { "None." } }
            @for disk in disks.iter().take(MAX_ROWS) { (one_disk(disk)) }
            (more(disks.len(), MAX_ROWS))
        }
    }
}

fn one_disk(disk: &DiskView) -> Markup {
    let name = clean(&disk.name);
    html! {
        article.disk {
            h3 { bdi { (name) } span.size { (humane::size(disk.virtual_size)) } }
            p.model { bdi { (clean(&disk.model)) } }
            @if !disk.health.is_empty() { p.health { "Health: " bdi { (clean(&disk.health)) } } }
            (bar(&format!("disk {name}"), disk.done_bytes, disk.total_bytes))
            @if disk.total_bytes > 0 {
                p.bytes { (humane::size(disk.done_bytes)) " of " (humane::size(disk.total_bytes)) " needed" }
            }
            @if !disk.bad.is_empty() { (bad(disk)) }
        }
    }
}

fn bad(disk: &DiskView) -> Markup {
    let total = disk.bad.iter().fold(0u64, |sum, range| {
        sum.saturating_add(range.end.saturating_sub(range.start))
    });
    html! {
        details.bad open {
            summary {
                span.sign aria-hidden="true" { "! " }
                (disk.bad.len()) @if disk.bad.len() == 1 { " unreadable range, " } @else { " unreadable ranges, " }
                (humane::size(total)) ": zero in the guest"
            }
            svg.map viewBox={ "0 0 " (MAP_WIDTH) " 10" } preserveAspectRatio="none" role="img"
                aria-label="where on the disk the unreadable ranges are" {
                rect.whole width=(MAP_WIDTH) height="10" {}
                @for range in disk.bad.iter().take(MAX_ROWS) {
                    @let (x, width) = stripe(range, disk.virtual_size);
                    rect.hole x=(x) width=(width) height="10" {}
                }
            }
            table.small {
                thead { tr { th scope="col" { "From byte" } th scope="col" { "Bytes" } } }
                tbody {
                    @for range in disk.bad.iter().take(MAX_BAD) {
                        tr { td { (range.start) } td { (range.end.saturating_sub(range.start)) } }
                    }
                }
            }
            (more(disk.bad.len(), MAX_BAD))
        }
    }
}

/// Place and width in the picture; never outside of it, never too thin to be seen.
fn stripe(range: &std::ops::Range<u64>, whole: u64) -> (u64, u64) {
    const THINNEST: u64 = 4;
    let scaled = |at: u64| {
        let x = u128::from(at.min(whole)) * u128::from(MAP_WIDTH) / u128::from(whole.max(1));
        u64::try_from(x).unwrap_or(MAP_WIDTH)
    };
    let x = scaled(range.start).min(MAP_WIDTH - THINNEST);
    (x, scaled(range.end).saturating_sub(x).max(THINNEST))
}

pub(super) fn nics(nics: &[(String, String, String)]) -> Markup {
    html! {
        section.card {
            h2 { "Network interfaces" }
            @if nics.is_empty() { p.quiet { "None." } } @else {
                table.small {
                    thead { tr { @for title in ["Name", "MAC", "Network"] { th scope="col" { (title) } } } }
                    tbody {
                        @for (name, mac, network) in nics.iter().take(MAX_ROWS) {
                            tr {
                                td { bdi { (clean(name)) } }
                                td { code { (clean(mac)) } }
                                td { bdi { (clean(network)) } }
                            }
                        }
                    }
                }
                (more(nics.len(), MAX_ROWS))
            }
        }
    }
}

pub(super) fn guest(guest: Option<&str>) -> Markup {
    html! {
        section.card {
            h2 { "Guest" }
            @if let Some(guest) = guest { p.guest { bdi { (lines(guest)) } } }
            @else { p.quiet { "Not inspected yet." } }
        }
    }
}

/// Text of several lines: each is cleaned, the breaks stay.
fn lines(text: &str) -> Markup {
    html! {
        @for (number, line) in text.lines().take(MAX_ROWS).enumerate() {
            @if number > 0 { br; }
            (clean(line))
        }
    }
}

pub(super) fn inventory(inventory: &[(String, String)]) -> Markup {
    html! {
        section.card {
            h2 { "Machine" }
            @if inventory.is_empty() { p.quiet { "Nothing is known of it yet." } } @else {
                dl.pairs {
                    @for (label, value) in inventory.iter().take(MAX_ROWS) {
                        div { dt { bdi { (clean(label)) } } dd { bdi { (lines(value)) } } }
                    }
                }
                (more(inventory.len(), MAX_ROWS))
            }
        }
    }
}

pub(super) fn placed(placed: &[String]) -> Markup {
    html! {
        @if !placed.is_empty() {
            section.card.good-card {
                h2 { span.sign aria-hidden="true" { "✓ " } "In its place" }
                ul.files { @for file in placed.iter().take(MAX_ROWS) { li { code { (clean(file)) } } } }
                (more(placed.len(), MAX_ROWS))
            }
        }
    }
}

pub(super) fn changes(changes: &[Change]) -> Markup {
    let mut steps: Vec<(&str, Vec<&Change>)> = Vec::new();
    for change in changes.iter().take(MAX_ROWS) {
        match steps.iter_mut().find(|(step, _)| *step == change.step) {
            Some((_, list)) => list.push(change),
            None => steps.push((&change.step, vec![change])),
        }
    }
    html! {
        @if !changes.is_empty() {
            section.card {
                h2 { "Changes in the guest " span.count { (changes.len()) } }
                @for (step, list) in &steps {
                    details open id={ "step-" (slug(step)) } {
                        summary { bdi { (clean(step)) } " " span.count { (list.len()) } }
                        ul.changes { @for change in list { (one_change(change)) } }
                    }
                }
                (more(changes.len(), MAX_ROWS))
            }
        }
    }
}

fn one_change(change: &Change) -> Markup {
    let what = match (&change.before, &change.after) {
        (None, _) => "new",
        (Some(_), None) => "removed",
        (Some(_), Some(_)) => "changed",
    };
    html! {
        li {
            code { (clean(&change.path)) } " " span.what { (what) }
            p.why { bdi { (clean(&change.why)) } }
        }
    }
}

/// Letters and digits of a text, for an element's id.
fn slug(text: &str) -> String {
    text.chars()
        .take(40)
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect()
}

pub(super) fn proof(proof: &[ProofRange], disks: &[DiskView]) -> Markup {
    let covered = proof
        .iter()
        .fold(0u64, |sum, range| sum.saturating_add(range.covered_bytes));
    let disk = |number: u32| {
        usize::try_from(number)
            .ok()
            .and_then(|number| disks.get(number))
            .map_or_else(
                || format!("disk {number}"),
                |disk| clean(&disk.name).into_owned(),
            )
    };
    html! {
        @if !proof.is_empty() {
            section.card {
                h2 { "Proof" }
                p {
                    span.sign aria-hidden="true" { "✓ " }
                    "Machine and guest have the same bytes: " (humane::size(covered)) " in "
                    (proof.len()) @if proof.len() == 1 { " stretch." } @else { " stretches." }
                }
                details id="proof-ranges" {
                    summary { "Hashes (BLAKE3)" }
                    div.scroll tabindex="0" {
                        table.small {
                            thead {
                                tr { @for title in ["Disk", "Offset", "Length", "Covered", "Root"] { th scope="col" { (title) } } }
                            }
                            tbody {
                                @for range in proof.iter().take(MAX_ROWS) {
                                    tr {
                                        td { bdi { (disk(range.disk)) } }
                                        td { (range.offset) }
                                        td { (humane::size(range.len)) }
                                        td { (humane::size(range.covered_bytes)) }
                                        td { code.hash { (clean(&range.root)) } }
                                    }
                                }
                            }
                        }
                    }
                    (more(proof.len(), MAX_ROWS))
                }
            }
        }
    }
}

pub(super) fn log(log: &[LogLine]) -> Markup {
    html! {
        @if log.is_empty() { p.quiet { "Nothing yet." } } @else {
            ol.log {
                @for line in log {
                    li class=(level(&line.level)) {
                        time datetime=(humane::rfc3339(line.unix_ms)) { (humane::time_of_day(line.unix_ms)) }
                        " " span.level { (clean(&line.level)) } " "
                        span.line { bdi { (clean(&line.text)) } }
                    }
                }
            }
        }
    }
}

fn level(level: &str) -> &'static str {
    match level {
        "error" => "error",
        "warning" => "warning",
        "note" => "note",
        "agent" => "agent",
        _ => "info",
    }
}

/// A line of log.txt.
pub(super) fn plain(line: &LogLine, out: &mut String) {
    // Writing to a String does not fail.
    let _ = writeln!(
        out,
        "{} {:<7} {}",
        humane::rfc3339(line.unix_ms),
        clean(&line.level),
        clean(&line.text)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_stay_in_the_picture_and_can_be_seen() {
        assert_eq!(stripe(&(0..512), 1 << 40), (0, 4));
        assert_eq!(stripe(&(50..100), 100), (500, 500));
        assert_eq!(stripe(&(u64::MAX - 1..u64::MAX), 1 << 40), (996, 4));
        assert_eq!(stripe(&(5..7), 0), (0, 4));
    }
}
