//! Keys out of the bytes of a terminal: VT100, VT220, xterm, rxvt and the kernel's console, UTF-8 between them.
//!
//! ```text
//! ground ──ESC──> escape ──[──> CSI ──final byte──> ground        (cursor and editing keys, cursor position report)
//!                    │ └───O──> SS3 ──one byte────> ground        (F1–F4, application cursor keys)
//!                    └─timeout: the Esc key; any other byte: Alt with it
//! ```
//! Nothing unknown is ever taken for text: an unknown sequence is dropped as a whole.

/// One key, or what a terminal says by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// Text.
    Char(char),
    /// Ctrl with a letter, lower case.
    Ctrl(char),
    /// Esc or Alt with a character.
    Alt(char),
    Enter,
    Tab,
    BackTab,
    Backspace,
    Delete,
    Esc,
    Up,
    Down,
    Left,
    Right,
    Home,
    End,
    PageUp,
    PageDown,
    /// F1 to F12.
    F(u8),
    /// Answer to the question for the cursor's position: row and column from 1.
    Position(u16, u16),
}

/// Longest control sequence that is looked at; longer ones are noise.
const MAX_SEQUENCE: usize = 32;

/// Turns bytes into keys; what is not finished is kept.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    state: State,
    /// Bytes of the sequence or character so far.
    held: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    Escape,
    Csi,
    /// `ESC [ [ A`: F1 to F5 of the kernel's console.
    LinuxFunction,
    Ss3,
    Utf8(usize),
}

impl Decoder {
    /// Keys that `bytes` complete.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Key> {
        bytes.iter().filter_map(|&byte| self.byte(byte)).collect()
    }

    /// Something is begun: [`Decoder::timeout`] is to be called when nothing follows for a while.
    pub(crate) fn is_waiting(&self) -> bool {
        self.state != State::Ground
    }

    /// Nothing followed: a lone escape is the Esc key, all else unfinished is noise.
    pub(crate) fn timeout(&mut self) -> Option<Key> {
        let state = std::mem::take(&mut self.state);
        self.held.clear();
        (state == State::Escape).then_some(Key::Esc)
    }

    fn byte(&mut self, byte: u8) -> Option<Key> {
        match self.state {
            State::Ground => self.ground(byte),
            State::Escape => self.escape(byte),
            State::Csi => self.csi(byte),
            State::LinuxFunction => {
                self.state = State::Ground;
                matches!(byte, b'A'..=b'E').then(|| Key::F(byte - b'A' + 1))
            }
            State::Ss3 => {
                self.state = State::Ground;
                ss3(byte)
            }
            State::Utf8(len) => self.utf8(byte, len),
        }
    }

    fn ground(&mut self, byte: u8) -> Option<Key> {
        let len = match byte {
            0x1b => {
                self.state = State::Escape;
                return None;
            }
            b'\r' | b'\n' => return Some(Key::Enter),
            b'\t' => return Some(Key::Tab),
            0x08 | 0x7f => return Some(Key::Backspace),
            0x01..=0x1a => return Some(Key::Ctrl(char::from(byte - 1 + b'a'))),
            0x20..=0x7e => return Some(Key::Char(char::from(byte))),
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => return None,
        };
        self.held = vec![byte];
        self.state = State::Utf8(len);
        None
    }

    fn escape(&mut self, byte: u8) -> Option<Key> {
        self.held.clear();
        self.state = State::Ground;
        match byte {
            b'[' => self.state = State::Csi,
            b'O' => self.state = State::Ss3,
            0x1b => {
                self.state = State::Escape;
                return Some(Key::Esc);
            }
            0x20..=0x7e => return Some(Key::Alt(char::from(byte))),
            _ => return self.ground(byte),
        }
        None
    }

    fn csi(&mut self, byte: u8) -> Option<Key> {
        match byte {
            b'[' if self.held.is_empty() => {
                self.state = State::LinuxFunction;
                None
            }
            // ECMA-48, section 5.4: parameter and intermediate bytes, then a final byte.
            0x20..=0x3f => {
                if self.held.len() < MAX_SEQUENCE {
                    self.held.push(byte);
                }
                None
            }
            0x40..=0x7e => {
                self.state = State::Ground;
                csi(&std::mem::take(&mut self.held), byte)
            }
            0x1b => {
                self.held.clear();
                self.state = State::Escape;
                None
            }
            _ => {
                self.held.clear();
                self.state = State::Ground;
                None
            }
        }
    }

    fn utf8(&mut self, byte: u8, len: usize) -> Option<Key> {
        if !(0x80..=0xbf).contains(&byte) {
            self.held.clear();
            self.state = State::Ground;
            return self.ground(byte);
        }
        self.held.push(byte);
        if self.held.len() < len {
            return None;
        }
        self.state = State::Ground;
        let held = std::mem::take(&mut self.held);
        let text = std::str::from_utf8(&held).ok()?;
        let found = text.chars().next()?;
        (!found.is_control()).then_some(Key::Char(found))
    }
}

fn ss3(byte: u8) -> Option<Key> {
    Some(match byte {
        b'P'..=b'S' => Key::F(byte - b'P' + 1),
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'C' => Key::Right,
        b'D' => Key::Left,
        b'H' => Key::Home,
        b'F' => Key::End,
        // Enter of the keypad.
        b'M' => Key::Enter,
        _ => return None,
    })
}

fn csi(parameters: &[u8], last: u8) -> Option<Key> {
    let text = std::str::from_utf8(parameters).ok()?;
    let mut numbers = text.split(';').map(|part| part.parse::<u16>().ok());
    let first = numbers.next().flatten();
    let second = numbers.next().flatten();
    Some(match (last, first, second) {
        (b'R', Some(row), Some(column)) => Key::Position(row, column),
        (b'A', ..) => Key::Up,
        (b'B', ..) => Key::Down,
        (b'C', ..) => Key::Right,
        (b'D', ..) => Key::Left,
        (b'H', ..) => Key::Home,
        (b'F', ..) => Key::End,
        (b'Z', ..) => Key::BackTab,
        (b'P'..=b'S', ..) => Key::F(last - b'P' + 1),
        (b'~', Some(number), _) => return tilde(number),
        _ => return None,
    })
}

/// The number in `ESC [ number ~`: VT220's editing keys and the function keys with their gaps.
fn tilde(number: u16) -> Option<Key> {
    let number = u8::try_from(number).ok()?;
    Some(match number {
        1 | 7 => Key::Home,
        4 | 8 => Key::End,
        3 => Key::Delete,
        5 => Key::PageUp,
        6 => Key::PageDown,
        11..=15 => Key::F(number - 10),
        17..=21 => Key::F(number - 11),
        23 | 24 => Key::F(number - 12),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut decoder = Decoder::default();
        let mut keys = decoder.feed(bytes);
        keys.extend(decoder.timeout());
        assert!(!decoder.is_waiting());
        keys
    }

    #[test]
    fn every_sequence_is_its_key() {
        let table: &[(&[u8], Key)] = &[
            (b"a", Key::Char('a')),
            (b" ", Key::Char(' ')),
            ("é".as_bytes(), Key::Char('é')),
            ("€".as_bytes(), Key::Char('€')),
            ("𝄞".as_bytes(), Key::Char('𝄞')),
            (b"\r", Key::Enter),
            (b"\n", Key::Enter),
            (b"\x1bOM", Key::Enter),
            (b"\t", Key::Tab),
            (b"\x1b[Z", Key::BackTab),
            (b"\x7f", Key::Backspace),
            (b"\x08", Key::Backspace),
            (b"\x0c", Key::Ctrl('l')),
            (b"\x15", Key::Ctrl('u')),
            (b"\x1b", Key::Esc),
            (b"\x1b3", Key::Alt('3')),
            (b"\x1b[A", Key::Up),
            (b"\x1bOA", Key::Up),
            (b"\x1b[B", Key::Down),
            (b"\x1b[C", Key::Right),
            (b"\x1b[1;5D", Key::Left),
            (b"\x1b[H", Key::Home),
            (b"\x1b[1~", Key::Home),
            (b"\x1b[7~", Key::Home),
            (b"\x1b[F", Key::End),
            (b"\x1b[4~", Key::End),
            (b"\x1b[3~", Key::Delete),
            (b"\x1b[5~", Key::PageUp),
            (b"\x1b[6~", Key::PageDown),
            (b"\x1bOP", Key::F(1)),
            (b"\x1b[11~", Key::F(1)),
            (b"\x1b[[A", Key::F(1)),
            (b"\x1b[[E", Key::F(5)),
            (b"\x1bOS", Key::F(4)),
            (b"\x1b[15~", Key::F(5)),
            (b"\x1b[17~", Key::F(6)),
            (b"\x1b[18~", Key::F(7)),
            (b"\x1b[19~", Key::F(8)),
            (b"\x1b[20~", Key::F(9)),
            (b"\x1b[21~", Key::F(10)),
            (b"\x1b[23~", Key::F(11)),
            (b"\x1b[24~", Key::F(12)),
            (b"\x1b[24;2~", Key::F(12)),
            (b"\x1b[24;80R", Key::Position(24, 80)),
        ];
        for (bytes, key) in table {
            assert_eq!(keys(bytes), [*key], "{}", bytes.escape_ascii());
            // The same one byte at a time.
            let mut decoder = Decoder::default();
            let mut one_by_one: Vec<Key> = bytes.iter().flat_map(|b| decoder.feed(&[*b])).collect();
            one_by_one.extend(decoder.timeout());
            assert_eq!(one_by_one, [*key], "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn noise_is_dropped_as_a_whole_and_what_follows_is_read() {
        let noise: &[&[u8]] = &[
            b"\x1b[99~",
            b"\x1b[?1;2c",
            b"\x1b[1;2;3;4;5;6;7;8x",
            b"\xff\xfe",
            b"\xc3",
            b"\xed\xa0\x80",
            b"\x1b[\x80",
            b"\x00",
        ];
        for bytes in noise {
            let with_text = [*bytes, b"z"].concat();
            assert_eq!(
                keys(&with_text),
                [Key::Char('z')],
                "{}",
                bytes.escape_ascii()
            );
        }
        let long = [b"\x1b[".as_slice(), &[b'1'; 500], b"~"].concat();
        let mut decoder = Decoder::default();
        decoder.feed(&long);
        assert!(decoder.held.len() <= MAX_SEQUENCE);
        assert_eq!(keys(b"\x1b\x1b[A"), [Key::Esc, Key::Up]);
    }
}
