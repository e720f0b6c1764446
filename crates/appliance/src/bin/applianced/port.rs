//! The virtio-serial port as an asynchronous byte stream (kernel drivers/char/virtio_console.c; virtio 1.2, section
//! 5.3 "Console Device").
//!
//! Reading gives 0 bytes whenever the host's end is closed, also before it has been opened for the first time, so
//! the port is used only once `poll` no longer says HUP.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::tool::Tool;

/// Made by the driver of such ports.
const CLASS: &str = "/sys/class/virtio-ports";
/// Name that the host gives the port.
const NAME: &str = "org.v2v.appliance.0";
/// How long the port may take to appear and to be opened by the host.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// The connection to the host.
///
/// It is not one of tokio's own streams (a pipe would fit otherwise), because they take a short read for the last:
/// the port gives one virtio buffer a read, however many more are waiting, and then no event would ever come.
pub(crate) struct Port(AsyncFd<File>);

/// Waits until the port exists and the host is there; gives the connection.
pub(crate) fn open() -> Result<Port> {
    if !Path::new(CLASS).exists() {
        let modprobe =
            Tool::new("/usr/sbin/modprobe").args(["--all", "virtio_pci", "virtio_console"]);
        modprobe.run()?.success()?;
    }
    let since = Instant::now();
    let path = loop {
        if let Some(path) = find()? {
            break path;
        }
        pause(since).with_context(|| format!("no virtio-serial port is called {NAME}"))?;
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(i32::try_from(rustix::fs::OFlags::NONBLOCK.bits())?)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    while is_hung_up(&file)? {
        pause(since).context("the host did not open its end")?;
    }
    #[expect(
        deprecated,
        reason = "its replacement is unsafe, for types whose descriptor is not their own; a File's is"
    )]
    let fd = AsyncFd::new(file)?;
    Ok(Port(fd))
}

fn find() -> Result<Option<PathBuf>> {
    let Ok(entries) = fs::read_dir(CLASS) else {
        return Ok(None);
    };
    for entry in entries {
        let entry = entry?;
        let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        let node = PathBuf::from("/dev").join(entry.file_name());
        if name.trim() == NAME && node.exists() {
            return Ok(Some(node));
        }
    }
    Ok(None)
}

fn pause(since: Instant) -> Result<()> {
    if since.elapsed() > PATIENCE {
        bail!("waited {} s", PATIENCE.as_secs());
    }
    std::thread::sleep(PAUSE);
    Ok(())
}

fn is_hung_up(file: &File) -> io::Result<bool> {
    let mut fds = [PollFd::new(file, PollFlags::OUT)];
    poll(
        &mut fds,
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    )?;
    Ok(fds[0].revents().contains(PollFlags::HUP))
}

impl AsyncRead for Port {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            let unfilled = buf.initialize_unfilled();
            if let Ok(result) = ready.try_io(|fd| fd.get_ref().read(unfilled)) {
                buf.advance(result?);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Port {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(cx))?;
            let closed = ready.ready().is_write_closed();
            match ready.try_io(|fd| fd.get_ref().write(bytes)) {
                Ok(result) => return Poll::Ready(result),
                // A port whose host is gone says for ever that it would block, and poll that it is ready.
                Err(_would_block) if closed => {
                    return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
                }
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
