//! What a person would see on a serial console: the escape sequences that full-screen programs write, on a grid of
//! characters (ECMA-48, and xterm's private modes). Colours are passed over. Questions of the program about the cursor
//! and the kind of terminal are answered as a terminal does.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::boot::Running;

const POLL: Duration = Duration::from_millis(100);
/// Longest escape sequence that is looked at.
const MAX_SEQUENCE: usize = 256;

/// A grid of characters and the place of the cursor.
#[derive(Clone, Debug)]
pub struct Screen {
    columns: usize,
    rows: Vec<Vec<char>>,
    row: usize,
    column: usize,
    saved: (usize, usize),
    sequence: Vec<u8>,
    utf8: Vec<u8>,
    answers: Vec<u8>,
}

impl Screen {
    /// An empty screen; a serial console without another wish is 80 by 24.
    pub fn new(columns: usize, rows: usize) -> Self {
        Self {
            columns,
            rows: vec![vec![' '; columns]; rows],
            row: 0,
            column: 0,
            saved: (0, 0),
            sequence: Vec::new(),
            utf8: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// The rows as text, blanks at their ends cut off.
    pub fn text(&self) -> String {
        let line = |row: &Vec<char>| row.iter().collect::<String>().trim_end().to_owned();
        self.rows.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Takes what the program wrote.
    pub fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if !self.sequence.is_empty() {
                self.in_sequence(byte);
            } else if byte == 0x1b {
                self.sequence.push(byte);
            } else if byte < 0x80 {
                self.utf8.clear();
                self.plain(char::from(byte));
            } else {
                self.part_of_utf8(byte);
            }
        }
    }

    fn part_of_utf8(&mut self, byte: u8) {
        self.utf8.push(byte);
        if let Ok(text) = std::str::from_utf8(&self.utf8) {
            let character = text.chars().next();
            self.utf8.clear();
            character.into_iter().for_each(|c| self.plain(c));
        } else if self.utf8.len() >= 4 {
            self.utf8.clear();
            self.plain('?');
        }
    }

    fn plain(&mut self, character: char) {
        match character {
            '\r' => self.column = 0,
            '\n' => self.line_feed(),
            '\u{8}' => self.column = self.column.saturating_sub(1),
            '\t' => self.column = (self.column / 8 * 8 + 8).min(self.columns - 1),
            c if u32::from(c) < 0x20 => {}
            c => {
                if self.column >= self.columns {
                    self.column = 0;
                    self.line_feed();
                }
                if let Some(cell) = self
                    .rows
                    .get_mut(self.row)
                    .and_then(|row| row.get_mut(self.column))
                {
                    *cell = c;
                }
                self.column += 1;
            }
        }
    }

    fn line_feed(&mut self) {
        if self.row + 1 < self.rows.len() {
            self.row += 1;
        } else {
            self.rows.remove(0);
            self.rows.push(vec![' '; self.columns]);
        }
    }

    fn in_sequence(&mut self, byte: u8) {
        self.sequence.push(byte);
        let done = match self.sequence.get(1) {
            // Control sequence: parameters, then a final byte from @ to ~.
            Some(b'[') => self.sequence.len() > 2 && (0x40..=0x7e).contains(&byte),
            // Operating system command: ends with BEL or ESC \.
            Some(b']') => byte == 7 || self.sequence.ends_with(b"\x1b\\"),
            Some(b'(' | b')' | b'#' | b' ') => self.sequence.len() == 3,
            _ => true,
        };
        if done || self.sequence.len() > MAX_SEQUENCE {
            let sequence = std::mem::take(&mut self.sequence);
            match sequence.get(1..) {
                Some([b'[', parameters @ .., last]) => self.control(parameters, *last),
                Some(b"7") => self.saved = (self.row, self.column),
                Some(b"8") => (self.row, self.column) = self.saved,
                Some(b"c") => *self = Self::new(self.columns, self.rows.len()),
                _ => {}
            }
        }
    }

    fn control(&mut self, parameters: &[u8], last: u8) {
        let text = String::from_utf8_lossy(parameters).into_owned();
        let numbers: Vec<usize> = text.split(';').map(|n| n.parse().unwrap_or(0)).collect();
        let number = |place: usize| numbers.get(place).copied().unwrap_or(0);
        let count = number(0).max(1);
        let (last_row, last_column) = (self.rows.len() - 1, self.columns - 1);
        match last {
            b'H' | b'f' => {
                self.row = count.min(last_row + 1) - 1;
                self.column = number(1).max(1).min(last_column + 1) - 1;
            }
            b'A' => self.row = self.row.saturating_sub(count),
            b'B' => self.row = (self.row + count).min(last_row),
            b'C' => self.column = (self.column + count).min(last_column),
            b'D' => self.column = self.column.saturating_sub(count),
            b'G' => self.column = count.min(last_column + 1) - 1,
            b'd' => self.row = count.min(last_row + 1) - 1,
            b'J' => self.erase_screen(number(0)),
            b'K' => self.erase_line(number(0)),
            b'X' => self.blank(
                self.row,
                self.column,
                (self.column + count).min(self.columns),
            ),
            b's' => self.saved = (self.row, self.column),
            b'u' => (self.row, self.column) = self.saved,
            // The alternate screen begins empty.
            b'h' | b'l' if text == "?1049" => self.erase_screen(2),
            b'n' if number(0) == 6 => {
                let place = format!(
                    "\x1b[{};{}R",
                    self.row + 1,
                    self.column.min(last_column) + 1
                );
                self.answers.extend(place.bytes());
            }
            // Device attributes: a VT100 with the advanced video option.
            b'c' if matches!(text.as_str(), "" | "0") => self.answers.extend(b"\x1b[?1;2c"),
            _ => {}
        }
    }

    fn erase_screen(&mut self, which: usize) {
        let rows = match which {
            0 => self.row + 1..self.rows.len(),
            1 => 0..self.row,
            _ => 0..self.rows.len(),
        };
        if which < 2 {
            self.erase_line(which);
        }
        rows.for_each(|row| self.blank(row, 0, self.columns));
    }

    fn erase_line(&mut self, which: usize) {
        let (from, to) = match which {
            0 => (self.column, self.columns),
            1 => (0, (self.column + 1).min(self.columns)),
            _ => (0, self.columns),
        };
        self.blank(self.row, from, to);
    }

    fn blank(&mut self, row: usize, from: usize, to: usize) {
        let cells = self.rows.get_mut(row).and_then(|row| row.get_mut(from..to));
        cells.into_iter().flatten().for_each(|cell| *cell = ' ');
    }
}

/// A person at the serial console of a machine.
#[derive(Debug)]
pub struct Terminal {
    screen: Screen,
    seen: usize,
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new(80, 24)
    }
}

impl Terminal {
    /// A terminal of this size.
    pub fn new(columns: usize, rows: usize) -> Self {
        Self {
            screen: Screen::new(columns, rows),
            seen: 0,
        }
    }

    /// What stands on the screen now; the program's questions are answered.
    pub fn look(&mut self, console: &mut Running) -> Result<String> {
        let new = console.console_from(self.seen);
        self.seen += new.len();
        self.screen.write(&new);
        if !self.screen.answers.is_empty() {
            let answers = std::mem::take(&mut self.screen.answers);
            console.send(&String::from_utf8_lossy(&answers))?;
        }
        Ok(self.screen.text())
    }

    /// Waits until one of `texts` stands on the screen; returns which.
    pub fn wait_for_any(
        &mut self,
        console: &mut Running,
        texts: &[&str],
        timeout: Duration,
    ) -> Result<usize> {
        let deadline = Instant::now() + timeout;
        loop {
            let screen = self.look(console)?;
            if let Some(found) = texts.iter().position(|text| screen.contains(text)) {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                bail!("{texts:?} not on the screen within {timeout:?}; it shows:\n{screen}");
            }
            thread::sleep(POLL);
        }
    }

    /// Waits until `text` stands on the screen.
    pub fn wait_for(&mut self, console: &mut Running, text: &str, timeout: Duration) -> Result<()> {
        self.wait_for_any(console, &[text], timeout).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_lands_where_the_cursor_was_put() {
        let mut screen = Screen::new(20, 4);
        screen.write(b"\x1b[?1049h\x1b[2J\x1b[2;3H\x1b[1;31mdisk\x1b[0m sda\x1b[4;1H");
        screen.write("│ größe".as_bytes());
        assert_eq!(screen.text(), "\n  disk sda\n\n│ größe");
        screen.write(b"\x1b[2;8H\x1b[K\x1b[1;1H\x1b]0;title\x07top\x1b[s\x1b[3;1Hx\x1b[u!");
        assert_eq!(screen.text(), "top!\n  disk\nx\n│ größe");
        screen.write(b"\x1b[2;1H\x1b[J");
        assert_eq!(screen.text(), "top!\n\n\n");
    }

    #[test]
    fn lines_scroll_and_wrap() {
        let mut screen = Screen::new(4, 2);
        screen.write(b"one\r\ntwo\r\nthree");
        assert_eq!(screen.text(), "thre\ne");
    }

    #[test]
    fn a_program_that_asks_is_answered() {
        let mut screen = Screen::new(80, 24);
        screen.write(b"\x1b[999;999H\x1b[6n\x1b[c");
        assert_eq!(screen.answers, b"\x1b[24;80R\x1b[?1;2c");
    }
}
