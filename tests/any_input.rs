//! Whatever is put in: what is read is written again as it was, what is wrong is an error, and
//! nothing panics or tells a secret.

use std::{fmt::Debug, sync::LazyLock};

use agentbus::{
    Config, Envelope, Pattern, Schema, Topic,
    config::BusUrl,
    message::{HeaderValue, MAX_HEADERS, Metadata, Priority, Timestamp, WireValue},
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9.-]{0,12}", "\\PC{0,60}", any::<String>(), "[äöü€]{0,140}"]
}

/// Text that any header carries whole.
fn fitting() -> impl Strategy<Value = String> {
    text().prop_map(|text| text[..text.floor_char_boundary(255)].to_owned())
}

fn header_value() -> impl Strategy<Value = HeaderValue> {
    prop_oneof![any::<i64>().prop_map(HeaderValue::Int), fitting().prop_map(HeaderValue::from)]
}

fn headers() -> impl Strategy<Value = Vec<(String, HeaderValue)>> {
    vec((fitting(), header_value()), 0..MAX_HEADERS + 6)
}

prop_compose! {
    /// An envelope with all that travels as headers.
    fn envelope()(
        topic in option::of(fitting()),
        [conversation, causation, parent, state] in [(); 4].map(|()| option::of(fitting())),
        due_at in option::of(any::<u32>()),
        left in option::of(0..2_000_000_000_u64),
        attempt in option::of(any::<u32>()),
        priority in option::of(0..=3_u8),
        headers in headers(),
    ) -> Envelope {
        let mut metadata = Metadata {
            conversation_id: conversation.as_deref().map(Into::into),
            causation_id: causation.as_deref().map(Into::into),
            traceparent: parent.map(Into::into),
            tracestate: state.map(Into::into),
            due_at: due_at.map(|millis| Timestamp::from_millis(millis.into())),
            deadline: left.map(|left| Timestamp::from_millis(Timestamp::now().as_millis() + left)),
            attempt,
            priority: priority.and_then(|level| Priority::new(level).ok()),
            ..Metadata::default()
        };
        for (name, value) in headers {
            // Those that cannot be set are not.
            drop(metadata.headers.set(name, value));
        }
        Envelope { topic: topic.map(Into::into), metadata, ..Envelope::default() }
    }
}

fn over_the_wire(sent: &Envelope) -> Envelope {
    let mut received = Envelope::default();
    sent.write_headers(true, |name, value| received.read_header(name, value));
    received
}

/// Tells whether a pattern of words matches words: the rules of AMQP, word for word.
fn matches(pattern: &[&str], words: &[&str]) -> bool {
    match (pattern, words) {
        ([], []) => true,
        (["#", rest @ ..], _) => (0..=words.len()).any(|skip| matches(rest, &words[skip..])),
        (["*", rest @ ..], [_, words @ ..]) => matches(rest, words),
        ([want, rest @ ..], [have, words @ ..]) => want == have && matches(rest, words),
        _ => false,
    }
}

/// Tells whether a name is a topic, as the documentation says it.
fn is_topic(name: &str) -> bool {
    let good =
        |character: char| !(character <= ' ' || character == '\u{7f}' || "*#".contains(character));
    name.len() <= 197 && name.split('.').all(|word| !word.is_empty() && word.chars().all(good))
}

fn is_pattern(name: &str) -> bool {
    let word = |word: &str| ["*", "#"].contains(&word) || is_topic(word);
    name.len() <= 197 && name.split('.').all(word)
}

fn dotted() -> impl Strategy<Value = String> {
    let word = select(&["a", "b", "*", "#", "", "a*", " ", "ü", "a\u{7f}", "\u{a0}"][..]);
    let some = vec(select(&["a", "b", "*", "#"][..]), 1..7).prop_map(|words| words.join("."));
    let long =
        (190..205_usize).prop_map(|bytes| "x.".repeat(bytes / 2) + &"y".repeat(bytes % 2 + 1));
    prop_oneof![4 => some, 3 => vec(word, 0..6).prop_map(|words| words.join(".")), 1 => long, 1 => text()]
}

fn shop() -> Schema {
    const SHOP: &str = r#"
        syntax = "proto3";
        package shop.v1;
        import "google/protobuf/timestamp.proto";
        import "google/protobuf/wrappers.proto";
        enum Status { STATUS_UNSPECIFIED = 0; STATUS_PAID = 1; }
        message Item { string product_id = 1; sint32 quantity = 2; repeated Item parts = 3; }
        message Order {
          int64 order_id = 1;
          Status status = 2;
          repeated Item items = 3;
          map<string, Item> gifts = 4;
          bytes signature = 5;
          google.protobuf.Timestamp placed_at = 6;
          oneof payment { string card = 7; fixed64 cash = 8; }
          double total = 9;
          repeated float rates = 10;
          google.protobuf.BoolValue gift = 11;
          map<int32, bool> labels = 12;
        }
    "#;
    struct Shop;
    impl FileResolver for Shop {
        fn open_file(&self, name: &str) -> Result<File, protox::Error> {
            match name {
                "shop.proto" => File::from_source(name, SHOP),
                _ => Err(protox::Error::file_not_found(name)),
            }
        }
    }
    static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
        let mut resolver = ChainFileResolver::new();
        resolver.add(Shop);
        resolver.add(GoogleFileResolver::new());
        let mut compiler = protox::Compiler::with_file_resolver(resolver);
        compiler.include_imports(true).open_file("shop.proto").unwrap();
        Schema::decode(&compiler.encode_file_descriptor_set()).unwrap()
    });
    SCHEMA.clone()
}

/// What an order's fields are called, and more.
const FIELDS: [&str; 19] = [
    "orderId",
    "order_id",
    "status",
    "items",
    "gifts",
    "signature",
    "placedAt",
    "card",
    "cash",
    "total",
    "rates",
    "gift",
    "labels",
    "productId",
    "quantity",
    "parts",
    "1",
    "",
    "@type",
];

/// JSON that may be an order, in whole or in part.
fn json() -> impl Strategy<Value = String> {
    let flat = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|it| it.to_string()),
        any::<i64>().prop_map(|it| it.to_string()),
        any::<i64>().prop_map(|it| format!("\"{it}\"")),
        any::<f64>().prop_map(|it| format!("{it:e}")),
        select(
            &[
                r#""NaN""#,
                r#""STATUS_PAID""#,
                r#""_-+/""#,
                r#""2024-02-29T12:00:00.5Z""#,
                r#""9999-12-31T23:59:60Z""#,
                "1e400",
                "-0",
                "01",
                "[1,]",
                r#""\ud800""#,
            ][..]
        )
        .prop_map(str::to_owned),
        any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
    ];
    flat.prop_recursive(6, 40, 6, |inner| {
        prop_oneof![
            1 => vec(inner.clone(), 0..4).prop_map(|values| format!("[{}]", values.join(","))),
            3 => vec((select(&FIELDS[..]), inner), 0..6).prop_map(|fields| {
                let fields = fields.iter().map(|(name, value)| format!("\"{name}\":{value}"));
                format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

fn shows(error: &dyn Debug, secret: &str) -> bool {
    format!("{error:?}").contains(secret)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn an_envelope_that_was_written_reads_back(sent in envelope()) {
        prop_assert_eq!(over_the_wire(&sent), sent);
    }

    #[test]
    fn headers_of_others_are_taken_or_left_out(
        entries in vec((prop_oneof![
            text(),
            select(&[
                "agentbus-topic", "agentbus-deadline", "agentbus-due-at", "agentbus-attempt",
                "agentbus-priority", "agentbus-failure-kind", "agentbus-failure-error",
                "agentbus-failure-attempts", "agentbus-failure-at", "agentbus-failure-topic",
                "agentbus-conversation-id", "ce-specversion", "ce-id", "x-death", "CC",
            ][..]).prop_map(str::to_owned),
        ], prop_oneof![
            any::<i64>().prop_map(Ok),
            text().prop_map(Err),
            any::<u64>().prop_map(|number| Err(number.to_string())),
        ]), 0..80),
    ) {
        let mut received = Envelope::default();
        for (name, value) in &entries {
            let value = match value {
                Ok(number) => WireValue::Int(*number),
                Err(text) => WireValue::Text(text),
            };
            received.read_header(name, value);
        }
        received.fill_from_cloud_events();
        prop_assert!(received.metadata.headers.len() <= MAX_HEADERS);
        // Sent on, and on again, it stays what it was the first time.
        let sent = over_the_wire(&received);
        prop_assert_eq!(&over_the_wire(&sent), &sent);
        sent.write_headers(true, |name, value| {
            assert!(name.len() <= 255);
            assert!(!name.starts_with("x-death") && name != "CC");
            assert!(!matches!(value, WireValue::Text(text) if text.len() > 255));
        });
    }

    #[test]
    fn topics_and_patterns_are_what_the_rules_say(name in dotted(), other in dotted()) {
        let topic = Topic::<()>::named(name.clone());
        prop_assert_eq!(topic.is_ok(), is_topic(&name), "`{}`", name);
        let pattern = Pattern::parse(name.clone());
        prop_assert_eq!(pattern.is_ok(), is_pattern(&name), "`{}`", name);
        let Ok(pattern) = pattern else { return Ok(()) };
        prop_assert_eq!(pattern.has_wildcards(), !is_topic(&name));
        prop_assert_eq!(topic.is_ok(), !pattern.has_wildcards());
        if topic.is_ok() {
            prop_assert!(pattern.matches(&name));
        }
        if is_topic(&other) {
            let [words, topic] = [&name, &other].map(|text| text.split('.').collect::<Vec<_>>());
            prop_assert_eq!(pattern.matches(&other), matches(&words, &topic), "{} {}", name, other);
        }
    }

    #[test]
    fn json_that_is_a_message_reads_back_and_any_other_is_an_error(json in json()) {
        let schema = shop();
        let Ok(body) = schema.from_json("shop.v1.Order", &json) else { return Ok(()) };
        let shown = schema.to_json_string("shop.v1.Order", &body).expect("what was encoded decodes");
        let again = schema.from_json("shop.v1.Order", &shown).expect("what is shown can be read");
        // Maps and NaN keep it from being compared byte by byte.
        prop_assert_eq!(schema.to_json_string("shop.v1.Order", &again).unwrap(), shown);
    }

    #[test]
    fn any_text_is_json_or_an_error(text in any::<String>(), name in text()) {
        drop(shop().from_json("shop.v1.Order", &text));
        drop(shop().from_json(&name, "{}"));
        drop(shop().to_json(&name, text.as_bytes()));
    }

    #[test]
    fn an_address_never_tells_its_secret(
        scheme in select(&["amqp", "amqps", "redis", "rediss", "memory", "http", ""][..]),
        user in "[a-z%@:]{0,6}",
        secret in "[A-Z]{3}s3cr3t[A-Z0-9]{3}",
        // An address may be wrong in any way, also in front of the password.
        rest in prop_oneof!["[a-z0-9:/@,?&#%\\[\\]=.]{0,30}", text()],
        odd in select(&["", " ", "%", "%zz", "[", "\\", "\u{0}"][..]),
    ) {
        for text in [
            format!("{scheme}://{user}:{secret}@{rest}"),
            format!("{scheme}://{user}{odd}:{secret}@{rest}"),
            format!("{scheme}://{user}:{secret}{odd}@{rest}"),
            format!("{scheme}:{odd}//{user}:{secret}@{rest}"),
        ] {
            match text.parse::<BusUrl>() {
                Ok(bus) => {
                    prop_assert!(!shows(&bus, &secret) && !bus.to_string().contains(&secret), "{}", text);
                    let config = Config::default().with_bus(bus);
                    prop_assert!(!shows(&config, &secret), "{}", text);
                }
                Err(error) => {
                    prop_assert!(!shows(&error, &secret) && !error.to_string().contains(&secret), "{}: {}", text, error);
                }
            }
            let vars = [("AGENTBUS_URL", text.as_str())];
            if let Err(error) = Config::from_vars(vars) {
                prop_assert!(!shows(&error, &secret) && !error.to_string().contains(&secret), "{}: {}", text, error);
            }
        }
    }

    #[test]
    fn any_setting_is_read_or_an_error(
        name in select(&[
            "AGENTBUS_URL", "AGENTBUS_PREFETCH", "AGENTBUS_REQUEST_TIMEOUT", "AGENTBUS_EXCHANGE",
            "AGENTBUS_QUEUE_PREFIX", "RABBITMQ_HOST", "RABBITMQ_PORT", "RABBITMQ_PASSWORD",
            "QUEUE_PROVIDER", "AGENTBUS_NONSENSE",
        ][..]),
        value in prop_oneof![text(), "[0-9]{0,25}(ms|s|h|d|KiB)?"],
        other in text(),
    ) {
        drop(Config::from_vars([(name, value.as_str()), ("RABBITMQ_USER", other.as_str())]));
    }
}
