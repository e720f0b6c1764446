//! A raw NBD client, and a server with two exports for it.
#![allow(dead_code, reason = "every test binary uses another part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests are tests"
)]
#![allow(unreachable_pub, reason = "shared by test binaries")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use image::Overlay;
use image::nbd::Server;

use crate::overlay_support::PatternSource;

pub const SIZE: u64 = 64 << 20;
pub const FLAGS: u16 = 1 | 4 | 8 | 32 | 64 | 256 | 2048;

pub struct Rig {
    pub dir: tempfile::TempDir,
    pub overlay: Arc<Overlay>,
    pub server: Server,
}

pub fn rig_of(source: PatternSource) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let overlay = Arc::new(Overlay::new(Arc::new(source), dir.path()).unwrap());
    let other = Arc::new(Overlay::new(Arc::new(PatternSource::full(1024)), dir.path()).unwrap());
    let exports = vec![
        ("disk0".to_owned(), overlay.clone()),
        ("disk1".to_owned(), other),
    ];
    let server = Server::start(&dir.path().join("nbd.sock"), exports).unwrap();
    Rig {
        dir,
        overlay,
        server,
    }
}

pub fn rig() -> Rig {
    rig_of(PatternSource::full(SIZE))
}

/// A client that says what it is told to.
pub struct Client(pub UnixStream);

impl Client {
    pub fn connect(rig: &Rig) -> Self {
        let stream = UnixStream::connect(rig.server.socket()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self(stream)
    }

    /// After greeting and client flags.
    pub fn greeted(rig: &Rig) -> Self {
        let mut client = Self::connect(rig);
        assert_eq!(client.take(18), *b"NBDMAGICIHAVEOPT\0\x03");
        client.say(&3u32.to_be_bytes());
        client
    }

    /// In transmission on disk0.
    pub fn ready(rig: &Rig, structured: bool) -> Self {
        let mut client = Self::greeted(rig);
        if structured {
            client.option(8, &[]);
            assert_eq!(client.option_reply(), (8, 1, vec![]));
            let mut data = name("disk0");
            data.extend(1u32.to_be_bytes());
            data.extend(name("base:allocation"));
            client.option(10, &data);
            let (_, kind, context) = client.option_reply();
            assert_eq!((kind, &context[4..]), (4, &b"base:allocation"[..]));
            assert_eq!(client.option_reply(), (10, 1, vec![]));
        }
        client.option(7, &go("disk0"));
        while client.option_reply().1 != 1 {}
        client
    }

    pub fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    pub fn take(&mut self, len: usize) -> Vec<u8> {
        let mut buf = vec![0; len];
        self.0.read_exact(&mut buf).unwrap();
        buf
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take(8).try_into().unwrap())
    }

    pub fn option(&mut self, option: u32, data: &[u8]) {
        let mut message = b"IHAVEOPT".to_vec();
        message.extend(option.to_be_bytes());
        message.extend((data.len() as u32).to_be_bytes());
        message.extend(data);
        self.say(&message);
    }

    pub fn option_reply(&mut self) -> (u32, u32, Vec<u8>) {
        assert_eq!(self.u64(), 0x0003_e889_0455_65a9);
        let (option, kind, len) = (self.u32(), self.u32(), self.u32());
        (option, kind, self.take(len as usize))
    }

    pub fn request(&mut self, flags: u16, kind: u16, cookie: u64, offset: u64, len: u32) {
        self.say(&request(flags, kind, cookie, offset, len));
    }

    /// Error and cookie of a simple reply.
    pub fn simple(&mut self) -> (u32, u64) {
        assert_eq!(self.u32(), 0x6744_6698);
        (self.u32(), self.u64())
    }

    /// Kind, cookie and payload of the only chunk of a structured reply.
    pub fn chunk(&mut self) -> (u16, u64, Vec<u8>) {
        assert_eq!(self.u32(), 0x668e_33ef);
        let head = self.u32();
        assert_eq!(head >> 16, 1, "the only chunk");
        let (cookie, len) = (self.u64(), self.u32());
        (head as u16, cookie, self.take(len as usize))
    }

    /// True when the server has closed the connection, whatever it sent before.
    pub fn dropped(mut self) -> bool {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

pub fn request(flags: u16, kind: u16, cookie: u64, offset: u64, len: u32) -> Vec<u8> {
    let mut message = 0x2560_9513u32.to_be_bytes().to_vec();
    message.extend(flags.to_be_bytes());
    message.extend(kind.to_be_bytes());
    message.extend(cookie.to_be_bytes());
    message.extend(offset.to_be_bytes());
    message.extend(len.to_be_bytes());
    message
}

pub fn name(text: &str) -> Vec<u8> {
    let mut data = (text.len() as u32).to_be_bytes().to_vec();
    data.extend(text.as_bytes());
    data
}

pub fn go(export: &str) -> Vec<u8> {
    let mut data = name(export);
    data.extend([0, 0]);
    data
}
