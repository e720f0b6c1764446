//! The NBD server and clients that do not keep to the protocol, sources that panic: nothing of it stops the server.
#![expect(
    clippy::cast_possible_truncation,
    reason = "tests run on 64 bits, with small numbers"
)]

mod nbd_support;
mod overlay_support;

use std::io::Write;
use std::sync::Arc;

use image::nbd::Server;
use image::{BlockSource, Overlay, OverlayStats};
use nbd_support::*;
use overlay_support::PatternSource;
use proptest::prelude::*;

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
    assert!(client.dropped(), "unknown client flag");

    let mut client = Client::greeted(&rig);
    client.say(b"GET / HTTP/1.1\r\n\r\n");
    assert!(client.dropped(), "no option magic");

    let mut client = Client::greeted(&rig);
    client.say(b"IHAVEOPT\0\0\0\x07\xff\xff\xff\xff");
    assert!(client.dropped(), "option of 4 GiB");

    let mut client = Client::greeted(&rig);
    client.option(1, b"nothing of this name");
    assert!(client.dropped(), "unknown export by EXPORT_NAME");

    let mut client = Client::greeted(&rig);
    for _ in 0..300 {
        let mut message = b"IHAVEOPT".to_vec();
        message.extend([0, 0, 0, 77, 0, 0, 0, 0]);
        if client.0.write_all(&message).is_err() {
            break;
        }
    }
    assert!(client.dropped(), "options without end");

    let mut client = Client::ready(&rig, true);
    client.say(&[0x11; 28]);
    assert!(client.dropped(), "no request magic");

    for len in [u32::MAX, (32 << 20) + 1] {
        let mut client = Client::ready(&rig, false);
        client.request(0, 1, 1, 0, len);
        assert!(client.dropped(), "write of {len} bytes");
    }
    // A payload that never comes.
    let mut client = Client::ready(&rig, false);
    client.request(0, 1, 1, 0, 4096);
    client.0.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(client.dropped());
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
        prop_assert!(client.dropped());
        let mut client = Client::ready(&rig, true);
        client.request(0, 3, 1, 0, 0);
        prop_assert_eq!(client.simple(), (0, 1));
    }
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
