//! What must be written so that a terminal that shows one buffer shows the next: differences only.
//!
//! Written for the smallest common terminal: cursor address, reverse, bold. No colour, so nothing depends on it.
//! Characters outside ASCII and Latin are shown as `?`: neither a serial terminal's set nor the console font is known.

use std::io::Write;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::Modifier;

/// Unchanged cells between two changed ones that are written again because a cursor address is longer.
const BRIDGE: u16 = 4;

/// Bytes that turn `shown` into `next`; both have the same size.
pub(crate) fn difference(shown: &Buffer, next: &Buffer) -> Vec<u8> {
    let mut out = Out::default();
    let area = next.area;
    for y in area.top()..area.bottom() {
        let mut x = area.left();
        while x < area.right() {
            let (Some(old), Some(new)) = (shown.cell((x, y)), next.cell((x, y))) else {
                break;
            };
            if old != new {
                out.go(next, x, y);
                out.cell(new);
            }
            x = x.saturating_add(1);
        }
    }
    out.finish()
}

/// Bytes that show `next` on an empty terminal.
pub(crate) fn everything(next: &Buffer) -> Vec<u8> {
    let mut bytes = b"\x1b[0m\x1b[2J".to_vec();
    bytes.extend(difference(&Buffer::empty(next.area), next));
    bytes
}

#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    /// Where the terminal's cursor is, once known.
    at: Option<(u16, u16)>,
    style: Modifier,
}

impl Out {
    /// Goes to the cell, by writing what lies between where that is shorter.
    fn go(&mut self, next: &Buffer, x: u16, y: u16) {
        match self.at {
            Some((at_x, at_y)) if at_y == y && at_x <= x && x - at_x <= BRIDGE => {
                for between in at_x..x {
                    if let Some(cell) = next.cell((between, y)) {
                        self.cell(cell);
                    }
                }
            }
            _ => self.sequence(format_args!("\x1b[{};{}H", y + 1, x + 1)),
        }
        self.at = Some((x, y));
    }

    fn cell(&mut self, cell: &Cell) {
        let style = cell.modifier & (Modifier::REVERSED | Modifier::BOLD);
        if style != self.style {
            let bold = if style.contains(Modifier::BOLD) {
                ";1"
            } else {
                ""
            };
            let reverse = if style.contains(Modifier::REVERSED) {
                ";7"
            } else {
                ""
            };
            self.sequence(format_args!("\x1b[0{bold}{reverse}m"));
            self.style = style;
        }
        let mut utf8 = [0; 4];
        let shown = plain(cell.symbol());
        self.bytes.extend(shown.encode_utf8(&mut utf8).as_bytes());
        self.at = self.at.map(|(x, y)| (x.saturating_add(1), y));
    }

    fn sequence(&mut self, text: std::fmt::Arguments<'_>) {
        // A Vec takes everything.
        let _ = self.bytes.write_fmt(text);
    }

    fn finish(mut self) -> Vec<u8> {
        if !self.style.is_empty() {
            self.bytes.extend(b"\x1b[0m");
        }
        self.bytes
    }
}

/// The one character of a cell that every terminal can show.
fn plain(symbol: &str) -> char {
    let mut chars = symbol.chars();
    match (chars.next(), chars.next()) {
        (Some(only @ (' '..='~' | '\u{a1}'..='\u{ac}' | '\u{ae}'..='\u{17f}')), None) => only,
        // The second half of a wide character.
        (None, _) => ' ',
        _ => '?',
    }
}

#[cfg(test)]
mod tests {
    use ratatui::layout::Rect;
    use ratatui::style::Style;

    use super::*;

    fn buffer(lines: &[&str]) -> Buffer {
        Buffer::with_lines(lines.iter().copied())
    }

    #[test]
    fn only_differences_are_written() {
        let old = buffer(&["abcdefghijklmnopqrstuvwxyz", "second"]);
        assert!(difference(&old, &old).is_empty());
        let new = buffer(&["abcdefghijklmnopqrstuvwxyZ", "second"]);
        assert_eq!(difference(&old, &new), b"\x1b[1;26HZ");
        let new = buffer(&["AbCdefghijklmnopqrstuvwxyz", "sEcond"]);
        assert_eq!(difference(&old, &new), b"\x1b[1;1HAbC\x1b[2;2HE");
    }

    #[test]
    fn styles_are_written_once_and_ended() {
        let mut new = Buffer::empty(Rect::new(0, 0, 10, 1));
        new.set_string(0, 0, "ab", Style::new().add_modifier(Modifier::REVERSED));
        new.set_string(2, 0, "c", Style::new());
        let old = Buffer::empty(new.area);
        assert_eq!(difference(&old, &new), b"\x1b[1;1H\x1b[0;7mab\x1b[0mc");
    }

    #[test]
    fn nothing_that_steers_a_terminal_gets_through() {
        let mut new = Buffer::empty(Rect::new(0, 0, 30, 1));
        new.set_string(0, 0, "a\x1b[2Jb\u{9b}1m\u{202e}c日é─", Style::new());
        let bytes = everything(&new);
        let text = String::from_utf8(bytes).unwrap();
        let shown = text.strip_prefix("\x1b[0m\x1b[2J\x1b[1;1H").unwrap();
        assert!(!shown.contains(|c: char| c.is_control()), "{shown:?}");
        assert!(shown.ends_with("é?"), "{shown:?}");
    }
}
