//! The worked example of `docs/wire.md`, byte by byte.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use agentbus::{
    Envelope,
    broker::{Destination, QueueRole, QueueSpec, connect},
    config::BusUrl,
    message::Timestamp,
    proto::v1::ErrorReply,
};
use lapin::protocol::basic::parse_properties;
use prost::Message as _;

use super::listener::Scene;
use crate::support::{bus::Bus, messages::Question, rabbitmq};

const DOCUMENT: &str = include_str!("../../docs/wire.md");
const ID: &str = "01972b5c-ee00-7c1a-9b3e-2f4a6d8c0e11";
const TEXT: &str = "volatility of ZEC this year";
/// Class, weight and size of the body, before the properties in the payload of a header frame.
const BEFORE_PROPERTIES: usize = 12;

/// The bytes of each block of the document.
fn blocks() -> Vec<Vec<u8>> {
    let mut blocks = Vec::new();
    let mut inside = false;
    for line in DOCUMENT.lines() {
        match line {
            "```hex" => {
                inside = true;
                blocks.push(Vec::new());
            }
            "```" => inside = false,
            line if inside => {
                let bytes = line.split("  ").next().unwrap_or_default();
                let byte = |text| u8::from_str_radix(text, 16).expect("two hexadecimal digits");
                blocks.last_mut().unwrap().extend(bytes.split_whitespace().map(byte));
            }
            _ => {}
        }
    }
    blocks
}

/// The payloads of frames, with the kind of each.
fn frames(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut frames = Vec::new();
    while let [kind, _, _, a, b, c, d, rest @ ..] = bytes {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        assert_eq!(rest[length], 0xce, "the end of a frame");
        frames.push((*kind, &rest[..length]));
        bytes = &rest[length + 1..];
    }
    assert!(bytes.is_empty(), "{bytes:?} is no frame");
    frames
}

/// What the document describes beside the bytes.
fn example() -> Envelope {
    let mut envelope = Envelope::encode(&Question { text: TEXT.to_owned(), ..Question::default() });
    let metadata = &mut envelope.metadata;
    metadata.message_type = Some("market.v1.Question".into());
    metadata.message_id = Some(ID.into());
    metadata.correlation_id = Some(ID.into());
    metadata.conversation_id = Some(ID.into());
    metadata.reply_to = Some("shop.replies".into());
    metadata.sender = Some("shop".into());
    metadata.timestamp = Some(Timestamp::from_millis(1_748_779_200_000));
    metadata.deadline = Some(Timestamp::from_millis(1_748_779_230_500));
    metadata.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    envelope
}

/// Passes everything on between clients and a broker, and keeps what the clients say.
struct Tap {
    port: u16,
    said: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Tap {
    fn before(broker: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let said: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let all = Arc::clone(&said);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&broker) else { return };
                let number = all.lock().unwrap().len();
                all.lock().unwrap().push(Vec::new());
                let (from_server, to_client) = (server.try_clone(), client.try_clone());
                thread::spawn(move || pass(from_server.unwrap(), to_client.unwrap(), |_| {}));
                let all = Arc::clone(&all);
                let keep = move |bytes: &[u8]| {
                    all.lock().unwrap()[number].extend_from_slice(bytes);
                };
                thread::spawn(move || pass(client, server, keep));
            }
        });
        Self { port, said }
    }

    /// Tells whether a client has said this on some channel, all in one.
    fn heard(&self, frames: &[u8]) -> bool {
        let without_channels = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            let mut at = 0;
            while let [kind, _, _, a, b, c, d, ..] = bytes[at..] {
                let length = u32::from_be_bytes([a, b, c, d]) as usize;
                // Methods, headers, bodies and heartbeats.
                if ![1, 2, 3, 8].contains(&kind) {
                    break;
                }
                bytes[at + 1..at + 3].fill(0);
                at = (at + 7 + length + 1).min(bytes.len());
            }
            bytes
        };
        let wanted = without_channels(frames);
        let said = self.said.lock().unwrap();
        said.iter().any(|said| {
            // After the greeting, which is no frame.
            let said = without_channels(said.get(8..).unwrap_or_default());
            said.windows(wanted.len()).any(|window| window == wanted)
        })
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, mut see: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        see(&buffer[..read]);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
}

#[tokio::test]
async fn it_is_what_a_client_says_on_the_wire() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let BusUrl::Amqp(url) = &bus.config.bus else { return };
    let (host, port) = url.hosts().next().unwrap();
    let tap = Tap::before(format!("{}:{port}", host.trim_matches(['[', ']'])));

    // The exchange of the example, in a virtual host of the test's where there is one.
    let mut config = bus.config.clone();
    let address = rabbitmq::address(&config);
    let (login, place) = address.rsplit_once('@').unwrap();
    let (_, vhost) = place.split_once('/').unwrap();
    config.bus = format!("{login}@127.0.0.1:{}/{vhost}", tap.port).parse().unwrap();
    let broker = connect(&config).await.unwrap();
    let queue = bus.queue("example");
    let role = QueueRole::Private { max_length: 10, expires: std::time::Duration::from_mins(5) };
    let topic: agentbus::Topic<Question> = agentbus::Topic::new("query.request");
    bus.broker().declare(&QueueSpec::new(queue, role).bind((&topic).into())).await.unwrap();
    broker.publish(Destination::Topic(topic.name()), example()).await.unwrap();

    // The document has the exchange's usual name, and the test one of its own.
    let mut expected = blocks().remove(0);
    let method = frames(&expected)[0].1.to_vec();
    let usual = [&[15][..], b"agentbus.events"].concat();
    assert_eq!(method[6..22], usual, "the exchange");
    let exchange = config.exchange.as_bytes();
    let mut named = method[..6].to_vec();
    named.push(u8::try_from(exchange.len()).unwrap());
    named.extend_from_slice(exchange);
    named.extend_from_slice(&method[22..]);
    let length = u32::try_from(named.len()).unwrap().to_be_bytes();
    let framed = [&[1, 0, 1][..], &length, &named, &[0xce]].concat();
    expected.splice(..=(7 + method.len()), framed);
    assert!(tap.heard(&expected), "the document shows other bytes than those that were sent");
    broker.close().await;
}

#[tokio::test]
async fn what_it_shows_is_understood() {
    let Some(mut scene) = Scene::start().await else { return };
    let blocks = blocks();
    let frames = frames(&blocks[0]);
    assert_eq!(frames.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [1, 2, 3]);
    let (header, body) = (frames[1].1, frames[2].1);
    let (rest, properties) = parse_properties(&header[BEFORE_PROPERTIES..]).expect("properties");
    assert!(rest.is_empty());
    scene.publish("raw.example", properties, body).await;
    let read = scene.heard().await.metadata;
    let expected = example();
    // So long ago, the deadline is none.
    let metadata = agentbus::message::Metadata { deadline: None, ..expected.metadata };
    assert_eq!(read, metadata);
    assert_eq!(Question::decode(body).unwrap().text, TEXT);
}

#[test]
fn the_error_is_one() {
    let error = ErrorReply::decode(&*blocks()[1]).expect("an error");
    let expected = ErrorReply {
        code: "INVALID_ARGUMENT".to_owned(),
        message: "`text` is longer than 1000 bytes".to_owned(),
        retryable: false,
        details: [("field".to_owned(), "text".to_owned())].into(),
    };
    assert_eq!(error, expected);
    assert_eq!(expected.encode_to_vec(), blocks()[1], "there is one way to write it");
}
