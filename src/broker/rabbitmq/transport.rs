//! The sockets below lapin: what arrives is made readable before lapin reads it.

use std::{
    io::{self, IoSlice, Read, Write},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use async_rs::{
    Runtime, Tokio,
    traits::Reactor,
    util::{DummyIO, RuntimeParts},
};
use futures::{
    Stream,
    io::{AsyncRead, AsyncWrite},
};
use lapin::{AsyncTcpStream, tcp::OwnedTLSConfig};
use tokio::select;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{
    Host,
    greeting::Greeting,
    mend::{mend_header, mend_method},
    wire::{Wire, Wires},
};

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

/// Type, channel and size.
const PREFIX: usize = 7;

/// A heartbeat, which has no payload.
const BEAT: u64 = PREFIX as u64 + 1;

/// Longest frame that is held to look at it: no header comes near, unless RabbitMQ's `frame_max`
/// was raised.
const LONGEST: usize = 16 << 20;

/// How much of a frame that is held is read at a time.
const CHUNK: usize = 64 << 10;

/// Makes the runtime for lapin to run on: tokio, with our own sockets.
///
/// TLS is done here too, since what it encrypts cannot be mended from below.
pub(super) fn runtime(
    host: &Host,
    tls: bool,
    greeting: Greeting,
    wires: Wires,
) -> Runtime<RuntimeParts<Tokio, Sockets>> {
    let tls = tls.then(|| host.name.clone());
    let tokio = Tokio::current();
    Runtime::new(RuntimeParts::new(tokio.clone(), Sockets { tokio, tls, greeting, wires }))
}

/// Opens the connections.
#[derive(Clone, Debug)]
pub(super) struct Sockets {
    tokio: Tokio,
    /// Whom the peer must prove to be, where the connection is encrypted.
    tls: Option<String>,
    /// Hears what the peer calls itself.
    greeting: Greeting,
    /// Ends what was opened for a dial.
    wires: Wires,
}

impl Reactor for Sockets {
    type TcpStream = Mended<AsyncTcpStream<<Tokio as Reactor>::TcpStream>>;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        // lapin has no use for it.
        Err::<DummyIO, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.tokio.sleep(duration)
    }

    fn interval(&self, period: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.tokio.interval(period)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let Self { tokio, tls, greeting, wires } = self.clone();
        let wire = wires.present();
        async move {
            let open = async {
                let stream = AsyncTcpStream::Plain(tokio.tcp_connect_addr(address).await?);
                match tls {
                    Some(name) => stream.into_tls(&name, OwnedTLSConfig::default().as_ref()).await,
                    None => Ok(stream),
                }
            };
            let stream = select! {
                stream = open => stream?,
                () = wire.is_cut().cancelled() => return Err(cut()),
            };
            Ok(Mended { greeting, ..Mended::new(stream, wire) })
        }
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "given up, since the peer is silent")
}

/// A stream of frames whose texts are UTF-8.
///
/// Bodies are passed on where they are. A frame with texts that did not arrive whole is held until
/// it has; lapin could not begin with it earlier either.
#[derive(Debug)]
pub(super) struct Mended<S> {
    inner: S,
    /// How many bytes follow that are passed on unseen, up to the beginning of a frame.
    pass: u64,
    /// A frame whose rest has not arrived yet, or that is being handed on.
    held: Vec<u8>,
    /// How much of the held frame was handed on; none before all of it was read.
    handed: Option<usize>,
    greeting: Greeting,
    wire: Wire,
    /// Waits for the end that comes from outside.
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// What to do with a frame of this length.
enum Plan {
    Mend(usize),
    Pass(u64),
}

fn plan(prefix: [u8; PREFIX]) -> Plan {
    let [kind, _, _, size @ ..] = prefix;
    // The end of a frame has a byte of its own.
    let length = u64::from(u32::from_be_bytes(size)) + PREFIX as u64 + 1;
    match (kind, usize::try_from(length)) {
        (METHOD | HEADER, Ok(length)) if length <= LONGEST => Plan::Mend(length),
        (METHOD | HEADER | BODY | HEARTBEAT, _) => Plan::Pass(length),
        // Not AMQP, or not this version of it: lapin will say so.
        _ => Plan::Pass(u64::MAX),
    }
}

fn mend(frame: &mut [u8], greeting: &Greeting) {
    let (prefix, payload) = frame.split_at_mut(PREFIX);
    let payload = payload.split_last_mut().map_or(&mut [][..], |(_, payload)| payload);
    if prefix[0] == METHOD {
        greeting.hear(payload);
        mend_method(payload);
    } else {
        mend_header(payload);
    }
}

impl<S> Mended<S> {
    fn new(inner: S, wire: Wire) -> Self {
        let cut = Box::pin(wire.is_cut().clone().cancelled_owned());
        let greeting = Greeting::default();
        Self { inner, pass: 0, held: Vec::new(), handed: None, greeting, wire, cut }
    }

    /// Mends what was read, and returns how much of it can be passed on; the beginning of an
    /// incomplete frame behind that is held.
    fn sort(&mut self, read: &mut [u8]) -> usize {
        let mut at = 0;
        loop {
            let rest = &mut read[at..];
            let length = rest.len();
            let passed = usize::try_from(self.pass).map_or(length, |pass| pass.min(length));
            self.pass -= passed as u64;
            at += passed;
            self.wire.hear(passed);
            let rest = &mut rest[passed..];
            if rest.is_empty() {
                return at;
            }
            match rest.first_chunk().copied().map(plan) {
                // Not counted as heard; one in pieces is, and that is rare.
                Some(Plan::Pass(BEAT)) if rest[0] == HEARTBEAT && rest.len() > PREFIX => {
                    at += PREFIX + 1;
                }
                Some(Plan::Pass(length)) => self.pass = length,
                Some(Plan::Mend(length)) if length <= rest.len() => {
                    mend(&mut rest[..length], &self.greeting);
                    self.wire.hear(length);
                    at += length;
                }
                _ => {
                    self.held.extend_from_slice(rest);
                    return at;
                }
            }
        }
    }

    /// Returns how many bytes of the held frame are missing, as far as is known; none once it can
    /// be handed on.
    fn missing(&mut self) -> usize {
        let length = self.held.len();
        match self.held.first_chunk().copied().map(plan) {
            None => PREFIX - length,
            Some(Plan::Mend(whole)) if whole > length => whole - length,
            Some(Plan::Mend(_)) => {
                mend(&mut self.held, &self.greeting);
                0
            }
            Some(Plan::Pass(whole)) => {
                self.pass = whole - length as u64;
                0
            }
        }
    }

    fn hand_on(&mut self, handed: usize, buffer: &mut [u8]) -> usize {
        let rest = &self.held[handed..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.handed = Some(handed + count);
        if count == rest.len() {
            self.handed = None;
            self.held.clear();
            self.held.shrink_to(CHUNK);
        }
        count
    }
}

impl<S: AsyncRead + Unpin> Mended<S> {
    /// Reads what is there. Where nothing is, the wire may have been cut.
    fn poll_inner(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.inner).poll_read(context, buffer) {
            Poll::Pending => self.cut.as_mut().poll(context).map(|()| Err(cut())),
            ready @ Poll::Ready(_) => ready,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Mended<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        loop {
            if let Some(handed) = this.handed {
                return Poll::Ready(Ok(this.hand_on(handed, buffer)));
            }
            if this.held.is_empty() {
                let read = ready!(this.poll_inner(context, buffer))?;
                let passed = this.sort(&mut buffer[..read]);
                if passed > 0 || read == 0 {
                    return Poll::Ready(Ok(passed));
                }
            }
            let missing = this.missing();
            if missing == 0 {
                this.handed = Some(0);
                continue;
            }
            let length = this.held.len();
            let mut held = std::mem::take(&mut this.held);
            held.resize(length + missing.min(CHUNK), 0);
            let read = this.poll_inner(context, &mut held[length..]);
            let arrived = if let Poll::Ready(Ok(read)) = read { read } else { 0 };
            held.truncate(length + arrived);
            this.held = held;
            this.wire.hear(arrived);
            if ready!(read)? == 0 {
                return Poll::Ready(Ok(0));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Mended<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
        self.wire.send(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(context, bytes))?;
        self.wire.send(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(context)
    }
}

#[cfg(test)]
mod tests {
    use futures::AsyncReadExt;

    use super::*;

    /// Hands out its bytes in pieces of random length, and is not ready in between.
    struct Pieces {
        bytes: Vec<u8>,
        rng: fastrand::Rng,
        longest: usize,
    }

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            if self.rng.bool() {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let longest = self.longest;
            let piece = self.rng.usize(1..=longest).min(buffer.len()).min(self.bytes.len());
            let rest = self.bytes.split_off(piece);
            buffer[..piece].copy_from_slice(&self.bytes);
            self.bytes = rest;
            Poll::Ready(Ok(piece))
        }
    }

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let size = u32::try_from(payload.len()).unwrap();
        [&[kind, 0, 1][..], &size.to_be_bytes(), payload, &[0xce]].concat()
    }

    fn header(text: [u8; 2]) -> Vec<u8> {
        let mut payload = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0].to_vec();
        payload.extend([2, text[0], text[1]]);
        frame(HEADER, &payload)
    }

    async fn read(bytes: &[u8], longest: usize, seed: u64) -> Vec<u8> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut buffer = vec![0; rng.usize(1..=2 * longest)];
        let pieces = Pieces { bytes: bytes.to_vec(), rng, longest };
        let mut stream = Mended::new(pieces, Wire::default());
        let mut all = Vec::new();
        while let read @ 1.. = stream.read(&mut buffer).await.unwrap() {
            all.extend_from_slice(&buffer[..read]);
        }
        all
    }

    #[tokio::test]
    async fn frames_are_mended_however_they_arrive() {
        let body = frame(BODY, &[0xff; 300]);
        let (beat, ack) =
            (frame(HEARTBEAT, &[]), frame(METHOD, b"\0\x3c\0\x50\0\0\0\0\0\0\0\xff\0"));
        let with = |text| {
            [&ack, &header(text), &body, &beat, &body, &header(text)].map(|f| &f[..]).concat()
        };
        let (sent, expected) = (with([0xff, b'a']), with([b'?', b'a']));
        for seed in 0..200 {
            for longest in [1, 8, 40, 1000] {
                assert!(read(&sent, longest, seed).await == expected, "{longest} {seed}");
            }
        }
    }

    /// Never has anything.
    struct Silence;

    impl AsyncRead for Silence {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_silent_stream_ends_when_its_wire_is_cut() {
        let wire = Wire::default();
        let mut stream = Mended::new(Silence, wire.clone());
        let reader = tokio::spawn(async move { stream.read(&mut [0; 8]).await });
        tokio::task::yield_now().await;
        assert!(!reader.is_finished());
        wire.cut();
        assert_eq!(reader.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test]
    async fn heartbeats_are_no_word() {
        let read = async |bytes: Vec<u8>| {
            let wire = Wire::default();
            let before = wire.traffic();
            let mut stream = Mended::new(futures::io::Cursor::new(bytes), wire.clone());
            stream.read_to_end(&mut Vec::new()).await.unwrap();
            wire.traffic().is_alive_since(before)
        };
        let beats = [frame(HEARTBEAT, &[]), frame(HEARTBEAT, &[])].concat();
        assert!(!read(beats.clone()).await);
        assert!(read([beats.clone(), frame(BODY, b"x")].concat()).await);
        assert!(read([beats, header([b'a', b'b'])].concat()).await);
    }

    #[tokio::test]
    async fn what_is_not_amqp_passes_and_the_end_of_the_stream_comes_through() {
        let other = b"AMQP\0\0\x09\x01 and more \xff";
        assert_eq!(read(other, 3, 1).await, other);
        let cut = &header([0xff, b'a'])[..12];
        assert!(read(cut, 5, 1).await.is_empty());
        let endless = [HEADER, 0, 1, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 0xff];
        assert_eq!(read(&endless, 5, 1).await, endless);
    }
}
