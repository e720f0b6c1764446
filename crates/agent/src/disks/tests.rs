//! The pool and careful reading, over disks that fail on demand.

use std::collections::BTreeSet;
use std::time::Instant;

use tokio_stream::StreamExt;
use wire::chunk;
use wire::session::{Chunk, ProofReply, ProofRequest};

use super::*;

const MIB: u64 = 1 << 20;

/// A disk in memory whose sectors can be damaged.
#[derive(Clone, Default)]
pub(crate) struct Fake(Arc<FakeState>);

#[derive(Default)]
struct FakeState {
    data: Vec<u8>,
    bad: Mutex<BTreeSet<u64>>,
    /// Reads that met a bad sector.
    failures: AtomicU32,
    reads: Mutex<Vec<u64>>,
    delay: Mutex<std::time::Duration>,
    gone: std::sync::atomic::AtomicBool,
}

impl Medium for Fake {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let state = &self.0;
        state.reads.lock().unwrap().push(offset);
        if state.gone.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(
                rustix::io::Errno::NODEV.raw_os_error(),
            ));
        }
        std::thread::sleep(*state.delay.lock().unwrap());
        let end = offset + buf.len() as u64;
        if state
            .bad
            .lock()
            .unwrap()
            .range(offset / 512..end.div_ceil(512))
            .next()
            .is_some()
        {
            state.failures.fetch_add(1, Ordering::Relaxed);
            // What a failing read leaves behind must not get through.
            buf.fill(0xee);
            return Err(io::Error::from_raw_os_error(
                rustix::io::Errno::IO.raw_os_error(),
            ));
        }
        let at = usize::try_from(offset).unwrap();
        buf.copy_from_slice(&state.data[at..at + buf.len()]);
        Ok(())
    }
}

impl Fake {
    pub(crate) fn new(len: u64) -> Self {
        let data = (0..len).map(|at| u8::try_from((at / 7 + at / 65_536) % 251).unwrap());
        let mut data: Vec<u8> = data.collect();
        // Some blocks of zeroes.
        for block in data.chunks_mut(65536).skip(3).step_by(5) {
            block.fill(0);
        }
        Self(Arc::new(FakeState {
            data,
            ..FakeState::default()
        }))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0.data
    }

    pub(crate) fn damage(&self, sectors: impl IntoIterator<Item = u64>) {
        self.0.bad.lock().unwrap().extend(sectors);
    }

    fn heal(&self) {
        self.0.bad.lock().unwrap().clear();
    }

    fn failures(&self) -> u32 {
        self.0.failures.load(Ordering::Relaxed)
    }

    pub(crate) fn disk(&self) -> Disk {
        let spec = DiskSpec {
            name: "fake".into(),
            path: PathBuf::from("/nowhere"),
            virtual_size: self.0.data.len() as u64,
            logical_sector_size: 512,
            physical_sector_size: 4096,
        };
        let patience = Patience {
            pause: std::time::Duration::from_micros(10),
            ..Patience::default()
        };
        Disk::new(spec, Box::new(self.clone()), patience)
    }

    fn expected(&self, range: Range<u64>) -> Vec<u8> {
        let at = |offset: u64| usize::try_from(offset).unwrap();
        let mut bytes = self.0.data[at(range.start)..at(range.end)].to_vec();
        for &sector in self.0.bad.lock().unwrap().iter() {
            let start = sector * 512;
            if range.contains(&start) {
                bytes[at(start - range.start)..][..512].fill(0);
            }
        }
        bytes
    }
}

fn sectors(list: &[Range<u64>]) -> Vec<Range<u64>> {
    list.iter().map(|r| r.start * 512..r.end * 512).collect()
}

#[test]
fn the_map_of_bad_sectors_is_exact_and_all_else_is_read() {
    let fake = Fake::new(4 * MIB);
    fake.damage([2048 + 5, 2048 + 6, 2048 + 300, 2048 + 2047, 4096]);
    let disk = fake.disk();
    let mut buf = Vec::new();
    let bad = disk.read_chunk(MIB, 1 << 20, false, &mut buf).unwrap();
    assert_eq!(bad, sectors(&[2053..2055, 2348..2349, 4095..4096]));
    assert_eq!(buf, fake.expected(MIB..2 * MIB));
    // What was found bad is not tried again; what is next to it is read.
    let failures = fake.failures();
    let again = disk.read_chunk(MIB, 1 << 20, false, &mut buf).unwrap();
    assert_eq!((again, fake.failures()), (bad, failures));
    assert_eq!(buf, fake.expected(MIB..2 * MIB));
    // Unless that is asked for; then what healed is there.
    fake.heal();
    assert_eq!(disk.read_chunk(MIB, 1 << 20, true, &mut buf).unwrap(), []);
    assert_eq!(buf, fake.expected(MIB..2 * MIB));
    assert_eq!(disk.bad().total(), 0);
}

#[test]
fn a_sector_is_tried_three_times() {
    let fake = Fake::new(MIB);
    fake.damage([100]);
    let disk = fake.disk();
    disk.read_chunk(0, 1 << 20, false, &mut Vec::new()).unwrap();
    let at = |wanted: u64| {
        fake.0
            .reads
            .lock()
            .unwrap()
            .iter()
            .filter(|&&at| at == wanted)
            .count()
    };
    // From the front, and it is the last one from the back.
    assert_eq!(at(100 * 512), 3);
    assert_eq!(at(0), 3 + 1 + 1);
}

#[test]
fn a_chunk_of_nothing_but_bad_sectors_and_scattered_ones_are_exact_too() {
    let fake = Fake::new(2 * MIB);
    fake.damage(0..2048);
    fake.damage((2048..4096).filter(|n| n % 3 == 1));
    let disk = fake.disk();
    let mut buf = Vec::new();
    assert_eq!(
        disk.read_chunk(0, 1 << 20, false, &mut buf).unwrap(),
        [0..MIB]
    );
    disk.read_chunk(MIB, 1 << 20, false, &mut buf).unwrap();
    assert_eq!(buf, fake.expected(MIB..2 * MIB));
    assert_eq!(disk.bad().total(), MIB + 682 * 512);
}

#[test]
fn a_dying_disk_still_moves() {
    let fake = Fake::new(2 * MIB);
    fake.damage(0..4096);
    *fake.0.delay.lock().unwrap() = std::time::Duration::from_millis(60);
    let mut disk = fake.disk();
    disk.patience.budget = std::time::Duration::from_millis(500);
    let begun = Instant::now();
    let bad = disk.read_chunk(0, 1 << 20, false, &mut Vec::new()).unwrap();
    assert_eq!(bad, [0..MIB]);
    assert!(begun.elapsed().as_millis() < 2000, "{:?}", begun.elapsed());
}

#[test]
fn reads_outside_are_refused_and_a_disk_that_is_gone_says_so() {
    let fake = Fake::new(2 * MIB + 512);
    let disk = fake.disk();
    let mut buf = Vec::new();
    for (offset, len) in [
        (0, 0),
        (2 * MIB, 1024),
        (512, 65536),
        (0, 512),
        (u64::MAX - 65535, 65536),
        (0, 2 << 20),
    ] {
        let error = disk.read_chunk(offset, len, false, &mut buf).unwrap_err();
        assert!(matches!(error, ReadError::OutOfRange { .. }), "{error}");
    }
    assert_eq!(disk.read_chunk(2 * MIB, 512, false, &mut buf).unwrap(), []);
    assert_eq!(buf, &fake.bytes()[2 << 20..]);
    fake.0.gone.store(true, Ordering::Relaxed);
    let error = disk.read_chunk(0, 65536, false, &mut buf).unwrap_err();
    assert!(matches!(error, ReadError::Gone { .. }), "{error}");
    assert_eq!(disk.bad().total(), 0);
}

fn request(id: u64, offset: u64, len: u32) -> ReadRequest {
    ReadRequest {
        id,
        offset,
        len,
        ..ReadRequest::default()
    }
}

fn pool(fakes: &[&Fake], threads: usize) -> Pool {
    let disks = Disks::new(fakes.iter().map(|fake| fake.disk()).collect());
    let options = PoolOptions {
        threads: Some(threads),
        hash_bytes: Some(1 << 20),
        log: None,
    };
    Pool::start(disks, options).unwrap()
}

#[tokio::test]
async fn every_request_is_answered_as_the_server_checks_it() {
    let fake = Fake::new(5 * MIB + 512);
    fake.damage([3 * 2048 + 1]);
    let pool = pool(&[&fake], 3);
    let (outbox, mut outgoing) = outbox();
    let requests: Vec<ReadRequest> = (0..6)
        .map(|n| request(n, n * MIB, if n == 5 { 512 } else { 1 << 20 }))
        .collect();
    requests
        .iter()
        .for_each(|request| assert!(pool.read(request.clone(), &outbox)));
    for _ in &requests {
        let chunk = outgoing.next().await.unwrap();
        let request = &requests[usize::try_from(chunk.id).unwrap()];
        let verified = chunk::verify(request, &chunk).unwrap();
        let range = request.offset..request.offset + u64::from(request.len);
        for (block, content) in fake.expected(range).chunks(65536).zip(&verified.blocks) {
            match content {
                chunk::BlockContent::Zero => assert!(block.iter().all(|&b| b == 0)),
                chunk::BlockContent::Data { at, .. } => {
                    assert_eq!(&verified.plain[at.clone()], block)
                }
                chunk::BlockContent::Same => panic!("nothing was named"),
            }
        }
        assert_eq!(verified.bad.len(), usize::from(request.id == 3));
    }
    let lies = [
        request(1, 6 * MIB, 512),
        request(2, 1, 1),
        ReadRequest {
            disk: 7,
            ..request(3, 0, 65536)
        },
    ];
    for lie in lies {
        assert!(pool.read(lie.clone(), &outbox));
        let chunk = outgoing.next().await.unwrap();
        assert!(!chunk.error.is_empty() && chunk.data.is_empty(), "{lie:?}");
    }
}

#[tokio::test]
async fn urgent_reads_go_ahead_and_what_waits_in_memory_is_bounded() {
    let fake = Fake::new(64 * MIB);
    let pool = pool(&[&fake], 2);
    let (outbox, mut outgoing) = outbox();
    for n in 0..60 {
        assert!(pool.read(request(n, n * MIB, 1 << 20), &outbox));
    }
    // Nobody takes them: the readers stop at the bound.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    let read = fake.0.reads.lock().unwrap().len();
    assert!((10..=20).contains(&read), "{read}");
    let urgent = ReadRequest {
        urgent: true,
        ..request(1000, 63 * MIB, 1 << 20)
    };
    assert!(pool.read(urgent, &outbox));
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let first: Chunk = outgoing.next().await.unwrap();
    assert_eq!(first.id, 1000);
    for _ in 0..60 {
        assert!(outgoing.next().await.unwrap().error.is_empty());
    }
}

#[tokio::test]
async fn a_failing_disk_does_not_hold_up_the_other() {
    let (sick, well) = (Fake::new(16 * MIB), Fake::new(16 * MIB));
    sick.damage(0..32768);
    *sick.0.delay.lock().unwrap() = std::time::Duration::from_millis(30);
    let pool = pool(&[&sick, &well], 3);
    let (outbox, mut outgoing) = outbox();
    for n in 0..2 {
        assert!(pool.read(request(n, n * MIB, 1 << 20), &outbox));
    }
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    pool.shared_failing(0);
    for n in 2..16 {
        assert!(pool.read(request(n, n * MIB, 1 << 20), &outbox));
    }
    for n in 0..16 {
        assert!(pool.read(
            ReadRequest {
                disk: 1,
                urgent: true,
                ..request(100 + n, n * MIB, 1 << 20)
            },
            &outbox
        ));
    }
    for _ in 0..16 {
        assert!(outgoing.next().await.unwrap().id >= 100);
    }
}

async fn proof(pool: &Pool, ranges: &[Range<u64>], reread: bool) -> ProofReply {
    let (reply, mut replies) = tokio::sync::mpsc::unbounded_channel();
    let request = ProofRequest {
        id: 9,
        disk: 0,
        ranges: ranges.iter().map(to_wire).collect(),
        reread,
    };
    pool.prove(request, &reply);
    replies.recv().await.unwrap()
}

#[tokio::test]
async fn a_proof_is_the_hash_of_hashes_remembered_or_read_again() {
    let fake = Fake::new(3 * MIB + 512);
    fake.damage([2048]);
    let pool = pool(&[&fake], 2);
    let (outbox, mut outgoing) = outbox();
    for n in 0..2 {
        assert!(pool.read(request(n, n * MIB, 1 << 20), &outbox));
        outgoing.next().await.unwrap();
    }
    let ranges = [0..2 * MIB, 2 * MIB + 65536..3 * MIB + 512];
    let mut hasher = blake3::Hasher::new();
    for range in &ranges {
        for block in fake.expected(range.clone()).chunks(65536) {
            hasher.update(&chunk::block_hash(block));
        }
    }
    let reads = || {
        fake.0
            .reads
            .lock()
            .unwrap()
            .iter()
            .filter(|&&at| at < 2 * MIB)
            .count()
    };
    let before = reads();
    let reply = proof(&pool, &ranges, false).await;
    assert_eq!(reply.error, "");
    assert_eq!(reply.root, hasher.finalize().as_bytes());
    assert_eq!(reads(), before, "it was remembered");
    assert_eq!(proof(&pool, &ranges, true).await.root, reply.root);
    assert!(reads() > before);
    for wrong in [&[0..512][..], &[65536..131_072, 0..65536], &[0..8 * MIB]] {
        assert!(
            !proof(&pool, wrong, false).await.error.is_empty(),
            "{wrong:?}"
        );
    }
}

#[test]
fn extents_outside_are_refused() {
    let fake = Fake::new(MIB);
    let disks = Disks::new(vec![fake.disk()]);
    let ask = |offset, len| {
        disks.extents(&ExtentsRequest {
            id: 4,
            disk: 0,
            offset,
            len,
        })
    };
    assert_eq!(ask(0, MIB).data, [to_wire(&(0..MIB))]);
    for (offset, len) in [(0, MIB + 1), (u64::MAX, 2), (0, 0)] {
        assert!(!ask(offset, len).error.is_empty());
    }
}

/// `cargo test -p agent --release --lib -- --ignored --nocapture speed`.
#[test]
#[ignore = "a measurement"]
fn speed_of_reading_hashing_and_building_on_one_core() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let data: Vec<u8> = (0u32..256 << 15)
        .flat_map(|n| {
            let noise = (n.wrapping_mul(2_654_435_761) >> 7).to_le_bytes();
            [
                noise,
                n.to_le_bytes(),
                noise,
                noise,
                noise,
                noise,
                noise,
                noise,
            ]
            .concat()
        })
        .collect();
    io::Write::write_all(&mut file, &data).unwrap();
    let spec = DiskSpec {
        name: "file".into(),
        path: file.path().to_owned(),
        virtual_size: data.len() as u64,
        logical_sector_size: 512,
        physical_sector_size: 512,
    };
    let disk = Disk::open(spec).unwrap();
    for compress in [chunk::Compress::Never, chunk::Compress::Zstd] {
        let begun = Instant::now();
        let mut buf = Vec::new();
        let mut sent = 0;
        for n in 0..data.len() as u64 / MIB {
            let bad = disk.read_chunk(n * MIB, 1 << 20, false, &mut buf).unwrap();
            assert!(bad.is_empty());
            sent += chunk::build(
                &request(n, n * MIB, 1 << 20),
                &bytes::Bytes::copy_from_slice(&buf),
                vec![],
                compress,
            )
            .chunk
            .data
            .len();
        }
        let rate = data.len() as f64 / begun.elapsed().as_secs_f64() / 1e6;
        println!(
            "{compress:?}: {rate:.0} MB/s, {sent} of {} bytes sent",
            data.len()
        );
    }
}
