//! Where words go: to the host as log lines of the operation at work, else to the serial console, which the host
//! keeps for the case that the appliance dies.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Takes a log line to the host.
pub(crate) type Listener = Box<dyn Fn(String) + Send>;

static LISTENER: Mutex<Option<Listener>> = Mutex::new(None);

/// Writes one line to the serial console.
pub(crate) fn line(text: &str) {
    // Nobody is left to be told about a console that does not work.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Log lines go to `listener` until the guard is dropped.
pub(crate) fn listen(listener: Listener) -> Listening {
    *LISTENER.lock().unwrap_or_else(PoisonError::into_inner) = Some(listener);
    Listening
}

/// See [`listen`].
pub(crate) struct Listening;

impl Drop for Listening {
    fn drop(&mut self) {
        *LISTENER.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Only our own crates are logged: lines of the HTTP/2 library about sending lines would never end.
pub(crate) fn start_logging() {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("off,applianced=debug,guest=debug"))
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .with_writer(Lines)
        .init();
}

struct Lines;

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(Vec::new())
    }
}

/// Collects one event's text; it goes out when the event is complete.
struct Line(Vec<u8>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.0).trim().to_owned();
        if text.is_empty() {
            return;
        }
        match &*LISTENER.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(listener) => listener(text),
            None => line(&text),
        }
    }
}
