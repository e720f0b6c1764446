//! The NBD client against QEMU's server, against ours, and against servers that lie.
#![expect(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "tests run on 64 bits with small numbers; unwrap is how a test fails"
)]

#[path = "nbd_client/fake.rs"]
mod fake;

mod overlay_support;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fake::{Fake, Script};
use image::formats::{OpenOptions, open_location};
use image::nbd::client::{Client, ClientOptions};
use image::{ByteStore, ErrorKind, ExtentKind, Overlay, extents};
use overlay_support::{PatternSource, have, run};

/// A qemu-nbd of ours, ended by its id.
struct QemuNbd {
    child: Child,
    uri: String,
}

impl QemuNbd {
    fn serve(dir: &Path, args: &[&str], image: &str) -> Self {
        let socket = dir.join("qemu-nbd.sock");
        let child = Command::new("qemu-nbd")
            .args(["-t", "-r", "-e", "8", "-x", "disk", "-k"])
            .arg(&socket)
            .args(args)
            .arg(image)
            .current_dir(dir)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while !socket.exists() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        let uri = format!("nbd+unix:///disk?socket={}", socket.display());
        Self { child, uri }
    }
}

impl Drop for QemuNbd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn client(uri: &str) -> image::Result<Client> {
    let options = ClientOptions {
        timeout: Duration::from_millis(1500),
        connections: 3,
    };
    Client::connect(&uri.parse().unwrap(), &options)
}

/// A raw disk of 24 MiB with data at odd places.
fn raw_disk(dir: &Path) -> (PathBuf, Vec<u8>) {
    let path = dir.join("disk.raw");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(24 << 20).unwrap();
    for (at, len, byte) in [
        (0u64, 512usize, 1u8),
        (1 << 20, 3 << 20, 2),
        ((20 << 20) + 4096, 12288, 3),
        ((24 << 20) - 512, 512, 4),
    ] {
        file.write_all_at(&vec![byte; len], at).unwrap();
    }
    let bytes = std::fs::read(&path).unwrap();
    (path, bytes)
}

#[test]
fn raw_and_qcow2_are_read_over_qemu_nbd() {
    if !have("qemu-nbd") || !have("qemu-img") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (raw, bytes) = raw_disk(dir.path());
    let qcow2 = dir.path().join("disk.qcow2");
    let (raw, qcow2) = (raw.to_str().unwrap(), qcow2.to_str().unwrap());
    let (ok, text) = run("qemu-img", &["convert", "-c", "-O", "qcow2", raw, qcow2]);
    assert!(ok, "{text}");
    // The container over the wire and opened by us, and the disk that QEMU makes of it.
    for (args, image, format) in [
        (&["-f", "raw"][..], raw, "raw"),
        (&["-f", "raw"], qcow2, "qcow2"),
        (&["-f", "qcow2"], qcow2, "raw"),
    ] {
        let server = QemuNbd::serve(dir.path(), args, image);
        let disk = open_location(&server.uri, &OpenOptions::default()).unwrap();
        assert_eq!(disk.format(), format);
        assert_eq!(disk.virtual_size(), bytes.len() as u64);
        let mut read = vec![0xff; bytes.len()];
        disk.read_at(&mut read, 0).unwrap();
        assert!(read == bytes, "{format} of {image}");
        let mut zero = 0;
        for extent in extents(disk.as_ref(), 0..disk.virtual_size()) {
            let extent = extent.unwrap();
            let range = extent.offset as usize..(extent.offset + extent.len) as usize;
            if extent.kind != ExtentKind::Data {
                assert!(bytes[range].iter().all(|&byte| byte == 0), "{extent:?}");
                zero += extent.len;
            }
        }
        assert!(zero > 18 << 20, "{zero} bytes are known to be zero");
        // Many readers at once, odd offsets, several connections.
        std::thread::scope(|scope| {
            for thread in 0..6u64 {
                let (disk, bytes) = (&disk, &bytes);
                scope.spawn(move || {
                    for step in 0..60u64 {
                        let at = ((step * 1_234_567 + thread * 777_777) % (23 << 20)) as usize;
                        let mut buf = vec![0; 1 + (step as usize * 977) % 70_000];
                        disk.read_at(&mut buf, at as u64).unwrap();
                        assert!(buf == bytes[at..at + buf.len()], "{at}");
                    }
                });
            }
        });
        std::fs::remove_file(dir.path().join("qemu-nbd.sock")).unwrap();
    }
}

#[test]
fn an_export_that_is_not_there_and_a_server_that_goes_are_named() {
    if !have("qemu-nbd") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (raw, _) = raw_disk(dir.path());
    let mut server = QemuNbd::serve(dir.path(), &["-f", "raw"], raw.to_str().unwrap());
    let error = client(&server.uri.replace("/disk", "/other")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Missing, "{error}");
    let client = client(&server.uri).unwrap();
    assert!(client.knows_allocation());
    let mut buf = [0; 512];
    client.read_exact_at(&mut buf, 0).unwrap();
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    assert!(client.read_exact_at(&mut buf, 0).is_err());
    // It is not connected to anew: another disk may answer.
    let again = client.read_exact_at(&mut buf, 0).unwrap_err();
    assert!(again.to_string().contains("broke before"), "{again}");
    let gone = Client::open("nbd+unix:///x?socket=/nonexistent/socket").unwrap_err();
    assert!(gone.to_string().contains("connecting"), "{gone}");
}

#[test]
fn our_own_server_is_read_with_unaligned_requests_on_several_connections() {
    let dir = tempfile::tempdir().unwrap();
    let overlay =
        Arc::new(Overlay::new(Arc::new(PatternSource::full(8 << 20)), dir.path()).unwrap());
    overlay.zero(1 << 20, 4 << 20).unwrap();
    let socket = dir.path().join("nbd.sock");
    let exports = vec![("sda".to_owned(), Arc::clone(&overlay))];
    let server = image::nbd::Server::start(&socket, exports).unwrap();
    let client = client(&format!("nbd+unix:///sda?socket={}", socket.display())).unwrap();
    assert!(client.is_multi_conn());
    let mut whole = vec![0; 8 << 20];
    image::BlockSource::read_at(&*overlay, &mut whole, 0).unwrap();
    for (at, len) in [
        (0, 8 << 20),
        (1, 1),
        (511, 2),
        (512, 512),
        (1000, 70_000),
        (513, 1),
    ] {
        let mut buf = vec![0; len];
        client.read_exact_at(&mut buf, at as u64).unwrap();
        assert!(buf == whole[at..at + len], "{at} {len}");
    }
    assert_eq!(client.run_at(1 << 20, u64::MAX >> 1), (false, 4 << 20));
    assert!(client.run_at(0, 1 << 20).0);
    drop(client);
    server.stop();
}

/// Serves `script` to one connection and returns what the client makes of it.
fn against(script: Script) -> image::Result<Vec<u8>> {
    let fake = Fake::start(script);
    let client = client(&fake.uri)?;
    let mut buf = vec![0xaa; 4096];
    client.read_exact_at(&mut buf, 8192)?;
    Ok(buf)
}

#[test]
fn an_honest_fake_is_understood_however_it_cuts_its_replies() {
    let honest = |script: Script| against(script).unwrap();
    assert_eq!(honest(Script::default()), vec![7; 4096]);
    let chunks = [
        fake::data(8192 + 2048, 2048, 9, false),
        fake::hole(8192, 1024, false),
        fake::data(8192 + 1024, 1024, 8, true),
    ];
    let bytes = honest(Script {
        structured: true,
        reply: Some(chunks.concat()),
        ..Script::default()
    });
    assert!(bytes[..1024].iter().all(|&b| b == 0) && bytes[1024] == 8 && bytes[4095] == 9);
    assert_eq!(
        honest(Script {
            without_go: true,
            ..Script::default()
        }),
        vec![7; 4096]
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table, a lie a row")]
fn a_server_that_lies_is_refused_with_a_reason() {
    let base = Script::default;
    let structured = |reply: Vec<u8>| Script {
        structured: true,
        reply: Some(reply),
        ..base()
    };
    let cases: Vec<(&str, Script, &str)> = vec![
        (
            "other service",
            Script {
                greeting: Some(b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec()),
                ..base()
            },
            "expected an NBD server",
        ),
        (
            "oldstyle",
            Script {
                greeting: Some(
                    [
                        &b"NBDMAGIC"[..],
                        &0x0000_4202_8186_1253u64.to_be_bytes(),
                        &[0; 140],
                    ]
                    .concat(),
                ),
                ..base()
            },
            "oldstyle",
        ),
        (
            "not fixed",
            Script {
                greeting: Some(b"NBDMAGICIHAVEOPT\0\0".to_vec()),
                ..base()
            },
            "fixed newstyle",
        ),
        (
            "endless size",
            Script {
                size: u64::MAX,
                ..base()
            },
            "beyond",
        ),
        (
            "block of 3",
            Script {
                blocks: Some([3, 4096, 1 << 20]),
                ..base()
            },
            "block",
        ),
        (
            "block of 1 GiB",
            Script {
                blocks: Some([1 << 30, 1 << 30, 1 << 30]),
                ..base()
            },
            "block",
        ),
        (
            "largest below least",
            Script {
                blocks: Some([4096, 4096, 512]),
                ..base()
            },
            "block",
        ),
        (
            "torn blocks",
            Script {
                size: (1 << 20) + 1,
                blocks: Some([512, 512, 512]),
                ..base()
            },
            "whole blocks",
        ),
        (
            "no size",
            Script {
                no_export_info: true,
                ..base()
            },
            "size of the export",
        ),
        (
            "option bomb",
            Script {
                option_reply_len: Some(u32::MAX),
                ..base()
            },
            "at most",
        ),
        (
            "tls",
            Script {
                refuse: Some((1 << 31) + 5),
                ..base()
            },
            "TLS",
        ),
        (
            "error",
            Script {
                reply: Some(fake::simple(5, &[])),
                ..base()
            },
            "EIO",
        ),
        (
            "other cookie",
            Script {
                reply: Some(fake::simple_to(99, 0, &[7; 4096])),
                ..base()
            },
            "request",
        ),
        (
            "silence",
            Script {
                reply: Some(vec![]),
                stall: true,
                ..base()
            },
            "in time",
        ),
        (
            "hangs up",
            Script {
                reply: Some(fake::simple(0, &[7; 100])),
                ..base()
            },
            "closed",
        ),
        ("gap", structured(fake::data(8192, 4095, 1, true)), "gaps"),
        (
            "before",
            structured(fake::data(8191, 4096, 1, true)),
            "once",
        ),
        (
            "behind",
            structured(fake::data(8192, 4097, 1, true)),
            "once",
        ),
        (
            "twice",
            structured(
                [
                    fake::data(8192, 4096, 1, false),
                    fake::data(8192, 1, 1, true),
                ]
                .concat(),
            ),
            "once",
        ),
        (
            "hole of 4 GiB",
            structured(fake::hole(8192, u32::MAX, true)),
            "once",
        ),
        (
            "chunk of 4 GiB",
            structured(fake::chunk(1, u32::MAX, &[], true)),
            "once",
        ),
        (
            "empty chunks",
            structured(fake::chunk(0, 0, &[], false).repeat(20_000)),
            "chunk",
        ),
        (
            "unknown chunk",
            structured(fake::chunk(77, 4, &[0; 4], true)),
            "type 0x4d",
        ),
        (
            "error chunk",
            structured(fake::error(28, "no \x1b[31mspace", true)),
            "ENOSPC",
        ),
        (
            "error bomb",
            structured(fake::chunk((1 << 15) + 1, u32::MAX, &[], true)),
            "type",
        ),
    ];
    for (name, script, word) in cases {
        let started = Instant::now();
        let error = against(script).expect_err(name);
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        let text = format!("{error}: {}", cause.unwrap_or_default());
        assert!(text.contains(word), "{name}: {text}");
        assert!(!text.contains('\x1b'), "{name}: {text:?}");
        assert!(started.elapsed() < Duration::from_secs(10), "{name}");
    }
}

#[test]
fn random_bytes_in_place_of_replies_end_in_an_error() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    for round in 0..300 {
        let mut reply = [
            fake::data(8192, 2048, 1, false),
            fake::hole(8192 + 2048, 2048, true),
        ]
        .concat();
        for _ in 0..=next() % 4 {
            let at = (next() % reply.len() as u64) as usize;
            reply[at] ^= 1 << (next() % 8);
        }
        reply.truncate(reply.len() - (next() % 3 * 100) as usize);
        let script = Script {
            structured: true,
            reply: Some(reply),
            ..Script::default()
        };
        if let Ok(bytes) = against(script) {
            // Only data bytes were hit: what came is what was sent.
            assert!(bytes[2048..].iter().all(|&b| b == 0), "round {round}");
        }
    }
}
