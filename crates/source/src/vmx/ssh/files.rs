//! Files at the other end of an SFTP session, and which of them may be opened.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use image::{ByteStore, Error, ErrorKind, FileRange, Neighbours, Result};

use super::connection::Connection;
use super::packet::{OPEN_READ, Reply, kind, status};

/// Bytes of one READ: what every OpenSSH server gives at once.
const READ_LEN: usize = 64 << 10;
/// READs that one reader has in flight: 2 MiB, enough for 1 Gbit/s at 16 ms.
const READS_IN_FLIGHT: usize = 32;

/// An open remote file.
struct RemoteFile {
    connection: Arc<Connection>,
    handle: Vec<u8>,
    len: u64,
}

impl fmt::Debug for RemoteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteFile({} bytes)", self.len)
    }
}

/// A piece of a buffer that is asked for or still to be asked for.
#[derive(Clone, Copy, Debug)]
struct Piece {
    start: usize,
    len: usize,
}

impl ByteStore for RemoteFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let mut requests = self.connection.requests();
        let mut in_flight: Vec<(u32, Piece)> = Vec::with_capacity(READS_IN_FLIGHT);
        // What a server left out of a short reply is asked for again, before anything new.
        let mut again: Vec<Piece> = Vec::new();
        let mut asked = 0;
        loop {
            while in_flight.len() < READS_IN_FLIGHT {
                let piece = if let Some(piece) = again.pop() {
                    piece
                } else if asked < buf.len() {
                    let len = READ_LEN.min(buf.len() - asked);
                    asked += len;
                    Piece {
                        start: asked - len,
                        len,
                    }
                } else {
                    break;
                };
                let len = u32::try_from(piece.len).unwrap_or(u32::MAX);
                let id = requests.send(kind::READ, |request| {
                    request
                        .string(&self.handle)
                        .long(offset + piece.start as u64)
                        .number(len)
                })?;
                in_flight.push((id, piece));
            }
            if in_flight.is_empty() {
                return Ok(());
            }
            let (id, mut reply) = requests.receive()?;
            let Some(index) = in_flight.iter().position(|(asked, _)| *asked == id) else {
                return Err(Error::corrupt(
                    "expected the reply to a READ, found another",
                ));
            };
            let (_, piece) = in_flight.swap_remove(index);
            let got = data(&mut reply, buf, piece)?;
            if got < piece.len {
                again.push(Piece {
                    start: piece.start + got,
                    len: piece.len - got,
                });
            }
        }
    }
}

/// Copies the data of a reply; returns their length, which is not 0.
fn data(reply: &mut Reply, buf: &mut [u8], piece: Piece) -> Result<usize> {
    if reply.kind != kind::DATA {
        return Err(refusal(reply, "reading")?);
    }
    let bytes = reply.string()?;
    let place = buf
        .get_mut(piece.start..piece.start + piece.len)
        .and_then(|place| place.get_mut(..bytes.len()));
    match place {
        Some(place) if !bytes.is_empty() => {
            place.copy_from_slice(bytes);
            Ok(bytes.len())
        }
        _ => Err(Error::corrupt(format!(
            "expected 1 to {} bytes in reply to a READ, found {}",
            piece.len,
            bytes.len()
        ))),
    }
}

/// The error that a reply stands for which is not what was asked for.
fn refusal(reply: &mut Reply, doing: &str) -> Result<Error> {
    if reply.kind != kind::STATUS {
        return Err(Error::corrupt(format!(
            "{doing}: the SFTP server sent a packet of the unexpected type {}",
            reply.kind
        )));
    }
    let code = reply.number()?;
    let text = String::from_utf8_lossy(reply.string()?).into_owned();
    Ok(match code {
        status::EOF => Error::io(doing, std::io::ErrorKind::UnexpectedEof.into()),
        status::NO_SUCH_FILE => Error::new(ErrorKind::Missing, format!("{doing}: {text}")),
        _ => Error::new(
            ErrorKind::Io,
            format!(
                "{doing}: the server said {text:?} (status {code}); hint: a machine that runs keeps its disks locked"
            ),
        ),
    })
}

impl Drop for RemoteFile {
    fn drop(&mut self) {
        // Nobody waits for the answer.
        let _ = self
            .connection
            .requests()
            .send(kind::CLOSE, |request| request.string(&self.handle));
    }
}

/// Files of one host below one folder.
#[derive(Debug)]
pub(super) struct RemoteFolder {
    connection: Arc<Connection>,
    /// `ssh://host`: what labels begin with.
    front: String,
    /// The folder, links resolved.
    base: PathBuf,
    /// Only the folder itself, not what is below it.
    flat: bool,
}

impl RemoteFolder {
    /// The files below `base`; with `flat`, those right in it.
    pub(super) fn new(
        connection: Arc<Connection>,
        front: String,
        base: &Path,
        flat: bool,
    ) -> Result<Self> {
        let base = real_path(&connection, base)?;
        Ok(Self {
            connection,
            front,
            base,
            flat,
        })
    }

    /// The file at this path; `None` when there is none.
    pub(super) fn at(&self, path: &Path) -> Result<Option<FileRange>> {
        let path = match real_path(&self.connection, path) {
            Ok(path) => path,
            Err(e) if e.kind() == ErrorKind::Missing => return Ok(None),
            Err(e) => return Err(e),
        };
        let parent = path.parent().unwrap_or(&path);
        if !(parent == self.base || (!self.flat && parent.starts_with(&self.base))) {
            return Err(Error::unsupported(format!(
                "the file {path:?} lies outside {:?}; hint: allow its folder with --base-dir",
                self.base
            )));
        }
        let label = format!("{}{}", self.front, path.display());
        let opened = open(&self.connection, &path).map_err(|e| e.in_file(&label));
        match opened {
            Ok(file) => Ok(file.map(|file| FileRange::from_store(Arc::new(file), label))),
            Err(e) if e.kind() == ErrorKind::Missing => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn folder_of(&self, child: &str) -> PathBuf {
        let child = child.strip_prefix(&self.front).unwrap_or_default();
        Path::new(child).parent().unwrap_or(&self.base).to_owned()
    }
}

impl Neighbours for RemoteFolder {
    fn open(&self, child: &str, name: &Path) -> Result<Option<FileRange>> {
        let beside = self.folder_of(child).join(name);
        match self.at(&beside) {
            // A guess at a subfolder that leads elsewhere is no file beside the child.
            Err(e) if e.kind() == ErrorKind::Unsupported => Ok(None),
            Ok(None) if !self.flat => self.at(&self.base.join(name)),
            other => other,
        }
    }

    fn open_anywhere(&self, child: &str, name: &Path) -> Result<Option<FileRange>> {
        self.at(&self.folder_of(child).join(name))
    }
}

/// The path with its links resolved, as the server sees it.
fn real_path(connection: &Connection, path: &Path) -> Result<PathBuf> {
    let bytes = path.as_os_str().as_encoded_bytes();
    let mut reply = connection.ask(kind::REALPATH, |request| request.string(bytes))?;
    if reply.kind != kind::NAME || reply.number()? == 0 {
        return Err(refusal(&mut reply, "resolving the path")?.in_path(path));
    }
    let found = String::from_utf8(reply.string()?.to_vec())
        .map_err(|_| Error::unsupported("the path on the server is no UTF-8").in_path(path))?;
    let found = PathBuf::from(found);
    let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    if !found.is_absolute() || !found.components().all(plain) {
        return Err(Error::corrupt(format!(
            "expected an absolute path from the server, found {found:?}"
        )));
    }
    Ok(found)
}

/// Opens a file for reading; `None` for a folder.
fn open(connection: &Arc<Connection>, path: &Path) -> Result<Option<RemoteFile>> {
    let bytes = path.as_os_str().as_encoded_bytes();
    let mut reply = connection.ask(kind::OPEN, |request| {
        request.string(bytes).number(OPEN_READ).number(0)
    })?;
    if reply.kind != kind::HANDLE {
        return Err(refusal(&mut reply, "opening")?);
    }
    let mut file = RemoteFile {
        connection: Arc::clone(connection),
        handle: reply.handle()?,
        len: 0,
    };
    let mut reply = connection.ask(kind::FSTAT, |request| request.string(&file.handle))?;
    if reply.kind != kind::ATTRS {
        return Err(refusal(&mut reply, "reading its status")?);
    }
    let attributes = reply.attributes()?;
    file.len = attributes
        .size
        .ok_or_else(|| Error::corrupt("expected the size of the file, found none"))?;
    Ok((!attributes.is_dir).then_some(file))
}
