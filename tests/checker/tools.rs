//! The tools that break things do what they say.

use std::{io::ErrorKind, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::support::{
    eventually,
    port::free_ports,
    relay::{Cut, Relay, Side},
};

/// Long enough for anything but a hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// A relay to a server that this test plays, with one connection through it.
struct Line {
    listener: TcpListener,
    relay: Relay,
    client: TcpStream,
    server: TcpStream,
}

impl Line {
    async fn open() -> Self {
        // Not port 0: when it is closed, the system must not give it to somebody else.
        let [port] = free_ports();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let relay = Relay::to(listener.local_addr().unwrap()).await;
        let mut client = TcpStream::connect(relay.address()).await.unwrap();
        let mut server = listener.accept().await.unwrap().0;
        // The relay, too, knows by then that it is connected.
        passes(&mut client, &mut server).await;
        Self { listener, relay, client, server }
    }
}

async fn passes(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"x").await.unwrap();
    assert_eq!(timeout(PATIENCE, to.read_u8()).await.expect("it passes").unwrap(), b'x');
}

/// What a reader sees at the end: `None` for an end in good order.
async fn end_of(stream: &mut TcpStream) -> Option<ErrorKind> {
    let read = timeout(PATIENCE, stream.read(&mut [0])).await.expect("an end");
    read.map(|bytes| assert_eq!(bytes, 0)).err().map(|error| error.kind())
}

#[tokio::test]
async fn a_relay_passes_bytes_and_ends() {
    let mut line = Line::open().await;
    passes(&mut line.client, &mut line.server).await;
    passes(&mut line.server, &mut line.client).await;
    assert_eq!((line.relay.accepted(), line.relay.open()), (1, 1));
    line.client.shutdown().await.unwrap();
    assert_eq!(end_of(&mut line.server).await, None);
    // The other direction is still open.
    passes(&mut line.server, &mut line.client).await;
    drop(line.server);
    assert_eq!(end_of(&mut line.client).await, None);
    eventually("its end", async || (line.relay.open() == 0).then_some(())).await;
}

#[tokio::test]
async fn a_relay_cuts_both_sides() {
    for (how, seen) in [(Cut::Finish, None), (Cut::Reset, Some(ErrorKind::ConnectionReset))] {
        let mut line = Line::open().await;
        passes(&mut line.client, &mut line.server).await;
        line.relay.cut(how);
        assert_eq!(end_of(&mut line.client).await, seen, "{how:?}");
        assert_eq!(end_of(&mut line.server).await, seen, "{how:?}");
        let mut client = TcpStream::connect(line.relay.address()).await.unwrap();
        let mut server = line.listener.accept().await.unwrap().0;
        passes(&mut client, &mut server).await;
    }
}

#[tokio::test]
async fn a_stalled_relay_holds_bytes_back_and_loses_none() {
    let mut line = Line::open().await;
    line.relay.stall();
    line.client.write_all(b"held").await.unwrap();
    let held = timeout(Duration::from_millis(200), line.server.read_u8()).await;
    assert!(held.is_err(), "{held:?}");
    line.relay.resume();
    let mut bytes = [0; 4];
    timeout(PATIENCE, line.server.read_exact(&mut bytes)).await.unwrap().unwrap();
    assert_eq!(&bytes, b"held");
    line.relay.stall();
    line.relay.cut(Cut::Finish);
    assert_eq!(end_of(&mut line.client).await, None);
}

#[tokio::test]
async fn a_half_open_connection_is_known_to_one_side_alone() {
    for alone in [Side::Client, Side::Server] {
        let mut line = Line::open().await;
        line.relay.half_open(alone);
        let (left, gone) = match alone {
            Side::Client => (&mut line.client, &mut line.server),
            Side::Server => (&mut line.server, &mut line.client),
        };
        assert_eq!(end_of(gone).await, Some(ErrorKind::ConnectionReset));
        left.write_all(b"nobody reads this").await.unwrap();
        let silent = timeout(Duration::from_millis(200), left.read_u8()).await;
        assert!(silent.is_err(), "{silent:?}");
        // New ones are whole.
        let mut client = TcpStream::connect(line.relay.address()).await.unwrap();
        let mut server = line.listener.accept().await.unwrap().0;
        passes(&mut client, &mut server).await;
        assert_eq!(line.relay.open(), 2);
        line.relay.cut(Cut::Reset);
        assert_eq!(end_of(left).await, Some(ErrorKind::ConnectionReset));
    }
}

#[tokio::test]
async fn whoever_gives_up_a_half_open_connection_ends_it() {
    let mut line = Line::open().await;
    line.relay.half_open(Side::Client);
    line.client.write_all(b"nobody reads this").await.unwrap();
    drop(line.client);
    eventually("its end", async || (line.relay.open() == 0).then_some(())).await;
}

#[tokio::test]
async fn a_relay_falls_silent_after_so_many_bytes() {
    let mut line = Line::open().await;
    line.relay.mute(1, 3);
    let mut client = TcpStream::connect(line.relay.address()).await.unwrap();
    let mut server = line.listener.accept().await.unwrap().0;
    passes(&mut client, &mut server).await;
    server.write_all(b"three").await.unwrap();
    let mut bytes = [0; 2];
    timeout(PATIENCE, client.read_exact(&mut bytes)).await.expect("two more").unwrap();
    client.write_all(b"x").await.unwrap();
    for end in [&mut client, &mut server] {
        let silent = timeout(Duration::from_millis(200), end.read_u8()).await;
        assert!(silent.is_err(), "{silent:?}");
    }
    drop(server);
    let silent = timeout(Duration::from_millis(200), client.read_u8()).await;
    assert!(silent.is_err(), "the client hears nothing of the server's end: {silent:?}");
    assert_eq!(line.relay.bytes_of_newest(), [1, 3]);
    drop(client);
    // The others are whole.
    passes(&mut line.client, &mut line.server).await;
    let mut client = TcpStream::connect(line.relay.address()).await.unwrap();
    let mut server = line.listener.accept().await.unwrap().0;
    for _ in 0..9 {
        passes(&mut client, &mut server).await;
    }
    eventually("its end", async || (line.relay.open() == 2).then_some(())).await;
}

#[tokio::test]
async fn a_relay_refuses_and_takes_connections_again() {
    let mut line = Line::open().await;
    line.relay.refuse(true).await;
    let refused = TcpStream::connect(line.relay.address()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    passes(&mut line.client, &mut line.server).await;
    line.relay.refuse(false).await;
    let mut client = TcpStream::connect(line.relay.address()).await.unwrap();
    let mut server = line.listener.accept().await.unwrap().0;
    passes(&mut client, &mut server).await;
    // And to a server that is gone, the client is not connected for long.
    drop(line.listener);
    let mut client = TcpStream::connect(line.relay.address()).await.unwrap();
    assert_eq!(end_of(&mut client).await, Some(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn nothing_passes_a_relay_that_is_dropped() {
    let mut line = Line::open().await;
    passes(&mut line.client, &mut line.server).await;
    drop(line.relay);
    end_of(&mut line.client).await;
    end_of(&mut line.server).await;
}
