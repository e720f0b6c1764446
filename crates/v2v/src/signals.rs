//! Ctrl-C, SIGTERM, SIGHUP: the first asks the conversion to stop and tidy up, the second ends the program.

use std::io;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use types::CancelToken;

/// Listens from now on.
pub(crate) fn listen(cancel: &CancelToken) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let cancel = cancel.clone();
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in &mut signals {
                if cancel.is_cancelled() {
                    // Scratch files are in one folder that the next run removes; QEMU dies with its parent.
                    signal_hook::low_level::exit(128 + signal);
                }
                cancel.cancel();
            }
        })?;
    Ok(())
}
