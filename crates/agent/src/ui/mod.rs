//! The screens on the machine's consoles.
//!
//! One thread a console; each has its own focus and half-typed fields ([`model`]), all show one state ([`View`]) and
//! send their wishes to one controller ([`Command`]). Drawing is differences only, without colour, in ASCII (names may
//! have Latin letters): a serial line of 115200 baud takes it, and so does the kernel's console.
//!
//! | key | does |
//! |---|---|
//! | F1 F2 F3 F4 F6 F7 F9 | Network, Server, Disks, Guest, Start, Job, Log |
//! | F5, F10, Ctrl-L | look for hardware again, a shell, draw anew |
//! | Tab, Shift-Tab, arrows | the next and the last field; Tab goes on to the next screen |
//! | Enter | takes a field; presses a button |
//! | Space, Left, Right | check boxes, choices |
//! | Esc or Alt with a digit | that function key (0 is F10), where the terminal has none |
//!
//! # Driven by a script over the serial line
//!
//! The top line begins with `v2v p2v-agent VERSION`, its end is `detecting`, `set-up`, `running` or `ended`; buttons
//! are `[ Start ]`, the one with the focus is `> [ Start ]`. The shortest way with a join string and all defaults,
//! once `set-up` is shown:
//!
//! ```text
//! F2   ESC O Q  (or ESC 2)      the Server screen, its first field has the focus
//! JOIN CR                       typed or pasted; the field then says `join string for ADDR:PORT`
//! F6   ESC [ 1 7 ~  (or ESC 6)  the Start screen, `> [ Start ]` has the focus; nothing is under `Missing`
//! CR                            the Job screen comes by itself
//! ```
//! `ESC 2` are the bytes 1b 32 without a pause or with one. A script need not wait between these steps.
//! Without a join string: `F2 ADDR CR CODE CR`, `CR` on `> [ Test connection ]`, wait for `[ Yes, the same ]`, compare,
//! Down, `CR`, then as above.
//!
//! [`View`]: crate::app::View
//! [`Command`]: crate::app::Command

mod console;
mod draw;
mod emit;
mod form;
mod keys;
mod model;
mod screen;
mod tabs;

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

pub(crate) use console::rescue_shell;
pub use console::{Console, ConsoleKind};

use crate::app::Handle;

/// How often the screens of a console are begun anew after a defect in them.
const RESTARTS: u32 = 3;

/// How long a console may take to be given back; a serial line whose other end holds it up takes forever.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
const STOP_POLL: Duration = Duration::from_millis(20);

/// The screens, while they run. Dropped, they leave and give the consoles back.
#[derive(Debug)]
pub struct Screens {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// Starts the screens, one thread a console; returns at once. A console that cannot be opened is tried again every two
/// seconds, without troubling the others. They end with [`Screens::stop`] or when the sender of `handle.view` is gone.
///
/// # Errors
/// When no thread can be made.
pub fn run(consoles: Vec<Console>, handle: &Handle) -> std::io::Result<Screens> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    for console in consoles {
        let handle = handle.clone();
        let stop = Arc::clone(&stop);
        let name = format!("ui {}", console.path.display());
        threads.push(Builder::new().name(name).spawn(move || {
            for _ in 0..=RESTARTS {
                let run = AssertUnwindSafe(|| screen::run(&console, &handle, &stop));
                if catch_unwind(run).is_ok() {
                    return;
                }
                tracing::error!("the screens on {} failed", console.path.display());
            }
        })?);
    }
    Ok(Screens { stop, threads })
}

impl Screens {
    /// Ends the screens, which empties the consoles and sets them as they were. A shell that runs there is ended.
    pub fn stop(self) {
        drop(self);
    }

    /// Waits until the screens end by themselves: the sender of the view is gone.
    pub fn wait(mut self) {
        for thread in self.threads.drain(..) {
            // A defect there was reported there.
            let _ = thread.join();
        }
    }
}

impl Drop for Screens {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let until = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < until && !self.threads.iter().all(JoinHandle::is_finished) {
            std::thread::sleep(STOP_POLL);
        }
    }
}
