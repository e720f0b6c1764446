//! The NBD server, byte by byte: what it answers, and what it does with clients that do not keep to the protocol.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    reason = "a test fails by panicking; hosts are 64-bit"
)]

mod overlay_support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use image::nbd::Server;
use image::{BlockSource, ErrorKind, Overlay, OverlayStats};
use overlay_support::{PatternSource, Rng, pattern};
use proptest::prelude::*;

const SIZE: u64 = 64 << 20;
const FLAGS: u16 = 1 | 4 | 8 | 32 | 64 | 256 | 2048;

struct Rig {
    dir: tempfile::TempDir,
    overlay: Arc<Overlay>,
    server: Server,
}

fn rig_of(source: PatternSource) -> Rig {
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

fn rig() -> Rig {
    rig_of(PatternSource::full(SIZE))
}

/// A client that says what it is told to.
struct Client(UnixStream);

impl Client {
    fn connect(rig: &Rig) -> Self {
        let stream = UnixStream::connect(rig.server.socket()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self(stream)
    }

    /// After greeting and client flags.
    fn greeted(rig: &Rig) -> Self {
        let mut client = Self::connect(rig);
        assert_eq!(client.take(18), *b"NBDMAGICIHAVEOPT\0\x03");
        client.say(&3u32.to_be_bytes());
        client
    }

    /// In transmission on disk0.
    fn ready(rig: &Rig, structured: bool) -> Self {
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

    fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        let mut buf = vec![0; len];
        self.0.read_exact(&mut buf).unwrap();
        buf
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take(8).try_into().unwrap())
    }

    fn option(&mut self, option: u32, data: &[u8]) {
        let mut message = b"IHAVEOPT".to_vec();
        message.extend(option.to_be_bytes());
        message.extend((data.len() as u32).to_be_bytes());
        message.extend(data);
        self.say(&message);
    }

    fn option_reply(&mut self) -> (u32, u32, Vec<u8>) {
        assert_eq!(self.u64(), 0x0003_e889_0455_65a9);
        let (option, kind, len) = (self.u32(), self.u32(), self.u32());
        (option, kind, self.take(len as usize))
    }

    fn request(&mut self, flags: u16, kind: u16, cookie: u64, offset: u64, len: u32) {
        self.say(&request(flags, kind, cookie, offset, len));
    }

    /// Error and cookie of a simple reply.
    fn simple(&mut self) -> (u32, u64) {
        assert_eq!(self.u32(), 0x6744_6698);
        (self.u32(), self.u64())
    }

    /// Kind, cookie and payload of the only chunk of a structured reply.
    fn chunk(&mut self) -> (u16, u64, Vec<u8>) {
        assert_eq!(self.u32(), 0x668e_33ef);
        let head = self.u32();
        assert_eq!(head >> 16, 1, "the only chunk");
        let (cookie, len) = (self.u64(), self.u32());
        (head as u16, cookie, self.take(len as usize))
    }

    /// True when the server has closed the connection, whatever it sent before.
    fn was_dropped(mut self) -> bool {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

fn request(flags: u16, kind: u16, cookie: u64, offset: u64, len: u32) -> Vec<u8> {
    let mut message = 0x2560_9513u32.to_be_bytes().to_vec();
    message.extend(flags.to_be_bytes());
    message.extend(kind.to_be_bytes());
    message.extend(cookie.to_be_bytes());
    message.extend(offset.to_be_bytes());
    message.extend(len.to_be_bytes());
    message
}

fn name(text: &str) -> Vec<u8> {
    let mut data = (text.len() as u32).to_be_bytes().to_vec();
    data.extend(text.as_bytes());
    data
}

fn go(export: &str) -> Vec<u8> {
    let mut data = name(export);
    data.extend([0, 0]);
    data
}

#[test]
fn export_name_with_and_without_padding() {
    let rig = rig();
    for (client_flags, padding) in [(3u32, 0), (1, 124), (0, 124)] {
        let mut client = Client::connect(&rig);
        client.take(18);
        client.say(&client_flags.to_be_bytes());
        client.option(1, b"disk1");
        assert_eq!(client.u64(), 1024);
        assert_eq!(client.take(2), FLAGS.to_be_bytes());
        assert!(client.take(padding).iter().all(|&b| b == 0));
        client.request(0, 0, 5, 0, 512);
        assert_eq!(client.simple(), (0, 5));
        assert_eq!(client.take(512)[3], pattern(3));
        client.request(0, 2, 6, 0, 0);
        assert!(client.was_dropped());
    }
}

#[test]
fn options_are_answered() {
    let rig = rig();
    let mut client = Client::greeted(&rig);
    client.option(3, &[]);
    assert_eq!(client.option_reply(), (3, 2, name("disk0")));
    assert_eq!(client.option_reply(), (3, 2, name("disk1")));
    assert_eq!(client.option_reply(), (3, 1, vec![]));

    for (option, data, want) in [
        (3, vec![1], 0x8000_0003),                         // LIST with data
        (5, vec![], 0x8000_0001),                          // STARTTLS
        (11, vec![], 0x8000_0001),                         // EXTENDED_HEADERS
        (99, vec![7; 100], 0x8000_0001),                   // unknown
        (6, go("disk9"), 0x8000_0006),                     // INFO, unknown name
        (7, go("disk9"), 0x8000_0006),                     // GO, unknown name
        (6, vec![0, 0], 0x8000_0003),                      // INFO, short
        (6, vec![255; 8], 0x8000_0003),                    // INFO, length past the end
        (6, [go("disk0"), vec![1]].concat(), 0x8000_0003), // INFO, count does not match
        (9, go("disk0"), 0x8000_0003), // meta contexts before structured replies
        (8, vec![0], 0x8000_0003),     // STRUCTURED_REPLY with data
        (99, vec![0; 100_000], 0x8000_0009), // too big
    ] {
        client.option(option, &data);
        let (of, kind, _) = client.option_reply();
        assert_eq!(
            (of, kind),
            (option, want),
            "option {option} with {} bytes",
            data.len()
        );
    }

    let info = |client: &mut Client, option: u32, export: &str, flags: u16, size: u64| {
        client.option(option, &go(export));
        let mut want = vec![0, 0];
        want.extend(size.to_be_bytes());
        want.extend(flags.to_be_bytes());
        assert_eq!(client.option_reply(), (option, 3, want));
        let want = [
            &[0, 3][..],
            &512u32.to_be_bytes(),
            &4096u32.to_be_bytes(),
            &(32u32 << 20).to_be_bytes(),
        ];
        assert_eq!(client.option_reply(), (option, 3, want.concat()));
        assert_eq!(client.option_reply(), (option, 1, vec![]));
    };
    info(&mut client, 6, "", FLAGS, SIZE);
    client.option(8, &[]);
    client.option_reply();
    info(&mut client, 6, "disk1", FLAGS | 128, 1024);

    // base:allocation: listed, not selected by another namespace, bound to its export.
    for (option, query, found) in [
        (9, "base:", true),
        (10, "base:", false),
        (10, "qemu:x", false),
        (10, "base:allocation", true),
    ] {
        client.option(
            option,
            &[name("disk1"), 1u32.to_be_bytes().to_vec(), name(query)].concat(),
        );
        let (_, kind, data) = client.option_reply();
        assert_eq!(
            kind == 4 && &data[4..] == b"base:allocation",
            found,
            "{query}"
        );
        assert!(!found || client.option_reply().1 == 1);
    }
    client.option(
        10,
        &[name("disk1"), u32::MAX.to_be_bytes().to_vec()].concat(),
    );
    assert_eq!(client.option_reply().1, 0x8000_0003);
    info(&mut client, 7, "disk0", FLAGS | 128, SIZE);
    client.request(0, 7, 1, 0, 512);
    let (kind, cookie, payload) = client.chunk();
    assert_eq!(
        (kind, cookie, &payload[..4]),
        (0x8001, 1, &22u32.to_be_bytes()[..])
    );

    let mut client = Client::greeted(&rig);
    client.option(2, &[]);
    assert_eq!(client.option_reply(), (2, 1, vec![]));
    assert!(client.was_dropped());
}

#[test]
fn commands_do_what_they_say() {
    let rig = rig();
    for structured in [false, true] {
        let mut client = Client::ready(&rig, structured);
        let read = |client: &mut Client, offset: u64, len: u32| -> Vec<u8> {
            client.request(0, 0, 77, offset, len);
            if !structured {
                assert_eq!(client.simple(), (0, 77));
                return client.take(len as usize);
            }
            let (kind, cookie, payload) = client.chunk();
            assert_eq!((cookie, &payload[..8]), (77, &offset.to_be_bytes()[..]));
            match kind {
                1 => payload[8..].to_vec(),
                2 => vec![0; u32::from_be_bytes(payload[8..12].try_into().unwrap()) as usize],
                other => panic!("chunk {other}"),
            }
        };
        let mut bytes = request(1, 1, 42, 4096, 8192); // WRITE with FUA
        bytes.extend([0x5a; 8192]);
        client.say(&bytes);
        assert_eq!(client.simple(), (0, 42));
        assert_eq!(read(&mut client, 4096, 8192), [0x5a; 8192]);
        assert_eq!(read(&mut client, 4095, 3), [pattern(4095), 0x5a, 0x5a]);
        client.request(0, 6, 43, 4096, 1024); // WRITE_ZEROES
        assert_eq!(client.simple(), (0, 43));
        client.request(2 | 16, 6, 44, 5120, 1024); // WRITE_ZEROES, NO_HOLE, FAST_ZERO
        assert_eq!(client.simple(), (0, 44));
        client.request(0, 4, 45, 6144, 2048); // TRIM
        assert_eq!(client.simple(), (0, 45));
        client.request(0, 3, 46, 0, 0); // FLUSH
        assert_eq!(client.simple(), (0, 46));
        assert_eq!(read(&mut client, 4096, 4096), [0; 4096]);
        assert_eq!(read(&mut client, 8192, 512), [0x5a; 512]);
        let last = SIZE - 512;
        assert_eq!(read(&mut client, last, 512)[511], pattern(SIZE - 1));
        assert_eq!(read(&mut client, 1 << 20, 32 << 20).len(), 32 << 20);
    }
    assert_eq!(
        rig.overlay.stats(),
        OverlayStats {
            written_bytes: 4096,
            zeroed_bytes: 4096
        }
    );
    assert!(rig.server.first_error().is_none());
}

#[test]
fn block_status_follows_the_extents() {
    let rig = rig();
    rig.overlay.zero(1 << 20, 1 << 20).unwrap();
    let mut client = Client::ready(&rig, true);
    let status = |client: &mut Client, flags: u16, offset: u64, len: u32| -> Vec<(u32, u32)> {
        client.request(flags, 7, 9, offset, len);
        let (kind, cookie, payload) = client.chunk();
        assert_eq!((kind, cookie), (5, 9));
        let words: Vec<u32> = payload
            .as_chunks::<4>()
            .0
            .iter()
            .map(|word| u32::from_be_bytes(*word))
            .collect();
        words[1..]
            .as_chunks::<2>()
            .0
            .iter()
            .map(|[len, flags]| (*len, *flags))
            .collect()
    };
    assert_eq!(
        status(&mut client, 0, 0, 4 << 20),
        [(1 << 20, 0), (1 << 20, 3), (2 << 20, 0)]
    );
    assert_eq!(
        status(&mut client, 8, 4096, 4 << 20),
        [((1 << 20) - 4096, 0)]
    );
    assert_eq!(status(&mut client, 0, 1 << 20, 512), [(512, 3)]);
    // More blocks than one answer holds: the client asks again.
    for i in 0..3000 {
        rig.overlay.zero((8 << 20) + i * 1024, 512).unwrap();
    }
    assert_eq!(status(&mut client, 0, 8 << 20, 8 << 20).len(), 1024);
}

#[test]
fn what_cannot_be_is_refused_and_the_session_goes_on() {
    let rig = rig();
    for structured in [false, true] {
        let mut client = Client::ready(&rig, structured);
        let mut refused = |bytes: Vec<u8>, want: u32, what: &str| {
            client.say(&bytes);
            let (error, cookie) = if structured {
                let (kind, cookie, payload) = client.chunk();
                assert_eq!(kind, 0x8001, "{what}");
                let text = usize::from(u16::from_be_bytes([payload[4], payload[5]]));
                assert!(text > 0 && payload.len() == 6 + text);
                (u32::from_be_bytes(payload[..4].try_into().unwrap()), cookie)
            } else {
                client.simple()
            };
            assert_eq!((error, cookie), (want, 0xabcd), "{what}");
        };
        let ask = |flags, kind, offset, len| request(flags, kind, 0xabcd, offset, len);
        refused(ask(0, 0, SIZE, 1), 22, "read behind the end");
        refused(ask(0, 0, u64::MAX, u32::MAX), 22, "read that overflows");
        refused(ask(0, 0, 0, (32 << 20) + 1), 22, "read above the maximum");
        refused(ask(0, 0, 0, u32::MAX), 22, "read of 4 GiB");
        refused(
            [ask(0, 1, SIZE - 1, 2), vec![0; 2]].concat(),
            28,
            "write over the end",
        );
        refused(ask(0, 6, SIZE - 1, 2), 28, "zeroes over the end");
        refused(ask(0, 4, u64::MAX, 2), 22, "trim over the end");
        refused(ask(0, 5, 0, 512), 22, "CACHE");
        refused(ask(0, 1000, 0, 512), 22, "unknown command");
        refused(ask(0x8000, 0, 0, 512), 22, "unknown flag");
        refused(
            [ask(8, 1, 0, 2), vec![0; 2]].concat(),
            22,
            "flag of another command",
        );
        refused(ask(0, 3, 512, 0), 22, "flush with an offset");
        refused(
            ask(0, 7, 0, 0),
            22,
            "block status of nothing or not negotiated",
        );
        client.request(0, 4, 1, 0, 0);
        assert_eq!(client.simple(), (0, 1));
    }
    assert_eq!(rig.overlay.stats(), OverlayStats::default());
    assert!(
        rig.server.first_error().is_none(),
        "the client's mistakes are not ours"
    );
}

#[test]
fn clients_that_break_the_framing_are_dropped() {
    let rig = rig();
    let mut client = Client::connect(&rig);
    client.take(18);
    client.say(&4u32.to_be_bytes());
    assert!(client.was_dropped(), "unknown client flag");

    let mut client = Client::greeted(&rig);
    client.say(b"GET / HTTP/1.1\r\n\r\n");
    assert!(client.was_dropped(), "no option magic");

    let mut client = Client::greeted(&rig);
    client.say(b"IHAVEOPT\0\0\0\x07\xff\xff\xff\xff");
    assert!(client.was_dropped(), "option of 4 GiB");

    let mut client = Client::greeted(&rig);
    client.option(1, b"nothing of this name");
    assert!(client.was_dropped(), "unknown export by EXPORT_NAME");

    let mut client = Client::greeted(&rig);
    for _ in 0..300 {
        let mut message = b"IHAVEOPT".to_vec();
        message.extend([0, 0, 0, 77, 0, 0, 0, 0]);
        if client.0.write_all(&message).is_err() {
            break;
        }
    }
    assert!(client.was_dropped(), "options without end");

    let mut client = Client::ready(&rig, true);
    client.say(&[0x11; 28]);
    assert!(client.was_dropped(), "no request magic");

    for len in [u32::MAX, (32 << 20) + 1] {
        let mut client = Client::ready(&rig, false);
        client.request(0, 1, 1, 0, len);
        assert!(client.was_dropped(), "write of {len} bytes");
    }
    // A payload that never comes.
    let mut client = Client::ready(&rig, false);
    client.request(0, 1, 1, 0, 4096);
    client.0.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(client.was_dropped());
    assert_eq!(rig.overlay.stats(), OverlayStats::default());
    // Others are served as before.
    let mut client = Client::ready(&rig, false);
    client.request(0, 0, 1, 0, 512);
    assert_eq!(client.simple(), (0, 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever is sent, the server lives, and serves the next client.
    #[test]
    fn garbage_is_survived(
        stage in 0..4,
        garbage in prop::collection::vec(any::<u8>(), 0..400),
        option in 0u32..13, kind in 0u16..9, flags in 0u16..32, offset in any::<u64>(), len in 0u32..100_000_000,
    ) {
        let rig = rig_of(PatternSource::full(1 << 20));
        let mut client = match stage {
            0 => Client::connect(&rig),
            1 | 2 => Client::greeted(&rig),
            _ => Client::ready(&rig, garbage.len() % 2 == 0),
        };
        let head = match stage {
            2 => [b"IHAVEOPT", &option.to_be_bytes()[..], &(garbage.len() as u32).to_be_bytes()].concat(),
            3 => request(flags, kind, 1, offset % (2 << 20), len % (64 << 20)),
            _ => vec![],
        };
        client.0.write_all(&[head, garbage].concat()).ok();
        client.0.shutdown(std::net::Shutdown::Write).ok();
        prop_assert!(client.was_dropped());
        let mut client = Client::ready(&rig, true);
        client.request(0, 3, 1, 0, 0);
        prop_assert_eq!(client.simple(), (0, 1));
    }
}

/// Requests of one connection overlap, replies come as they are ready, and each carries its own data.
#[test]
fn pipelined_requests_are_all_answered() {
    let rig = rig();
    let mut client = Client::ready(&rig, true);
    let mut sender = Client(client.0.try_clone().unwrap());
    let mut rng = Rng(4711);
    let reads: Vec<(u64, u32)> = (0..500)
        .map(|_| {
            let len = rng.below(200_000) as u32 + 1;
            (rng.below(SIZE - u64::from(len)), len)
        })
        .collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (cookie, (offset, len)) in reads.iter().enumerate() {
                sender.request(0, 0, cookie as u64, *offset, *len);
            }
        });
        let mut seen = vec![false; reads.len()];
        for _ in &reads {
            let (kind, cookie, payload) = client.chunk();
            let (offset, len) = reads[cookie as usize];
            assert_eq!((kind, &payload[..8]), (1, &offset.to_be_bytes()[..]));
            assert_eq!(payload.len(), len as usize + 8);
            for i in [0, len as usize / 2, len as usize - 1] {
                assert_eq!(payload[8 + i], pattern(offset + i as u64));
            }
            assert!(
                !std::mem::replace(&mut seen[cookie as usize], true),
                "answered twice"
            );
        }
    });
}

#[test]
fn the_cause_of_an_io_error_is_kept() {
    let mut source = PatternSource::full(SIZE);
    source.bad = Some(8 << 20..9 << 20);
    let rig = rig_of(source);
    let mut client = Client::ready(&rig, false);
    client.request(0, 0, 1, (8 << 20) - 512, 1024);
    assert_eq!(client.simple(), (5, 1));
    client.request(0, 0, 2, 0, 512);
    assert_eq!(client.simple(), (0, 2));
    let error = rig.server.first_error().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(
        error.to_string(),
        "base.vmdk: at 0x800000: grain inflates short"
    );

    let mut client = Client::ready(&rig, true);
    client.request(0, 0, 3, 8 << 20, 512);
    let (kind, _, payload) = client.chunk();
    assert_eq!(kind, 0x8001);
    assert!(String::from_utf8_lossy(&payload[6..]).contains("grain inflates short"));
}

#[test]
fn a_full_scratch_file_is_enospc() {
    let dir = tempfile::tempdir().unwrap();
    let full = File::options()
        .read(true)
        .write(true)
        .open("/dev/full")
        .unwrap();
    let overlay = Arc::new(Overlay::with_scratch(
        Arc::new(PatternSource::full(SIZE)),
        full,
    ));
    let server = Server::start(
        &dir.path().join("s"),
        vec![("disk0".into(), overlay.clone())],
    )
    .unwrap();
    let rig = Rig {
        dir,
        overlay,
        server,
    };
    let mut client = Client::ready(&rig, false);
    client.say(&[request(0, 1, 1, 0, 512), vec![1; 512]].concat());
    assert_eq!(client.simple(), (28, 1));
    let error = rig.server.first_error().unwrap();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert_eq!(
        error.to_string(),
        "disk0: at 0x0: writing to the scratch file"
    );
}

/// A source with a bug.
#[derive(Debug)]
struct Panics;

impl BlockSource for Panics {
    fn virtual_size(&self) -> u64 {
        SIZE
    }

    fn format(&self) -> &'static str {
        "raw"
    }

    fn read_at(&self, _: &mut [u8], _: u64) -> image::Result<()> {
        panic!("on purpose, in a test")
    }

    fn extent_at(&self, offset: u64, len: u64) -> image::Result<image::Extent> {
        Ok(image::Extent {
            offset,
            len,
            kind: image::ExtentKind::Data,
        })
    }
}

#[test]
fn a_panic_of_a_reader_is_an_io_error() {
    let dir = tempfile::tempdir().unwrap();
    let overlay = Arc::new(Overlay::new(Arc::new(Panics), dir.path()).unwrap());
    let server = Server::start(
        &dir.path().join("s"),
        vec![("disk0".into(), overlay.clone())],
    )
    .unwrap();
    let rig = Rig {
        dir,
        overlay,
        server,
    };
    let mut client = Client::ready(&rig, false);
    for cookie in 0..5 {
        client.request(0, 0, cookie, 0, 512);
        assert_eq!(client.simple(), (5, cookie));
    }
    assert!(
        rig.server
            .first_error()
            .unwrap()
            .to_string()
            .contains("panicked")
    );
}

#[test]
fn the_socket_is_private_and_goes_with_the_server() {
    let rig = rig();
    let socket = rig.server.socket().to_owned();
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let overlay = rig.overlay.clone();
    let error = Server::start(&socket, vec![("disk0".into(), overlay.clone())]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(
        socket.exists(),
        "a server that did not start removes nothing"
    );

    // Clients at every stage; none keeps the server from stopping.
    let idle = Client::connect(&rig);
    let greeted = Client::greeted(&rig);
    let ready = Client::ready(&rig, true);
    let mut stuck = Client::ready(&rig, true);
    for _ in 0..8 {
        stuck.request(0, 0, 1, 0, 32 << 20); // replies that nobody reads
    }
    let started = Instant::now();
    rig.server.stop();
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    assert!(!socket.exists());
    for client in [idle, greeted, ready, stuck] {
        assert!(client.was_dropped());
    }
    assert_eq!(
        Arc::strong_count(&overlay),
        2,
        "threads are gone: the rig and this test hold it"
    );
    // The path is free again, and dropping is stopping.
    drop(Server::start(&socket, vec![("disk0".into(), overlay)]).unwrap());
    assert!(!socket.exists());
    assert_eq!(std::fs::read_dir(rig.dir.path()).unwrap().count(), 0);
}

#[test]
fn too_long_a_path_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let error = Server::start(&dir.path().join("x".repeat(200)), vec![]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}
