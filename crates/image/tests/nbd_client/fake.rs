//! A server that says what a test wants, once, on a unix socket.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;
use std::time::Duration;

const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;

/// How the server behaves; the default is honest, with simple replies.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) greeting: Option<Vec<u8>>,
    pub(crate) structured: bool,
    pub(crate) size: u64,
    pub(crate) blocks: Option<[u32; 3]>,
    pub(crate) no_export_info: bool,
    pub(crate) option_reply_len: Option<u32>,
    pub(crate) refuse: Option<u32>,
    pub(crate) without_go: bool,
    /// Bytes sent for the first request; the cookie of the client's first request is 1.
    pub(crate) reply: Option<Vec<u8>>,
    pub(crate) stall: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            greeting: None,
            structured: false,
            size: 1 << 20,
            blocks: None,
            no_export_info: false,
            option_reply_len: None,
            refuse: None,
            without_go: false,
            reply: None,
            stall: false,
        }
    }
}

pub(crate) struct Fake {
    pub(crate) uri: String,
    thread: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Fake {
    pub(crate) fn start(script: Script) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let thread = std::thread::spawn(move || {
            if let Ok((stream, _)) = listener.accept() {
                let _ = converse(stream, &script);
            }
        });
        Self {
            uri: format!("nbd+unix:///x?socket={}", socket.display()),
            thread: Some(thread),
            _dir: dir,
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn converse(mut stream: UnixStream, script: &Script) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    match &script.greeting {
        Some(greeting) => stream.write_all(greeting)?,
        None => stream.write_all(b"NBDMAGICIHAVEOPT\0\x03")?,
    }
    let mut flags = [0; 4];
    stream.read_exact(&mut flags)?;
    loop {
        let mut head = [0; 16];
        stream.read_exact(&mut head)?;
        let option = u32::from_be_bytes(head[8..12].try_into().unwrap());
        let len = u32::from_be_bytes(head[12..].try_into().unwrap());
        let mut data = vec![0; len as usize];
        stream.read_exact(&mut data)?;
        let mut answer = |kind: u32, data: &[u8]| {
            let mut bytes = REPLY_MAGIC.to_be_bytes().to_vec();
            bytes.extend(option.to_be_bytes());
            bytes.extend(kind.to_be_bytes());
            let len = script.option_reply_len.unwrap_or(data.len() as u32);
            bytes.extend(len.to_be_bytes());
            bytes.extend(data);
            stream.write_all(&bytes)
        };
        match option {
            1 => {
                let mut bytes = script.size.to_be_bytes().to_vec();
                bytes.extend(1u16.to_be_bytes());
                stream.write_all(&bytes)?;
                break;
            }
            7 if script.without_go => answer((1 << 31) + 1, &[])?,
            7 => {
                if let Some(refusal) = script.refuse {
                    answer(refusal, b"no")?;
                    continue;
                }
                if !script.no_export_info {
                    let size = script.size.to_be_bytes();
                    answer(3, &[&[0, 0][..], &size, &[0, 1]].concat())?;
                }
                if let Some(blocks) = script.blocks {
                    let words = blocks.map(u32::to_be_bytes).concat();
                    answer(3, &[&[0, 3][..], &words].concat())?;
                }
                answer(1, &[])?;
                break;
            }
            8 if script.structured => answer(1, &[])?,
            _ => answer((1 << 31) + 1, &[])?,
        }
    }
    let mut request = [0; 28];
    stream.read_exact(&mut request)?;
    match &script.reply {
        Some(reply) => stream.write_all(reply)?,
        None => stream.write_all(&simple(0, &[7; 4096]))?,
    }
    if script.stall {
        // Until the client has had enough.
        let _ = stream.read(&mut [0; 1]);
    }
    Ok(())
}

pub(crate) fn simple(errno: u32, data: &[u8]) -> Vec<u8> {
    simple_to(1, errno, data)
}

pub(crate) fn simple_to(cookie: u64, errno: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = 0x6744_6698u32.to_be_bytes().to_vec();
    bytes.extend(errno.to_be_bytes());
    bytes.extend(cookie.to_be_bytes());
    bytes.extend(data);
    bytes
}

/// A structured chunk that claims `len` bytes of payload.
pub(crate) fn chunk(kind: u16, len: u32, payload: &[u8], done: bool) -> Vec<u8> {
    let mut bytes = 0x668e_33efu32.to_be_bytes().to_vec();
    bytes.extend(u16::from(done).to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend(1u64.to_be_bytes());
    bytes.extend(len.to_be_bytes());
    bytes.extend(payload);
    if payload.is_empty() && kind == 1 {
        bytes.extend(8192u64.to_be_bytes());
    }
    bytes
}

pub(crate) fn data(offset: u64, len: usize, byte: u8, done: bool) -> Vec<u8> {
    let payload = [&offset.to_be_bytes()[..], &vec![byte; len]].concat();
    chunk(1, payload.len() as u32, &payload, done)
}

pub(crate) fn hole(offset: u64, len: u32, done: bool) -> Vec<u8> {
    let payload = [&offset.to_be_bytes()[..], &len.to_be_bytes()].concat();
    chunk(2, 12, &payload, done)
}

pub(crate) fn error(errno: u32, message: &str, done: bool) -> Vec<u8> {
    let len = message.len() as u16;
    let payload = [
        &errno.to_be_bytes()[..],
        &len.to_be_bytes(),
        message.as_bytes(),
    ]
    .concat();
    chunk((1 << 15) + 1, payload.len() as u32, &payload, done)
}
