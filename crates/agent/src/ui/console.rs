//! One console: the device, raw mode, its size, what is written to it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::layout::Size;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::termios::{
    self, ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, Termios,
};

/// Size that is drawn while the console does not tell its own.
pub(crate) const DEFAULT_SIZE: Size = Size {
    width: 80,
    height: 24,
};
/// Sizes beyond these are not drawn: a serial line would need seconds for them.
const MAX_SIZE: Size = Size {
    width: 200,
    height: 60,
};
/// Below this nothing can be read anyway.
const MIN_SIZE: Size = Size {
    width: 20,
    height: 8,
};

/// How often it is looked whether a shell has ended.
const SHELL_POLL: Duration = Duration::from_millis(100);

/// Where a person may sit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Console {
    /// Device: `/dev/tty1`, `/dev/ttyS0`.
    pub path: PathBuf,
    /// What it is.
    pub kind: ConsoleKind,
}

/// What a console is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConsoleKind {
    /// A virtual terminal of the kernel, on the screen.
    Screen,
    /// A line with a terminal at its other end, that may be slow and may not be there.
    Serial,
}

impl ConsoleKind {
    /// Shortest time between two drawings of what changed by itself.
    pub(crate) fn frame(self) -> Duration {
        match self {
            Self::Screen => Duration::from_millis(100),
            Self::Serial => Duration::from_millis(250),
        }
    }

    /// `$TERM` of a shell there.
    pub(crate) fn term(self) -> &'static str {
        match self {
            Self::Screen => "linux",
            Self::Serial => "vt220",
        }
    }
}

/// An open console.
#[derive(Debug)]
pub(crate) struct Terminal {
    file: File,
    kind: ConsoleKind,
    /// How it was; given back at the end.
    before: Termios,
}

impl Terminal {
    /// Opens the console, without becoming its session's leader and without waiting for a modem's carrier.
    pub(crate) fn open(console: &Console) -> io::Result<Self> {
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
            .open(&console.path)?;
        let mut before = termios::tcgetattr(&file)?;
        before.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
        // From here on a write waits until the line has taken it.
        rustix::fs::fcntl_setfl(&file, OFlags::empty())?;
        Ok(Self {
            file,
            kind: console.kind,
            before,
        })
    }

    /// Every byte as it comes, nothing echoed; the screen stays on.
    pub(crate) fn raw(&self) -> io::Result<()> {
        let mut raw = self.before.clone();
        raw.make_raw();
        raw.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
        termios::tcsetattr(&self.file, OptionalActions::Now, &raw)?;
        self.write(match self.kind {
            // console_codes(4): no blanking, no powering down of the screen.
            ConsoleKind::Screen => b"\x1b[9;0]\x1b[14;0]\x1b[?25l".as_slice(),
            ConsoleKind::Serial => b"\x1b[?25l",
        })
    }

    /// As it was, with an empty screen.
    pub(crate) fn restore(&self) -> io::Result<()> {
        self.write(b"\x1b[0m\x1b[2J\x1b[H\x1b[?25h")?;
        termios::tcsetattr(&self.file, OptionalActions::Now, &self.before)?;
        Ok(())
    }

    /// The kernel's idea of the size; `None` where it has none.
    pub(crate) fn size(&self) -> Option<Size> {
        let size = termios::tcgetwinsize(&self.file).ok()?;
        (size.ws_col > 0 && size.ws_row > 0).then(|| clamp(size.ws_col, size.ws_row))
    }

    /// Asks the terminal for its size: the cursor goes as far as it can and reports where it is (ECMA-48 CPR). The
    /// answer, if there is one, comes as [`super::keys::Key::Position`].
    pub(crate) fn ask_size(&self) -> io::Result<()> {
        self.write(b"\x1b7\x1b[999;999H\x1b[6n\x1b8")
    }

    /// Waits for a key; false when none came in time.
    pub(crate) fn wait(&self, time: Duration) -> io::Result<bool> {
        let time = Timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(1),
            tv_nsec: time.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&self.file, PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&time)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// What was typed; an error at a hang-up.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match rustix::io::read(&self.file, buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => Ok(len),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.file).write_all(bytes)
    }

    /// Runs a shell here until it ends, or until `stop`.
    pub(crate) fn shell(&self, greeting: &str, stop: &AtomicBool) -> io::Result<()> {
        self.restore()?;
        self.write(greeting.replace('\n', "\r\n").as_bytes())?;
        let ended = shell_command(&self.file, self.kind)
            .and_then(|mut command| command.spawn())
            .and_then(|mut child| {
                while child.try_wait()?.is_none() {
                    if stop.load(Ordering::Relaxed) {
                        child.kill()?;
                    }
                    std::thread::sleep(SHELL_POLL);
                }
                Ok(())
            });
        // Keys typed for the shell are not for the screens.
        termios::tcflush(&self.file, termios::QueueSelector::IFlush)?;
        self.raw()?;
        ended
    }
}

/// A shell in a session of its own whose controlling terminal is `console`.
pub(crate) fn shell_command(console: &File, kind: ConsoleKind) -> io::Result<Command> {
    // setsid of busybox and of util-linux alike: -c takes standard input as the controlling terminal.
    let mut command = Command::new("setsid");
    command
        .args(["-c", "/bin/sh"])
        .env("TERM", kind.term())
        .env("PS1", "p2v# ")
        .current_dir("/")
        .stdin(console.as_fd().try_clone_to_owned()?)
        .stdout(console.as_fd().try_clone_to_owned()?)
        .stderr(console.as_fd().try_clone_to_owned()?);
    Ok(command)
}

/// A shell on a console whatever its state is, under some words; for [`crate::init`].
pub(crate) fn rescue_shell(console: &Console, words: &str) -> io::Result<Command> {
    let terminal = Terminal::open(console)?;
    let mut sane = terminal.before.clone();
    sane.input_modes |= InputModes::ICRNL | InputModes::IXON;
    sane.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
    sane.local_modes |=
        LocalModes::ISIG | LocalModes::ICANON | LocalModes::ECHO | LocalModes::ECHOE;
    termios::tcsetattr(&terminal.file, OptionalActions::Now, &sane)?;
    terminal.write(b"\x1b[0m\x1b[?25h\r\n")?;
    terminal.write(words.replace('\n', "\r\n").as_bytes())?;
    terminal.write(b"\r\n")?;
    shell_command(&terminal.file, console.kind)
}

/// A size that can be drawn.
pub(crate) fn clamp(width: u16, height: u16) -> Size {
    Size {
        width: width.clamp(MIN_SIZE.width, MAX_SIZE.width),
        height: height.clamp(MIN_SIZE.height, MAX_SIZE.height),
    }
}
