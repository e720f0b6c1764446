//! The frame around every screen: what this is, the tabs, the last message, the keys; and the log.
//!
//! ```text
//! v2v p2v-agent 0.1.0  VENDOR PRODUCT SERIAL                              set-up
//!  F1 Network  [F2 Server]  F3 Disks  F4 Guest  F6 Start  F7 Job  F9 Log
//! -------------------------------------------------------------------------------
//!   rows of the screen
//! -------------------------------------------------------------------------------
//! message
//! keys
//! ```

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

use super::form;
use super::model::{Ask, Model};
use super::tabs::{TABS, Tab};
use crate::app::{Phase, View};

/// Lines above and below the rows.
const HEAD: u16 = 3;
const FOOT: u16 = 3;
/// Log lines under the rows of the job.
const JOB_ROWS: u16 = 11;

/// Draws everything.
pub(crate) fn render(model: &Model, view: &View, buf: &mut Buffer) {
    let area = buf.area;
    header(model, view, area, buf);
    let body = Rect {
        y: area.y + HEAD.min(area.height),
        height: area.height.saturating_sub(HEAD + FOOT),
        ..area
    };
    match model.tab {
        Tab::Log => log(view, model.log_back, body, buf),
        Tab::Job => {
            let (rows, lines) = split(body, JOB_ROWS);
            form_rows(model, view, rows, buf);
            rule(lines.y, area, buf);
            let lines = Rect {
                y: lines.y.saturating_add(1),
                height: lines.height.saturating_sub(1),
                ..lines
            };
            log(view, 0, lines, buf);
        }
        _ => form_rows(model, view, body, buf),
    }
    footer(model, view, area, buf);
    if let Some(ask) = model.ask {
        question(ask, model.ask_yes, area, buf);
    }
}

fn form_rows(model: &Model, view: &View, area: Rect, buf: &mut Buffer) {
    let rows = model.rows(view);
    form::render(&rows, model.focus(&rows), area, buf);
}

fn split(area: Rect, first: u16) -> (Rect, Rect) {
    let first = first.min(area.height);
    let top = Rect {
        height: first,
        ..area
    };
    let bottom = Rect {
        y: area.y + first,
        height: area.height - first,
        ..area
    };
    (top, bottom)
}

fn header(model: &Model, view: &View, area: Rect, buf: &mut Buffer) {
    let machine = view
        .inventory
        .as_ref()
        .and_then(|inventory| inventory.dmi.as_ref())
        .map(|dmi| {
            format!(
                "{} {} {}",
                dmi.system_vendor, dmi.product_name, dmi.product_serial
            )
        })
        .unwrap_or_default();
    let title = format!("v2v p2v-agent {}  {machine}", env!("CARGO_PKG_VERSION"));
    let phase = match view.phase {
        Phase::Detecting => "detecting",
        Phase::Setup => "set-up",
        Phase::Running => "running",
        Phase::Ended => "ended",
    };
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let room = usize::from(area.width).saturating_sub(phase.len() + 1);
    buf.set_stringn(area.x, area.y, title.trim_end(), room, bold);
    let right = u16::try_from(phase.len()).unwrap_or_default();
    text(
        area.right().saturating_sub(right),
        area.y,
        phase,
        Style::new(),
        area,
        buf,
    );
    let mut x = area.x;
    for (tab, key, name) in TABS {
        let shown = tab == model.tab;
        let label = if shown {
            format!("[F{key} {name}]")
        } else {
            format!(" F{key} {name} ")
        };
        let style = if shown {
            form::reversed()
        } else {
            Style::new()
        };
        text(x, area.y + 1, &label, style, area, buf);
        x += u16::try_from(label.len()).unwrap_or_default();
    }
    rule(area.y + 2, area, buf);
}

fn footer(model: &Model, view: &View, area: Rect, buf: &mut Buffer) {
    if area.height < HEAD + FOOT {
        return;
    }
    let y = area.bottom() - FOOT;
    rule(y, area, buf);
    let message = match (&model.message, &view.error) {
        (Some(message), _) => message.clone(),
        (None, Some(error)) => format!("Error: {error}"),
        (None, None) => String::new(),
    };
    text(area.x, y + 1, &message, Style::new(), area, buf);
    let help = match (model.ask, model.tab) {
        (Some(_), _) => "Left/Right choose  Enter answer  y yes  n no",
        (None, Tab::Log) => "Up/Down PgUp/PgDn Home/End scroll  Enter back  F10 shell",
        (None, _) => "Tab/arrows move  Enter/Space choose  F5 rescan  F10 shell  Esc 1 is F1",
    };
    text(area.x, y + 2, help, Style::new(), area, buf);
}

/// The newest lines, but for the last `back`.
fn log(view: &View, back: usize, area: Rect, buf: &mut Buffer) {
    let height = usize::from(area.height);
    let end = view
        .log
        .len()
        .saturating_sub(back)
        .max(height.min(view.log.len()));
    let start = end.saturating_sub(height);
    for (y, line) in (area.y..).zip(view.log.range(start..end)) {
        text(area.x, y, line, Style::new(), area, buf);
    }
}

fn question(ask: Ask, yes: bool, area: Rect, buf: &mut Buffer) {
    let width = area.width.min(64);
    let height = area.height.min(7);
    let window = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    let inner = usize::from(width.saturating_sub(2));
    for (row, y) in (window.top()..window.bottom()).enumerate() {
        let last = row + 1 == usize::from(height);
        let line = if row == 0 || last {
            format!("+{}+", "-".repeat(inner))
        } else {
            format!("|{}|", " ".repeat(inner))
        };
        text(window.x, y, &line, Style::new(), area, buf);
    }
    text(
        window.x + 3,
        window.y + 2,
        ask.text(),
        Style::new(),
        window,
        buf,
    );
    let mut x = window.x + 3;
    for (label, focused) in [("Yes", yes), ("No", !yes)] {
        let style = if focused {
            form::reversed()
        } else {
            Style::new()
        };
        let mark = if focused { "> " } else { "  " };
        text(x, window.y + 4, mark, Style::new(), window, buf);
        text(
            x + 2,
            window.y + 4,
            &format!("[ {label} ]"),
            style,
            window,
            buf,
        );
        x += 12;
    }
}

fn rule(y: u16, area: Rect, buf: &mut Buffer) {
    text(
        area.x,
        y,
        &"-".repeat(area.width.into()),
        Style::new(),
        area,
        buf,
    );
}

/// Text that stays inside `area`.
fn text(x: u16, y: u16, text: &str, style: Style, area: Rect, buf: &mut Buffer) {
    if y < area.bottom() && x < area.right() && y < buf.area.bottom() {
        buf.set_stringn(x, y, text, (area.right() - x).into(), style);
    }
}
