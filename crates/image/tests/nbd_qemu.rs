//! The NBD server with QEMU's clients: what the appliance's disks are in the end.
#![expect(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "tests run on 64 bits with small numbers; unwrap is how a test fails"
)]

mod overlay_support;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use image::nbd::Server;
use image::{BlockSource, ErrorKind, ExtentKind, FileRange, Overlay, OverlayStats};
use overlay_support::{FileSource, PatternSource, extent_list, have, run, uri};

const MIB: u64 = 1 << 20;

fn serve(source: impl BlockSource + 'static, dir: &Path) -> (Arc<Overlay>, Server, String) {
    let overlay = Arc::new(Overlay::new(Arc::new(source), dir).unwrap());
    let server = Server::start(&dir.join("nbd"), vec![("sda".into(), overlay.clone())]).unwrap();
    let uri = uri(server.socket(), "sda");
    (overlay, server, uri)
}

fn whole(overlay: &Overlay) -> Vec<u8> {
    let mut buf = vec![0; usize::try_from(overlay.virtual_size()).unwrap()];
    overlay.read_at(&mut buf, 0).unwrap();
    buf
}

/// qemu-io with these commands; it must succeed and find every pattern.
fn qemu_io(uri: &str, commands: &[&str]) -> String {
    let mut args = vec!["-f", "raw", "-d", "unmap"];
    for command in commands {
        args.extend(["-c", command]);
    }
    args.push(uri);
    let (ok, text) = run("qemu-io", &args);
    assert!(ok && !text.contains("failed"), "{text}");
    text
}

#[test]
fn qemu_img_sees_and_copies_the_disk() {
    if !have("qemu-img") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pieces = [
        (3 * MIB + 512, 0),
        (5 * MIB, 1),
        (MIB / 2, 0),
        (20 * MIB, 2),
        (MIB, 0),
        (512, 1),
        (4096, 0),
    ];
    let size = pieces
        .iter()
        .map(|p| p.0)
        .sum::<u64>()
        .next_multiple_of(512);
    let (overlay, server, uri) = serve(PatternSource::new(size, extent_list(&pieces)), dir.path());
    overlay.zero(MIB, 300_000).unwrap();
    overlay.write_at(&[0x77; 70_000], 6 * MIB - 100).unwrap();

    let (ok, text) = run("qemu-img", &["info", "--output=json", &uri]);
    assert!(
        ok && text.contains(&format!("\"virtual-size\": {size}")),
        "{text}"
    );
    let out = dir.path().join("out.raw");
    let (ok, text) = run(
        "qemu-img",
        &[
            "convert",
            "-f",
            "raw",
            "-O",
            "raw",
            &uri,
            out.to_str().unwrap(),
        ],
    );
    assert!(ok, "{text}");
    assert!(fs::read(&out).unwrap() == whole(&overlay));
    let (ok, text) = run(
        "qemu-img",
        &[
            "compare",
            "-f",
            "raw",
            "-F",
            "raw",
            &uri,
            out.to_str().unwrap(),
        ],
    );
    assert!(ok && text.contains("Images are identical"), "{text}");

    // The map that QEMU reads is the overlay's.
    let (ok, text) = run("qemu-img", &["map", "-f", "raw", "--output=json", &uri]);
    assert!(ok, "{text}");
    let zero_runs = text.matches("\"zero\": true").count();
    let want = image::extents(&*overlay, 0..size)
        .map(|e| e.unwrap().kind.reads_zero())
        .fold((0, false), |(n, last), zero| {
            (n + usize::from(zero && !last), zero)
        })
        .0;
    assert_eq!(zero_runs, want, "{text}");
    assert!(server.first_error().is_none());
}

#[test]
fn qemu_io_writes_discards_and_zeroes() {
    if !have("qemu-io") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (overlay, server, uri) = serve(PatternSource::full(64 * MIB), dir.path());
    let mut model = whole(&overlay);
    let text = qemu_io(
        &uri,
        &[
            "write -P 0x5a 4k 64k",
            "write -f -P 0xa5 1M 12M",
            "discard 16M 8M",
            "write -z 24M 1M",
            "write -z -u 25M 1M",
            "write -P 0x11 18M 512",
            "flush",
            "read -P 0x5a 4k 64k",
            "read -P 0xa5 1M 12M",
            "read -P 0 16M 2M",
            "read -P 0x11 18M 512",
            "read -P 0 18874880 7864832",
            "aio_write -P 0x21 40M 2M",
            "aio_write -P 0x22 42M 2M",
            "aio_flush",
            "read -P 0x21 40M 2M",
        ],
    );
    let mut fill =
        |start: u64, len: u64, byte: u8| model[start as usize..][..len as usize].fill(byte);
    fill(4096, 65536, 0x5a);
    fill(MIB, 12 * MIB, 0xa5);
    fill(16 * MIB, 10 * MIB, 0);
    fill(18 * MIB, 512, 0x11);
    fill(40 * MIB, 2 * MIB, 0x21);
    fill(42 * MIB, 2 * MIB, 0x22);
    assert!(whole(&overlay) == model, "{text}");
    let written_bytes = 65536 + 12 * MIB + 512 + 4 * MIB;
    assert_eq!(
        overlay.stats(),
        OverlayStats {
            written_bytes,
            zeroed_bytes: 10 * MIB - 512
        }
    );
    let extent = overlay.extent_at(16 * MIB, 64 * MIB).unwrap();
    assert_eq!((extent.len, extent.kind), (2 * MIB, ExtentKind::Zero));
    assert!(server.first_error().is_none());
}

#[test]
fn several_clients_write_at_once() {
    if !have("qemu-io") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (overlay, _server, uri) = serve(PatternSource::full(32 * MIB), dir.path());
    std::thread::scope(|scope| {
        for client in 0..3u64 {
            let uri = &uri;
            scope.spawn(move || {
                let commands: Vec<String> = (0..32)
                    .map(|i| {
                        let offset = i * MIB + client * 300 * 1024;
                        format!("write -P {} {offset} 300k", 10 * (client + 1) + i % 7)
                    })
                    .collect();
                qemu_io(
                    uri,
                    &commands.iter().map(String::as_str).collect::<Vec<_>>(),
                );
            });
        }
    });
    for (offset, byte) in whole(&overlay).into_iter().enumerate() {
        let (i, within) = (offset as u64 / MIB, offset as u64 % MIB / 1024);
        let want = match within / 300 {
            client @ 0..3 => (10 * (client + 1) + i % 7) as u8,
            _ => overlay_support::pattern(offset as u64),
        };
        assert_eq!(byte, want, "at {offset:#x}");
    }
}

#[test]
fn two_tebibytes_of_nothing_take_no_time() {
    if !have("qemu-img") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let size = 2u64 << 40;
    let (overlay, _server, uri) = serve(PatternSource::new(size, vec![]), dir.path());
    qemu_io(&uri, &["write -P 7 1T 64k", "discard 0 1G"]);
    let out = dir.path().join("out.qcow2");
    let started = Instant::now();
    let (ok, text) = run(
        "qemu-img",
        &[
            "convert",
            "-f",
            "raw",
            "-O",
            "qcow2",
            &uri,
            out.to_str().unwrap(),
        ],
    );
    assert!(ok, "{text}");
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(
        overlay.stats(),
        OverlayStats {
            written_bytes: 65536,
            zeroed_bytes: 1 << 30
        }
    );
}

#[test]
fn qemu_is_told_why_and_so_are_we() {
    if !have("qemu-img") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut source = PatternSource::full(8 * MIB);
    source.bad = Some(5 * MIB..5 * MIB + 1);
    let (_overlay, server, uri) = serve(source, dir.path());
    let out = dir.path().join("out.raw");
    let (ok, text) = run(
        "qemu-img",
        &[
            "convert",
            "-f",
            "raw",
            "-O",
            "raw",
            &uri,
            out.to_str().unwrap(),
        ],
    );
    assert!(!ok && text.contains("Input/output error"), "{text}");
    assert_eq!(
        server.first_error().unwrap().to_string(),
        "base.vmdk: at 0x500000: grain inflates short"
    );
    server.stop();

    let full = File::options()
        .read(true)
        .write(true)
        .open("/dev/full")
        .unwrap();
    let overlay = Arc::new(Overlay::with_scratch(
        Arc::new(PatternSource::full(MIB)),
        full,
    ));
    let server = Server::start(&dir.path().join("full"), vec![("sda".into(), overlay)]).unwrap();
    let uri = overlay_support::uri(server.socket(), "sda");
    let (_, text) = run("qemu-io", &["-f", "raw", "-c", "write 0 4k", &uri]);
    assert!(text.contains("No space left on device"), "{text}");
    assert_eq!(server.first_error().unwrap().kind(), ErrorKind::NoSpace);
}

/// `cargo test -p image --release --test nbd_qemu -- --ignored --nocapture`: how fast QEMU reads an export.
#[test]
#[ignore = "a measurement"]
fn throughput() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("base.raw");
    let mut file = File::create(&path).unwrap();
    let block: Vec<u8> = (0..MIB).map(overlay_support::pattern).collect();
    let blocks = 2048;
    for _ in 0..blocks {
        file.write_all(&block).unwrap();
    }
    let (_overlay, _server, uri) = serve(FileSource(FileRange::open(&path).unwrap()), dir.path());
    let direct = path.to_str().unwrap();
    for (what, source) in [
        ("file", direct),
        ("nbd", &uri),
        ("file", direct),
        ("nbd", &uri),
    ] {
        let started = Instant::now();
        // A benchmark of reads: the null driver takes what is written.
        let target = format!("driver=null-co,size={}", blocks * MIB);
        let args = [
            "convert",
            "-n",
            "-W",
            "-m",
            "8",
            "-f",
            "raw",
            "--target-image-opts",
            source,
            &target,
        ];
        let (ok, text) = run("qemu-img", &args);
        assert!(ok, "{text}");
        let rate = (blocks * MIB) as f64 / started.elapsed().as_secs_f64() / 1e6;
        println!("qemu-img convert {what} -> null-co: {rate:.0} MB/s");
    }
    let (ok, text) = run(
        "qemu-img",
        &[
            "bench", "-f", "raw", "-c", "100000", "-d", "16", "-s", "4096", &uri,
        ],
    );
    assert!(ok, "{text}");
    println!(
        "qemu-img bench, 100000 reads of 4 KiB, 16 at a time: {}",
        text.lines().last().unwrap_or("")
    );
}
