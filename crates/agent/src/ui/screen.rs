//! The loop of one console: keys in, drawing out, until it is stopped.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ratatui::buffer::Buffer;
use ratatui::layout::{Rect, Size};

use super::console::{self, Console, ConsoleKind, DEFAULT_SIZE, Terminal};
use super::keys::{Decoder, Key};
use super::model::{Effect, Model};
use super::{draw, emit};
use crate::app::Handle;

/// After this an escape is the Esc key. A serial line of 9600 baud needs 1 ms a byte; remote consoles need longer.
const ESC_TIMEOUT: Duration = Duration::from_millis(300);
/// Shortest time between two drawings of what keys changed: typing must be seen at once, pasting not letter by letter.
const KEY_FRAME: Duration = Duration::from_millis(40);
/// Until a console that failed is opened again.
const REOPEN: Duration = Duration::from_secs(2);
/// Bytes taken at once.
const READ_LEN: usize = 4096;
const SHELL_GREETING: &str = "A shell of the p2v-agent's system. The machine's disks are there: nothing stops you \
    from writing to them.\n`exit` goes back.\n";

/// Runs until `stop`, or until the controller is gone. A console that fails is opened again.
pub(super) fn run(console: &Console, handle: &Handle, stop: &Arc<AtomicBool>) {
    let mut model = Model::default();
    while !stop.load(Ordering::Relaxed) {
        match serve(console, handle, stop, &mut model) {
            Ok(()) => return,
            Err(error) => {
                let path = console.path.display();
                tracing::debug!("{path}: {error}; it is opened again");
                sleep_unless(stop, REOPEN);
            }
        }
    }
}

fn sleep_unless(stop: &AtomicBool, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn serve(
    console: &Console,
    handle: &Handle,
    stop: &AtomicBool,
    model: &mut Model,
) -> io::Result<()> {
    let terminal = Terminal::open(console)?;
    terminal.raw()?;
    let mut screen = Screen {
        kind: console.kind,
        size: terminal.size().unwrap_or(DEFAULT_SIZE),
        terminal,
        handle: handle.clone(),
        decoder: Decoder::default(),
        shown: None,
        drawn: Instant::now(),
        waiting_since: None,
        dirty: true,
        typed: false,
    };
    screen.ask_size()?;
    let result = screen.serve(model, stop);
    let restored = screen.terminal.restore();
    result.and(restored)
}

struct Screen {
    terminal: Terminal,
    kind: ConsoleKind,
    size: Size,
    handle: Handle,
    decoder: Decoder,
    /// What the terminal shows; `None`: nobody knows.
    shown: Option<Buffer>,
    drawn: Instant,
    /// When the unfinished sequence began.
    waiting_since: Option<Instant>,
    dirty: bool,
    /// A key made it so.
    typed: bool,
}

impl Screen {
    fn serve(&mut self, model: &mut Model, stop: &AtomicBool) -> io::Result<()> {
        model.look(&self.handle.view.borrow_and_update().clone());
        self.draw(model)?;
        let mut buffer = [0; READ_LEN];
        while !stop.load(Ordering::Relaxed) {
            if self.terminal.wait(self.patience())? {
                let len = self.terminal.read(&mut buffer)?;
                let keys = self.decoder.feed(buffer.get(..len).unwrap_or_default());
                self.waiting_since = self.decoder.is_waiting().then(Instant::now);
                self.take(&keys, model, stop)?;
            } else if self
                .waiting_since
                .is_some_and(|since| since.elapsed() >= ESC_TIMEOUT)
            {
                self.waiting_since = None;
                let key = self.decoder.timeout();
                self.take(key.as_slice(), model, stop)?;
            }
            match self.handle.view.has_changed() {
                Ok(true) => {
                    let view = self.handle.view.borrow_and_update().clone();
                    model.look(&view);
                    self.dirty = true;
                }
                Ok(false) => {}
                // The controller is gone, and with it what could be shown.
                Err(_) => return Ok(()),
            }
            self.follow_size();
            if self.is_due() {
                self.draw(model)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, keys: &[Key], model: &mut Model, stop: &AtomicBool) -> io::Result<()> {
        for key in keys {
            let view = self.handle.view.borrow().clone();
            for effect in model.key(*key, &view) {
                self.effect(effect, model, stop)?;
            }
            self.dirty = true;
            self.typed = true;
        }
        Ok(())
    }

    fn effect(&mut self, effect: Effect, model: &mut Model, stop: &AtomicBool) -> io::Result<()> {
        match effect {
            Effect::Send(command) => {
                if self.handle.commands.send(command).is_err() {
                    model.message = Some("The agent's controller has ended.".into());
                }
            }
            Effect::Redraw => {
                self.shown = None;
                self.ask_size()?;
            }
            Effect::Size(columns, rows) => self.resize(console::clamp(columns, rows)),
            Effect::Shell => {
                if let Err(error) = self.terminal.shell(SHELL_GREETING, stop) {
                    model.message = Some(format!("No shell: {error}"));
                    self.terminal.raw()?;
                }
                self.shown = None;
                self.ask_size()?;
            }
        }
        Ok(())
    }

    /// How long a key may be waited for.
    fn patience(&self) -> Duration {
        match (self.waiting_since, self.dirty && self.typed) {
            (_, true) => KEY_FRAME,
            (Some(_), false) => ESC_TIMEOUT.min(self.kind.frame()),
            (None, false) => self.kind.frame(),
        }
    }

    fn is_due(&self) -> bool {
        let rest = if self.typed {
            KEY_FRAME
        } else {
            self.kind.frame()
        };
        self.dirty && self.drawn.elapsed() >= rest
    }

    fn draw(&mut self, model: &Model) -> io::Result<()> {
        let mut next = Buffer::empty(Rect::new(0, 0, self.size.width, self.size.height));
        draw::render(model, &self.handle.view.borrow(), &mut next);
        let bytes = match &self.shown {
            Some(shown) if shown.area == next.area => emit::difference(shown, &next),
            _ => emit::everything(&next),
        };
        self.terminal.write(&bytes)?;
        self.shown = Some(next);
        self.drawn = Instant::now();
        self.dirty = false;
        self.typed = false;
        Ok(())
    }

    /// Where the kernel does not know the size, the terminal is asked.
    fn ask_size(&mut self) -> io::Result<()> {
        match (self.terminal.size(), self.kind) {
            (None, ConsoleKind::Serial) => self.terminal.ask_size(),
            _ => Ok(()),
        }
    }

    fn follow_size(&mut self) {
        if let Some(size) = self.terminal.size() {
            self.resize(size);
        }
    }

    fn resize(&mut self, size: Size) {
        if size != self.size {
            self.size = size;
            self.shown = None;
            self.dirty = true;
        }
    }
}
