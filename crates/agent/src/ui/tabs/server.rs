//! Server: a join string, or an address with a code and a fingerprint that a person compares.

use wire::join::{Fingerprint, JoinString, Secret};

use crate::app::{Command, Connection, View};
use crate::ui::form::{Id, Row};
use crate::ui::model::Model;

/// What a join string begins with.
const JOIN_PREFIX: &str = "v2v1.";
const WRONG_CODE: &str =
    "the code is mistyped: expected 26 letters and digits; dashes do not matter";
/// Longest name of a host (RFC 1035, section 2.3.4) with a port.
const MAX_SERVER: usize = 255 + 6;

pub(crate) fn rows(model: &Model, view: &View) -> Vec<Row> {
    let config = &model.config;
    let server = match (&config.server, &config.join) {
        (Some(server), _) => server.clone(),
        (None, Some(join)) => format!("join string for {}", join.servers.join(", ")),
        (None, None) => String::new(),
    };
    let code = config.code.map_or("", |_| "(typed)");
    let mut rows = vec![
        Row::note("Paste the join string that `v2v token create` printed, or type the server's"),
        Row::note("ADDRESS or ADDRESS:PORT and the code."),
        Row::gap(),
        Row::text(Id::Server, "Server or join", model.text(Id::Server, server)),
    ];
    if config.join.is_none() {
        rows.push(Row::text(Id::Code, "Code", model.text(Id::Code, code)));
    }
    rows.push(Row::gap());
    rows.push(Row::Buttons(vec![(Id::Test, "Test connection")]));
    rows.push(Row::note(format!(
        "Connection: {}",
        connection(&view.connection)
    )));
    rows.push(Row::gap());
    fingerprint_rows(model, view, &mut rows);
    let no_address = view
        .network
        .interfaces
        .iter()
        .all(|i| i.addresses.is_empty());
    if no_address {
        rows.push(Row::note(
            "No interface has an address yet: see F1 Network.",
        ));
    }
    rows
}

fn fingerprint_rows(model: &Model, view: &View, rows: &mut Vec<Row>) {
    let config = &model.config;
    let known = config
        .fingerprint
        .or(config.join.as_ref().map(|join| join.fingerprint));
    let Some(shown) = view.shown_fingerprint else {
        let text = match known {
            Some(_) => "Fingerprint: known; it is compared when the server is reached.",
            None => "Fingerprint: not seen yet; choose Test connection.",
        };
        return rows.push(Row::note(text));
    };
    rows.push(Row::head("Fingerprint that the server shows"));
    rows.extend(groups(&shown).into_iter().map(Row::note));
    match known {
        Some(known) if known == shown && config.join.is_some() => {
            rows.push(Row::note("It is the one of the join string."));
        }
        Some(known) if known == shown => rows.push(Row::note("Confirmed: it is the same.")),
        Some(_) => rows.push(Row::note(
            "WARNING: it is NOT the one that was given. This may be another machine.",
        )),
        None if model.refused == Some(shown) => {
            rows.push(Row::note(
                "Refused: this is another server. Nothing is sent to it.",
            ));
        }
        None => rows.push(Row::note(
            "Is it the one that `v2v serve` and `v2v token create` printed?",
        )),
    }
    // One that was given, and differs, is not waved through: the server's field is typed anew for that.
    if known.is_none() {
        rows.push(Row::Buttons(vec![
            (Id::Same, "Yes, the same"),
            (Id::Different, "No"),
        ]));
    }
}

/// The fingerprint in two lines of groups of four digits.
fn groups(fingerprint: &Fingerprint) -> Vec<String> {
    let digits: Vec<char> = fingerprint.to_string().chars().collect();
    let groups: Vec<String> = digits
        .chunks(4)
        .map(|group| group.iter().collect())
        .collect();
    groups.chunks(8).map(|line| line.join(" ")).collect()
}

/// The state of the connection in words.
pub(crate) fn connection(connection: &Connection) -> String {
    match connection {
        Connection::Idle => "not tried yet".to_owned(),
        Connection::Connecting(None) => "connecting".to_owned(),
        Connection::Connecting(Some(why)) => format!("reconnecting: {why}"),
        Connection::Up(server) => format!("up, {server}"),
    }
}

pub(crate) fn take(model: &mut Model, id: Id, text: &str) -> Result<(), String> {
    if id == Id::Code {
        let code = match text {
            "" => None,
            text => Some(Secret::from_code(text).map_err(|_| WRONG_CODE)?),
        };
        model.change(|config| config.code = code);
    } else if text.is_empty() {
        model.change(|config| {
            config.join = None;
            config.server = None;
            config.fingerprint = None;
        });
    } else if text.starts_with(JOIN_PREFIX) {
        let join: JoinString = text.parse().map_err(|error| format!("{error}"))?;
        model.forget(Id::Code);
        model.change(|config| {
            config.join = Some(join);
            config.server = None;
            config.fingerprint = None;
            config.code = None;
        });
    } else {
        check_server(text)?;
        model.change(|config| {
            if config.server.as_deref() != Some(text) {
                config.fingerprint = None;
            }
            config.server = Some(text.to_owned());
        });
    }
    Ok(())
}

/// `ADDRESS`, `ADDRESS:PORT`, `[V6]`, `[V6]:PORT` or a name.
fn check_server(text: &str) -> Result<(), String> {
    let wrong = || format!("expected ADDRESS[:PORT] or a join string, found `{text}`");
    if text.parse::<std::net::IpAddr>().is_ok() {
        return Ok(());
    }
    let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((host, rest))) => {
            host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
            (
                host,
                rest.strip_prefix(':').or((!rest.is_empty()).then_some("")),
            )
        }
        Some(None) => return Err(wrong()),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let host_is_fine = !host.is_empty()
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':'));
    let port_is_fine = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if host_is_fine && port_is_fine && text.len() <= MAX_SERVER {
        Ok(())
    } else {
        Err(wrong())
    }
}

pub(crate) fn press(model: &mut Model, id: Id, view: &View) {
    match (id, view.shown_fingerprint) {
        (Id::Test, _) if model.config.server.is_none() && model.config.join.is_none() => {
            model.message = Some("Type the server's address or a join string first.".into());
        }
        (Id::Test, _) => {
            model.message = Some("Looking at the server.".into());
            model.send(Command::TestConnection);
        }
        (Id::Same, Some(shown)) => {
            model.refused = None;
            model.change(|config| config.fingerprint = Some(shown));
        }
        (Id::Different, Some(shown)) => {
            model.refused = Some(shown);
            model.change(|config| config.fingerprint = None);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_checked_before_they_are_dialled() {
        for fine in [
            "192.0.2.7",
            "192.0.2.7:7440",
            "2001:db8::7",
            "[2001:db8::7]",
            "[2001:db8::7]:7440",
            "conv.example.org:1",
        ] {
            assert_eq!(check_server(fine), Ok(()), "{fine}");
        }
        for wrong in [
            "", ":7440", "a:0", "a:65536", "a:b", "a b", "[::1", "[x]:1", "[::1]1", "[::1]:",
            "http://a", "a\u{e9}",
        ] {
            assert!(check_server(wrong).is_err(), "{wrong}");
        }
    }
}
