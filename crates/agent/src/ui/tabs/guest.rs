//! The guest: its name and size, what the server is to do with it, what this machine does in the end.

use super::{around, bytes};
use crate::app::View;
use crate::config::Post;
use crate::ui::form::{Id, Row};
use crate::ui::model::Model;

/// Output words without their `p2v.` (v2v's options without the dash).
const OUTPUT_WORDS: [&str; 7] = ["o", "os", "of", "oc", "oa", "on", "oo"];
/// Longest name of a guest: libvirt's files are NAME.xml.
const MAX_NAME: usize = 200;
const MIN_MEMORY: u64 = 64 << 20;
const MAX_MEMORY: u64 = 64 << 40;
const MAX_VCPUS: u32 = 4096;
const POSTS: [(Post, &str); 4] = [
    (Post::Stay, "stay and show the result"),
    (Post::Poweroff, "power off"),
    (Post::Reboot, "reboot"),
    (Post::Shell, "a shell on the console"),
];

pub(crate) fn rows(model: &Model, view: &View) -> Vec<Row> {
    let config = &model.config;
    let text = |id, label: &str, value: Option<String>| {
        Row::text(id, label, model.text(id, value.unwrap_or_default()))
    };
    let output: Vec<String> = config
        .output
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let mut rows = vec![
        Row::note("Fields left empty: as this machine is, or as the server says."),
        Row::gap(),
        text(Id::Name, "Name", config.name.clone()),
        text(Id::Memory, "Memory", config.memory_bytes.map(size)),
        text(
            Id::Vcpus,
            "Virtual CPUs",
            config.vcpus.map(|n| n.to_string()),
        ),
        text(Id::Output, "Output options", Some(output.join(" "))),
        Row::note("                    words such as  o=local os=/srv/guests of=qcow2"),
        Row::gap(),
        Row::check(
            Id::Topology,
            config.physical_topology,
            "keep sockets, cores and threads as they are here",
        ),
        Row::check(
            Id::Resync,
            config.resync,
            "send only what changed since the last run of this machine",
        ),
        Row::gap(),
        Row::choice(Id::Post, "After success", post(config.post)),
        Row::choice(Id::Fail, "After a failure", post(config.fail)),
    ];
    if let Some(inventory) = &view.inventory {
        let cpu = inventory.cpu.clone().unwrap_or_default();
        rows.push(Row::gap());
        rows.push(Row::note(format!(
            "This machine: {} memory, {} processors ({} x {} x {}), {}",
            bytes(inventory.memory_bytes),
            cpu.logical,
            cpu.sockets,
            cpu.cores_per_socket,
            cpu.threads_per_core,
            cpu.model_name,
        )));
        for guess in &inventory.os_guesses {
            rows.push(Row::note(format!(
                "{}: {}",
                guess.device, guess.product_name
            )));
        }
    }
    rows
}

fn post(post: Post) -> &'static str {
    POSTS
        .iter()
        .find(|(p, _)| *p == post)
        .map_or("", |(_, text)| text)
}

/// Bytes as they are typed: in the largest unit without a rest.
fn size(count: u64) -> String {
    for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
        if count > 0 && count.trailing_zeros() >= shift {
            return format!("{}{unit}", count >> shift);
        }
    }
    count.to_string()
}

fn parse_size(text: &str) -> Result<u64, String> {
    let wrong =
        || format!("expected a memory size of 64M to 64T, such as 4G or 4096M, found `{text}`");
    let upper = text.to_ascii_uppercase();
    let trimmed = upper.trim_end_matches('B').trim_end_matches('I');
    let (digits, shift) = match trimmed.char_indices().last() {
        Some((at, 'K')) => (trimmed.get(..at), 10),
        Some((at, 'M')) => (trimmed.get(..at), 20),
        Some((at, 'G')) => (trimmed.get(..at), 30),
        Some((at, 'T')) => (trimmed.get(..at), 40),
        _ => (Some(trimmed), 0),
    };
    digits
        .and_then(|digits| digits.trim().parse::<u64>().ok())
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|count| (MIN_MEMORY..=MAX_MEMORY).contains(count))
        .ok_or_else(wrong)
}

fn output(text: &str) -> Result<Vec<(String, String)>, String> {
    text.split_whitespace()
        .map(|word| match word.split_once('=') {
            Some((name, value)) if OUTPUT_WORDS.contains(&name) && !value.is_empty() => {
                Ok((name.to_owned(), value.to_owned()))
            }
            _ => Err(format!(
                "expected WORD=VALUE with one of {}, found `{word}`",
                OUTPUT_WORDS.join(", ")
            )),
        })
        .collect()
}

pub(crate) fn take(model: &mut Model, id: Id, text: &str) -> Result<(), String> {
    let given = (!text.is_empty()).then_some(text);
    match id {
        Id::Name => {
            if text.len() > MAX_NAME || text.contains('/') || text.starts_with('.') {
                return Err(format!(
                    "expected a name of up to {MAX_NAME} bytes without `/` and a leading dot"
                ));
            }
            model.change(|config| config.name = given.map(str::to_owned));
        }
        Id::Memory => {
            let memory = given.map(parse_size).transpose()?;
            model.change(|config| config.memory_bytes = memory);
        }
        Id::Vcpus => {
            let vcpus = given.map(parse_vcpus).transpose()?;
            model.change(|config| config.vcpus = vcpus);
        }
        Id::Output => {
            let output = output(text)?;
            model.change(|config| config.output = output);
        }
        _ => {}
    }
    Ok(())
}

fn parse_vcpus(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|count| (1..=MAX_VCPUS).contains(count))
        .ok_or_else(|| format!("expected 1 to {MAX_VCPUS} virtual CPUs, found `{text}`"))
}

pub(crate) fn turn(model: &mut Model, id: Id, by: isize) {
    let next = |post: Post| {
        let at = POSTS.iter().position(|(p, _)| *p == post).unwrap_or(0);
        POSTS
            .get(around(at, by, POSTS.len()))
            .map_or(post, |(p, _)| *p)
    };
    model.change(|config| match id {
        Id::Post => config.post = next(config.post),
        _ => config.fail = next(config.fail),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_it_is_written() {
        for (text, count) in [
            ("4G", 4 << 30),
            ("4096M", 4 << 30),
            ("4gib", 4 << 30),
            ("512 MB", 512 << 20),
            ("1T", 1 << 40),
            ("134217728", 128 << 20),
        ] {
            assert_eq!(parse_size(text), Ok(count), "{text}");
        }
        assert_eq!(size(4 << 30), "4G");
        assert_eq!(size(1536 << 20), "1536M");
        assert_eq!(size(1000), "1000");
        for wrong in [
            "",
            "G",
            "4X",
            "-1G",
            "1K",
            "99999999999999999999G",
            "18014398509481984K",
            "é",
        ] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn output_words_are_the_known_ones() {
        assert_eq!(
            output("o=local oo=a=b"),
            Ok(vec![
                ("o".into(), "local".into()),
                ("oo".into(), "a=b".into())
            ])
        );
        assert!(output("o").is_err());
        assert!(output("x=1").is_err());
    }
}
