//! A screen as rows: text, fields, check boxes, choices, buttons; which can have the focus, and how they are drawn.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

/// Column where the value of a field begins.
const VALUE_COLUMN: u16 = 22;

/// What can have the focus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Id {
    // Network
    Interface,
    Method,
    Address,
    Gateway,
    Dns,
    Vlan,
    BondMode,
    BondPort(usize),
    Apply,
    // Server
    Server,
    Code,
    Test,
    Same,
    Different,
    // Disks and interfaces: places in the inventory
    Disk(usize),
    Nic(usize),
    NicNetwork(usize),
    Removable(usize),
    // Guest
    Name,
    Memory,
    Vcpus,
    Topology,
    Output,
    Resync,
    Post,
    Fail,
    // Start and job
    Start,
    Cancel,
    Retry,
    Poweroff,
    Reboot,
}

/// One row of a screen.
#[derive(Clone, Debug)]
pub(crate) enum Row {
    /// Text.
    Note(String),
    /// Heading.
    Head(String),
    /// A line of text that can be edited.
    Text {
        id: Id,
        label: String,
        value: String,
    },
    /// A check box, with lines of text under it.
    Check {
        id: Id,
        on: bool,
        lines: Vec<String>,
    },
    /// One of several.
    Choice {
        id: Id,
        label: &'static str,
        value: String,
    },
    /// Buttons side by side.
    Buttons(Vec<(Id, &'static str)>),
}

impl Row {
    pub(crate) fn note(text: impl Into<String>) -> Self {
        Self::Note(text.into())
    }

    pub(crate) fn head(text: impl Into<String>) -> Self {
        Self::Head(text.into())
    }

    pub(crate) fn gap() -> Self {
        Self::Note(String::new())
    }

    pub(crate) fn text(id: Id, label: impl Into<String>, value: impl Into<String>) -> Self {
        Self::Text {
            id,
            label: label.into(),
            value: value.into(),
        }
    }

    pub(crate) fn check(id: Id, on: bool, text: impl Into<String>) -> Self {
        Self::Check {
            id,
            on,
            lines: vec![text.into()],
        }
    }

    pub(crate) fn choice(id: Id, label: &'static str, value: impl Into<String>) -> Self {
        Self::Choice {
            id,
            label,
            value: value.into(),
        }
    }

    fn height(&self) -> usize {
        match self {
            Self::Check { lines, .. } => lines.len().max(1),
            _ => 1,
        }
    }

    fn has(&self, wanted: Id) -> bool {
        match self {
            Self::Note(_) | Self::Head(_) => false,
            Self::Text { id, .. } | Self::Check { id, .. } | Self::Choice { id, .. } => {
                *id == wanted
            }
            Self::Buttons(buttons) => buttons.iter().any(|(id, _)| *id == wanted),
        }
    }
}

/// All that can have the focus, in order.
pub(crate) fn ids(rows: &[Row]) -> Vec<Id> {
    let mut ids = Vec::new();
    for row in rows {
        match row {
            Row::Note(_) | Row::Head(_) => {}
            Row::Text { id, .. } | Row::Check { id, .. } | Row::Choice { id, .. } => ids.push(*id),
            Row::Buttons(buttons) => ids.extend(buttons.iter().map(|(id, _)| *id)),
        }
    }
    ids
}

/// Where a person is in the rows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Focus {
    pub(crate) id: Option<Id>,
    /// Characters of the focused text before the cursor.
    pub(crate) cursor: usize,
}

/// Draws the rows; what does not fit is scrolled so that the focus is seen.
pub(crate) fn render(rows: &[Row], focus: Focus, area: Rect, buf: &mut Buffer) {
    let total: usize = rows.iter().map(Row::height).sum();
    let height = usize::from(area.height);
    let skip = scroll(rows, focus, total, height);
    let mut line = 0usize;
    for row in rows {
        for (part, text) in lines(row, focus).into_iter().enumerate() {
            let at = line.checked_sub(skip).filter(|&at| at < height);
            line += 1;
            if let Some(at) = at.and_then(|at| u16::try_from(at).ok()) {
                let y = area.y + at;
                draw(
                    row,
                    part == 0,
                    &text,
                    focus,
                    Rect {
                        y,
                        height: 1,
                        ..area
                    },
                    buf,
                );
            }
        }
    }
    if total > height && area.width > 1 {
        let x = area.right() - 1;
        if skip > 0 {
            buf.set_string(x, area.top(), "^", Style::new());
        }
        if skip + height < total {
            buf.set_string(x, area.bottom() - 1, "v", Style::new());
        }
    }
}

/// First line that is shown: the focused row and a little of what is around it.
fn scroll(rows: &[Row], focus: Focus, total: usize, height: usize) -> usize {
    let Some(id) = focus.id else { return 0 };
    let mut top = 0;
    for row in rows {
        if row.has(id) {
            let bottom = top + row.height() + 2;
            return bottom
                .saturating_sub(height)
                .min(total.saturating_sub(height));
        }
        top += row.height();
    }
    0
}

fn lines(row: &Row, focus: Focus) -> Vec<String> {
    let pad = |label: &str| format!("{label:<width$}", width = usize::from(VALUE_COLUMN) - 2);
    match row {
        Row::Note(text) | Row::Head(text) => vec![text.clone()],
        Row::Text { label, .. } => vec![pad(label)],
        Row::Check { on, lines, .. } => {
            let mark = if *on { "[x] " } else { "[ ] " };
            lines
                .iter()
                .enumerate()
                .map(|(n, line)| format!("{}{line}", if n == 0 { mark } else { "    " }))
                .collect()
        }
        Row::Choice { label, value, .. } => vec![format!("{}< {value} >", pad(label))],
        Row::Buttons(buttons) => vec![
            buttons
                .iter()
                .map(|(id, label)| {
                    let focused = focus.id == Some(*id);
                    format!("{}[ {label} ]", if focused { "> " } else { "  " })
                })
                .collect::<Vec<_>>()
                .join(" "),
        ],
    }
}

fn draw(row: &Row, first: bool, text: &str, focus: Focus, area: Rect, buf: &mut Buffer) {
    let focused = focus.id.is_some_and(|id| row.has(id));
    let style = match row {
        Row::Head(_) => Style::new().add_modifier(Modifier::BOLD),
        Row::Check { .. } | Row::Choice { .. } if focused => reversed(),
        _ => Style::new(),
    };
    if let Row::Buttons(buttons) = row {
        return draw_buttons(buttons, text, focus, area, buf);
    }
    if focused && first {
        buf.set_stringn(area.x, area.y, ">", 1, Style::new());
    }
    let indent = if matches!(row, Row::Head(_)) { 0 } else { 2 };
    put(area, indent, text, style, buf);
    if let Row::Text { value, .. } = row {
        let field = Rect {
            x: area.x + VALUE_COLUMN.min(area.width),
            width: area.width.saturating_sub(VALUE_COLUMN + 1),
            ..area
        };
        draw_field(value, focused.then_some(focus.cursor), field, buf);
    }
}

fn draw_buttons(
    buttons: &[(Id, &'static str)],
    text: &str,
    focus: Focus,
    area: Rect,
    buf: &mut Buffer,
) {
    put(area, 0, text, Style::new(), buf);
    let label = buttons.iter().find(|(id, _)| Some(*id) == focus.id);
    if let Some((_, label)) = label {
        let shown = format!("> [ {label} ]");
        // Labels are ASCII: bytes are columns.
        if let Some(at) = text.find(&shown).and_then(|at| u16::try_from(at).ok()) {
            put(area, at + 2, &format!("[ {label} ]"), reversed(), buf);
        }
    }
}

/// `[value___]`, with the end of a text that is too long, and the cursor as a reversed cell.
fn draw_field(value: &str, cursor: Option<usize>, area: Rect, buf: &mut Buffer) {
    let room = usize::from(area.width.saturating_sub(2));
    if room == 0 {
        return;
    }
    let chars: Vec<char> = value.chars().collect();
    let at = cursor.unwrap_or(0).min(chars.len());
    let skip = (at + 1).saturating_sub(room);
    let shown: String = chars.iter().skip(skip).take(room).collect();
    let fill = if cursor.is_some() { "_" } else { " " };
    let missing = room.saturating_sub(chars.len().saturating_sub(skip).min(room));
    let text = format!("[{shown}{}]", fill.repeat(missing));
    put(area, 0, &text, Style::new(), buf);
    if cursor.is_some()
        && let Ok(column) = u16::try_from(1 + at - skip)
        && let Some(cell) = buf.cell_mut((area.x + column, area.y))
    {
        cell.set_style(reversed());
    }
}

fn put(area: Rect, indent: u16, text: &str, style: Style, buf: &mut Buffer) {
    let room = area.width.saturating_sub(indent);
    if room > 0 {
        buf.set_stringn(area.x + indent, area.y, text, room.into(), style);
    }
}

pub(crate) fn reversed() -> Style {
    Style::new().add_modifier(Modifier::REVERSED)
}
