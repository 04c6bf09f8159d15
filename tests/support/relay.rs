//! A TCP relay between a client and a server, which breaks what passes through it.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, Interest},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::JoinHandle,
    time::sleep,
};

use super::rabbitmq::port::free_ports;

/// A relay to one address; all that passes it ends when it is dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Takes connections; none while they are refused.
    acceptor: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    to: SocketAddr,
    flow: watch::Sender<Flow>,
    /// How often something was done to all connections, and what the last time.
    blows: watch::Sender<(u64, Blow)>,
    accepted: AtomicU64,
    open: AtomicUsize,
    bytes: AtomicU64,
    /// The newest connections, each with the bytes that have passed it.
    newest: Mutex<Vec<Arc<AtomicU64>>>,
    mute: Mutex<Mute>,
}

/// Which connections fall silent.
#[derive(Clone, Copy, Debug, Default)]
struct Mute {
    /// So many of the next ones,
    connections: usize,
    /// each after so many bytes.
    bytes: u64,
}

/// What happens to bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// They pass.
    Passing,
    /// They wait; both sides believe themselves connected.
    Stalled,
}

/// What is done to the connections that there are.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Cut(Cut),
    HalfOpen(Side),
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Whoever connected to the relay.
    Client,
    /// Whom the relay connected to.
    Server,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// As by a peer that ends in good order.
    Finish,
    /// As by a peer that has crashed.
    Reset,
}

impl Relay {
    /// Starts a relay on a port of its own.
    ///
    /// # Panics
    ///
    /// Panics where no port can be listened on.
    pub async fn to(to: SocketAddr) -> Self {
        let mut tries = 0;
        let listener = loop {
            let [port] = free_ports();
            match TcpListener::bind(("127.0.0.1", port)).await {
                Ok(listener) => break listener,
                Err(error) => assert!(tries < 10, "no port to listen on: {error}"),
            }
            tries += 1;
        };
        let address = listener.local_addr().expect("it listens");
        let shared = Arc::new(Shared {
            to,
            flow: watch::Sender::new(Flow::Passing),
            blows: watch::Sender::new((0, Blow::Cut(Cut::Reset))),
            accepted: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            newest: Mutex::default(),
            mute: Mutex::default(),
        });
        let acceptor = Mutex::new(Some(accept(listener, &shared)));
        Self { address, shared, acceptor }
    }

    /// Returns where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections on both sides; new ones are taken.
    pub fn cut(&self, how: Cut) {
        self.strike(Blow::Cut(how));
    }

    /// Lets no byte pass in any direction, on connections old and new, until
    /// [`resume`](Self::resume); then those held back pass. Who closes a connection is not noticed
    /// on its other side meanwhile.
    pub fn stall(&self) {
        self.shared.flow.send_replace(Flow::Stalled);
    }

    /// Leaves one side alone with all connections: the other has crashed, and nobody says so. What
    /// it sends waits for ever, until a [`cut`](Self::cut). New connections are whole; those that the
    /// relay has not connected to the server yet end on both sides.
    pub fn half_open(&self, alone: Side) {
        self.strike(Blow::HalfOpen(alone));
    }

    /// Lets each of the next `connections` fall silent after `bytes`, both directions together: they
    /// stay open, and nothing passes any more. Until then they are whole, and so are all others.
    pub fn mute(&self, connections: usize, bytes: u64) {
        *self.shared.mute.lock().unwrap() = Mute { connections, bytes };
    }

    fn strike(&self, blow: Blow) {
        self.shared.blows.send_modify(|(count, last)| (*count, *last) = (*count + 1, blow));
    }

    /// Lets bytes pass again.
    pub fn resume(&self) {
        self.shared.flow.send_replace(Flow::Passing);
    }

    /// Closes the port to new connections, or opens it again; old ones stay.
    ///
    /// When this returns, it is so.
    ///
    /// # Panics
    ///
    /// Panics where somebody else has taken the port for ten seconds.
    pub async fn refuse(&self, refuse: bool) {
        let acceptor = self.acceptor.lock().unwrap().take();
        let acceptor = match acceptor {
            Some(acceptor) if refuse => {
                acceptor.abort();
                drop(acceptor.await);
                self.closed().await;
                None
            }
            None if !refuse => Some(accept(self.listen_again().await, &self.shared)),
            unchanged => unchanged,
        };
        *self.acceptor.lock().unwrap() = acceptor;
    }

    /// Waits until the system refuses connections: a process that another thread is starting has the
    /// port, as all that is open, until it runs its program.
    async fn closed(&self) {
        for _ in 0..200 {
            let Ok(dialled) = TcpStream::connect(self.address).await else { return };
            drop(dialled);
            sleep(Duration::from_millis(50)).await;
        }
        panic!("port {} takes connections that nobody accepts", self.address);
    }

    async fn listen_again(&self) -> TcpListener {
        let mut tries = 0;
        loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => return listener,
                Err(error) => assert!(tries < 200, "port {} is taken: {error}", self.address),
            }
            tries += 1;
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Tells how many connections were taken since the start.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Relaxed)
    }

    /// Tells how many connections there are, half-open ones included.
    pub fn open(&self) -> usize {
        self.shared.open.load(Relaxed)
    }

    /// Tells how many bytes have passed, both directions together.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Relaxed)
    }

    /// Tells how many bytes have passed each of the connections that were taken since the last call.
    pub fn bytes_of_newest(&self) -> Vec<u64> {
        let newest = std::mem::take(&mut *self.shared.newest.lock().unwrap());
        newest.iter().map(|bytes| bytes.load(Relaxed)).collect()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(acceptor) = self.acceptor.lock().unwrap().take() {
            acceptor.abort();
        }
        self.cut(Cut::Reset);
    }
}

/// Takes connections until it is aborted; they outlive it.
fn accept(listener: TcpListener, shared: &Arc<Shared>) -> JoinHandle<()> {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        loop {
            // An error is that of one connection, or a lack of file handles.
            let Ok((client, _)) = listener.accept().await else {
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            shared.accepted.fetch_add(1, Relaxed);
            shared.open.fetch_add(1, Relaxed);
            let (shared, blows) = (Arc::clone(&shared), shared.blows.subscribe());
            let allowance = shared.allow();
            tokio::spawn(async move {
                link(client, &shared, &allowance, blows).await;
                shared.open.fetch_sub(1, Relaxed);
            });
        }
    })
}

impl Shared {
    /// Finds out how much may pass the next connection.
    fn allow(&self) -> Allowance {
        let mut mute = self.mute.lock().unwrap();
        let muted = mute.connections > 0;
        mute.connections = mute.connections.saturating_sub(1);
        let passed = Arc::default();
        self.newest.lock().unwrap().push(Arc::clone(&passed));
        Allowance { passed, most: if muted { mute.bytes } else { u64::MAX } }
    }
}

/// How much has passed a connection, and may.
#[derive(Debug)]
struct Allowance {
    passed: Arc<AtomicU64>,
    most: u64,
}

impl Allowance {
    fn is_spent(&self) -> bool {
        self.passed.load(Relaxed) >= self.most
    }

    /// Takes up to so many bytes, and returns how many they are.
    fn take(&self, bytes: usize) -> usize {
        let most = self.most;
        let take = |passed: u64| Some(passed.saturating_add(bytes as u64).min(most));
        let before = self.passed.fetch_update(Relaxed, Relaxed, take).expect("never refused");
        usize::try_from(most - before).map_or(bytes, |left| left.min(bytes))
    }
}

/// Connects one client until either side, or the relay, ends it.
async fn link(
    mut client: TcpStream,
    shared: &Shared,
    allowance: &Allowance,
    mut blows: watch::Receiver<(u64, Blow)>,
) {
    let mut server = None;
    let blow = tokio::select! {
        changed = blows.changed() => match changed {
            Ok(()) => blows.borrow_and_update().1,
            Err(_) => Blow::Cut(Cut::Reset),
        },
        how = carry(&mut client, &mut server, shared, allowance) => Blow::Cut(how),
    };
    match (blow, server) {
        (Blow::Cut(how), server) => {
            end(&mut client, how).await;
            if let Some(mut server) = server {
                end(&mut server, how).await;
            }
        }
        (Blow::HalfOpen(_), None) => end(&mut client, Cut::Reset).await,
        (Blow::HalfOpen(alone), Some(server)) => {
            let (left, mut gone) = match alone {
                Side::Client => (client, server),
                Side::Server => (server, client),
            };
            end(&mut gone, Cut::Reset).await;
            drop(gone);
            leave_alone(left, blows).await;
        }
    }
}

async fn end(stream: &mut TcpStream, how: Cut) {
    match how {
        Cut::Finish => drop(stream.shutdown().await),
        // Closed with it, the peer gets a reset.
        Cut::Reset => drop(stream.set_zero_linger()),
    }
}

/// Keeps a connection without a word, until its peer gives up or the next blow falls.
async fn leave_alone(mut stream: TcpStream, mut blows: watch::Receiver<(u64, Blow)>) {
    let given_up = async {
        // Nothing is read, so what waits to be read keeps it ready.
        while stream.ready(Interest::READABLE).await.is_ok_and(|ready| !ready.is_read_closed()) {
            sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = given_up => {}
        _ = blows.changed() => {}
    }
    end(&mut stream, Cut::Reset).await;
}

async fn carry(
    client: &mut TcpStream,
    server: &mut Option<TcpStream>,
    shared: &Shared,
    allowance: &Allowance,
) -> Cut {
    // A server that is not there looks to the client as if it had crashed.
    let Ok(stream) = TcpStream::connect(shared.to).await else { return Cut::Reset };
    drop(client.set_nodelay(true));
    drop(stream.set_nodelay(true));
    let (client_reader, client_writer) = client.split();
    let (server_reader, server_writer) = server.insert(stream).split();
    let there = pump(client_reader, server_writer, shared, allowance, Side::Client);
    let back = pump(server_reader, client_writer, shared, allowance, Side::Server);
    let ended = tokio::try_join!(there, back);
    if ended.is_ok() { Cut::Finish } else { Cut::Reset }
}

/// Takes what comes and passes nothing on. Only a client that gives up ends the connection: what the
/// server does is not heard of any more.
async fn swallow(mut from: ReadHalf<'_>, sender: Side) -> io::Result<()> {
    let mut buffer = vec![0; 1024];
    while from.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    match sender {
        Side::Client => Err(io::ErrorKind::ConnectionReset.into()),
        Side::Server => std::future::pending().await,
    }
}

/// Passes bytes in one direction until the sender's end.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    shared: &Shared,
    allowance: &Allowance,
    sender: Side,
) -> io::Result<()> {
    let (mut flow, mut other) = (shared.flow.subscribe(), shared.flow.subscribe());
    let mut buffer = vec![0; 16 * 1024];
    loop {
        drop(flow.wait_for(|flow| *flow == Flow::Passing).await);
        let read = tokio::select! {
            biased;
            _ = other.wait_for(|flow| *flow != Flow::Passing) => continue,
            read = from.read(&mut buffer) => read?,
        };
        // Also what was read a moment before.
        drop(flow.wait_for(|flow| *flow == Flow::Passing).await);
        let passes = allowance.take(read);
        to.write_all(&buffer[..passes]).await?;
        shared.bytes.fetch_add(passes as u64, Relaxed);
        if allowance.is_spent() {
            return swallow(from, sender).await;
        }
        if read == 0 {
            return to.shutdown().await;
        }
    }
}
