//! A network between agent and server that misbehaves as it is told: cuts, delays, a slow line, a closed port; and that
//! counts what crosses it.
//!
//! ```text
//! agent ──> reader ──(channel, each block with the time at which it is due)──> writer ──> server
//! agent <── writer <──────────────────────────────────────────────────────── reader <── server
//! ```

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Bytes that are passed on at a time; small, so that a cut falls in the midst of a message.
const BLOCK_LEN: usize = 16 << 10;
/// Blocks under way in one direction of a connection: what fits in the line.
const IN_FLIGHT: usize = 256;
const POLL: Duration = Duration::from_millis(20);
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// Bytes that crossed, TLS and HTTP/2 included, TCP's and IP's headers not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the agents to the server.
    pub to_server: u64,
    /// Back.
    pub to_agent: u64,
}

impl Traffic {
    /// Both ways.
    pub fn total(self) -> u64 {
        self.to_server + self.to_agent
    }
}

/// The proxy; it ends when dropped.
#[derive(Debug)]
pub struct ChaosProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: Mutex<SocketAddr>,
    stop: AtomicBool,
    refuse: AtomicBool,
    frozen: AtomicBool,
    to_server: AtomicU64,
    to_agent: AtomicU64,
    delay_us: AtomicU64,
    /// Bytes a second in each direction, 0 without limit; and until when the line is busy.
    rate: AtomicU64,
    busy: [Mutex<Option<Instant>>; 2],
    /// Counts of bytes to the server at which all connections are cut, ascending.
    marks: Mutex<VecDeque<u64>>,
    cuts: AtomicU32,
    connections: AtomicU32,
    open: Mutex<Vec<(TcpStream, TcpStream)>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ToServer,
    ToAgent,
}

impl ChaosProxy {
    /// Listens on the loopback and passes everything on to `server`.
    pub fn start(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("listening for agents")?;
        let address = listener.local_addr().context("asking for the port")?;
        listener
            .set_nonblocking(true)
            .context("setting up the proxy")?;
        let shared = Arc::new(Shared::new(server));
        let own = Arc::clone(&shared);
        thread::spawn(move || own.accept(&listener));
        Ok(Self { address, shared })
    }

    /// Where agents are to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything goes to this server from now on; standing connections stay.
    pub fn set_server(&self, server: SocketAddr) {
        *lock(&self.shared.server) = server;
    }

    /// What crossed so far.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            to_server: self.shared.to_server.load(Ordering::Relaxed),
            to_agent: self.shared.to_agent.load(Ordering::Relaxed),
        }
    }

    /// Connections so far.
    pub fn connections(&self) -> u32 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// How often a cut ended at least one connection.
    pub fn cuts(&self) -> u32 {
        self.shared.cuts.load(Ordering::Relaxed)
    }

    /// Each byte arrives so much later.
    pub fn set_delay(&self, delay: Duration) {
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.shared.delay_us.store(micros, Ordering::Relaxed);
    }

    /// Bytes a second in each direction, all connections together; `None` without limit.
    pub fn set_rate(&self, bytes_a_second: Option<u64>) {
        self.shared
            .rate
            .store(bytes_a_second.unwrap_or(0), Ordering::Relaxed);
    }

    /// New connections are closed at once.
    pub fn set_refuse(&self, refuse: bool) {
        self.shared.refuse.store(refuse, Ordering::Relaxed);
    }

    /// Nothing crosses, and nobody is told: the cable is out.
    pub fn set_frozen(&self, frozen: bool) {
        self.shared.frozen.store(frozen, Ordering::Relaxed);
    }

    /// Cuts every connection now.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Cuts every connection each time that so many bytes in all went to the server.
    pub fn cut_at(&self, marks: &[u64]) {
        let mut marks = marks.to_vec();
        marks.sort_unstable();
        *lock(&self.shared.marks) = marks.into();
    }

    /// Cuts `times` times at moments spread at random over the next `bytes` to the server; `seed` decides them. Returns
    /// the moments as counts of bytes.
    pub fn cut_at_random(&self, seed: u64, times: u32, bytes: u64) -> Vec<u64> {
        let begin = self.traffic().to_server;
        // One in each stretch, so that they do not fall together.
        let stretch = bytes / u64::from(times.max(1));
        let marks: Vec<u64> = (0..u64::from(times))
            .map(|turn| begin + turn * stretch + random(seed, turn) % stretch.max(1))
            .collect();
        self.cut_at(&marks);
        marks
    }
}

impl Drop for ChaosProxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.cut();
    }
}

impl Shared {
    fn new(server: SocketAddr) -> Self {
        Self {
            server: Mutex::new(server),
            stop: AtomicBool::new(false),
            refuse: AtomicBool::new(false),
            frozen: AtomicBool::new(false),
            to_server: AtomicU64::new(0),
            to_agent: AtomicU64::new(0),
            delay_us: AtomicU64::new(0),
            rate: AtomicU64::new(0),
            busy: [Mutex::new(None), Mutex::new(None)],
            marks: Mutex::default(),
            cuts: AtomicU32::new(0),
            connections: AtomicU32::new(0),
            open: Mutex::default(),
        }
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        while !self.stop.load(Ordering::Relaxed) {
            let Ok((agent, _)) = listener.accept() else {
                thread::sleep(POLL);
                continue;
            };
            if self.refuse.load(Ordering::Relaxed) {
                continue;
            }
            let own = Arc::clone(self);
            // Connecting may take a while; the next agent does not wait for it.
            thread::spawn(move || own.join(agent));
        }
    }

    /// Whatever goes wrong here, both ends see a closed connection, which is what this is for.
    fn join(self: &Arc<Self>, agent: TcpStream) {
        let address = *lock(&self.server);
        let Ok(server) = TcpStream::connect_timeout(&address, CONNECT_PATIENCE) else {
            return;
        };
        let prepared = agent.set_nonblocking(false).is_ok()
            && agent.set_nodelay(true).is_ok()
            && server.set_nodelay(true).is_ok();
        let copies = (agent.try_clone(), server.try_clone());
        let (Ok(agent2), Ok(server2), true) = (copies.0, copies.1, prepared) else {
            return;
        };
        let handles = (agent.try_clone(), server.try_clone());
        if let (Ok(agent), Ok(server)) = handles {
            lock(&self.open).push((agent, server));
        }
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.pump(agent, server2, Way::ToServer);
        self.pump(server, agent2, Way::ToAgent);
    }

    fn pump(self: &Arc<Self>, from: TcpStream, to: TcpStream, way: Way) {
        let (sender, receiver) = sync_channel(IN_FLIGHT);
        let (reader, writer) = (Arc::clone(self), Arc::clone(self));
        thread::spawn(move || reader.read(from, way, &sender));
        thread::spawn(move || writer.write(to, way, &receiver));
    }

    fn read(&self, mut from: TcpStream, way: Way, sender: &SyncSender<(Instant, Vec<u8>)>) {
        let mut block = vec![0; BLOCK_LEN];
        while let Ok(read @ 1..) = from.read(&mut block) {
            let rate = self.rate.load(Ordering::Relaxed);
            if rate > 0 {
                let wait = self.line_time(way, read as u64, rate);
                thread::sleep(wait);
            }
            let delay = Duration::from_micros(self.delay_us.load(Ordering::Relaxed));
            let bytes = block.get(..read).unwrap_or_default().to_vec();
            if sender.send((Instant::now() + delay, bytes)).is_err() {
                break;
            }
        }
        // Ends here; the writer passes the end on when it has written what is under way.
        let _ = from.shutdown(Shutdown::Read);
    }

    /// How long to wait until the line has carried `len` more bytes.
    fn line_time(&self, way: Way, len: u64, rate: u64) -> Duration {
        let now = Instant::now();
        let mut busy = lock(&self.busy[way as usize]);
        let begin = busy.map_or(now, |until| until.max(now));
        let until = begin + Duration::from_nanos(len.saturating_mul(1_000_000_000) / rate);
        *busy = Some(until);
        until - now
    }

    fn write(&self, mut to: TcpStream, way: Way, receiver: &Receiver<(Instant, Vec<u8>)>) {
        while let Ok((due, bytes)) = receiver.recv() {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            while self.frozen.load(Ordering::Relaxed) && !self.stop.load(Ordering::Relaxed) {
                thread::sleep(POLL);
            }
            if to.write_all(&bytes).is_err() {
                break;
            }
            self.count(way, bytes.len() as u64);
        }
        let _ = to.shutdown(Shutdown::Write);
    }

    fn count(&self, way: Way, len: u64) {
        let counter = match way {
            Way::ToServer => &self.to_server,
            Way::ToAgent => &self.to_agent,
        };
        let now = counter.fetch_add(len, Ordering::Relaxed) + len;
        if way == Way::ToServer {
            let due = {
                let mut marks = lock(&self.marks);
                let due = marks.front().is_some_and(|mark| *mark <= now);
                if due {
                    marks.pop_front();
                }
                due
            };
            if due {
                self.cut();
            }
        }
    }

    fn cut(&self) {
        let mut ended = false;
        for (agent, server) in lock(&self.open).drain(..) {
            // Fails where the connection was closed already.
            ended |= agent.shutdown(Shutdown::Both).is_ok();
            let _ = server.shutdown(Shutdown::Both);
        }
        if ended {
            self.cuts.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// SplitMix64: the number at `place` of the sequence of `seed`.
pub fn random(seed: u64, place: u64) -> u64 {
    let mut z = seed.wrapping_add(place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it receives.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut to = stream.try_clone().unwrap();
                    let _ = std::io::copy(&mut &stream, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        });
        address
    }

    fn send(proxy: &ChaosProxy, len: usize) -> std::io::Result<usize> {
        let mut stream = TcpStream::connect(proxy.address())?;
        let mut to = stream.try_clone()?;
        let sender = thread::spawn(move || {
            let result = to.write_all(&vec![7; len]);
            let _ = to.shutdown(Shutdown::Write);
            result
        });
        let mut back = Vec::new();
        let read = stream.read_to_end(&mut back);
        let _ = sender.join();
        read
    }

    #[test]
    fn bytes_are_passed_on_and_counted() {
        let proxy = ChaosProxy::start(echo()).unwrap();
        assert_eq!(send(&proxy, 3_000_000).unwrap(), 3_000_000);
        let traffic = proxy.traffic();
        assert_eq!(
            (traffic.to_server, traffic.to_agent),
            (3_000_000, 3_000_000)
        );
        assert_eq!((proxy.connections(), proxy.cuts()), (1, 0));
    }

    #[test]
    fn connections_are_cut_where_they_should_be() {
        let proxy = ChaosProxy::start(echo()).unwrap();
        let marks = proxy.cut_at_random(5, 3, 3 << 20);
        assert!(marks.windows(2).all(|pair| pair[0] <= pair[1]));
        let mut turns = 0;
        while proxy.cuts() < 3 {
            let _ = send(&proxy, 2 << 20);
            turns += 1;
            assert!(turns < 10, "{:?} of {marks:?}", proxy.traffic());
        }
        assert_eq!(send(&proxy, 1000).unwrap(), 1000);
        proxy.set_refuse(true);
        assert_eq!(send(&proxy, 1000).unwrap_or(0), 0);
    }

    #[test]
    fn a_line_is_as_slow_and_as_long_as_it_is_told() {
        let proxy = ChaosProxy::start(echo()).unwrap();
        proxy.set_delay(Duration::from_millis(150));
        let begin = Instant::now();
        assert_eq!(send(&proxy, 500_000).unwrap(), 500_000);
        let there_and_back = begin.elapsed();
        // A delay is no rate: all of it is under way together.
        assert!(
            there_and_back >= Duration::from_millis(300),
            "{there_and_back:?}"
        );
        assert!(
            there_and_back < Duration::from_secs(3),
            "{there_and_back:?}"
        );
        proxy.set_delay(Duration::ZERO);
        proxy.set_rate(Some(500_000));
        let begin = Instant::now();
        assert_eq!(send(&proxy, 500_000).unwrap(), 500_000);
        assert!(
            begin.elapsed() >= Duration::from_millis(950),
            "{:?}",
            begin.elapsed()
        );
    }

    #[test]
    fn a_frozen_line_is_silent_and_thaws() {
        let proxy = ChaosProxy::start(echo()).unwrap();
        proxy.set_frozen(true);
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        stream.write_all(b"x").unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        assert!(stream.read(&mut [0]).is_err());
        proxy.set_frozen(false);
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
}
