//! The NBD server, byte by byte: what it answers.
#![expect(
    clippy::cast_possible_truncation,
    reason = "tests run on 64 bits, with small numbers"
)]

mod nbd_support;
mod overlay_support;

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use image::nbd::Server;
use image::{ErrorKind, Overlay, OverlayStats};
use nbd_support::*;
use overlay_support::{PatternSource, Rng, pattern};

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
        assert!(client.dropped());
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
    assert!(client.dropped());
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
        assert!(client.dropped());
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
