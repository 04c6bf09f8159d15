//! Delays without a plugin: a message travels through one queue for each bit of its delay.
//!
//! Level `n` holds messages for 2^n units of 250 ms. A message enters at the level of its highest
//! bit; its routing key holds all bits, each level's exchange reads one of them and either lets
//! the message wait in the level's queue or sends it straight to the next level. All messages in
//! one queue wait equally long, so none stands behind a longer one. Behind the last level, the
//! delivery exchange routes by the address after the bits.
//!
//! Addresses are bound with exactly one star a bit: `#` would let a queue `b` also have what is
//! meant for `a.b`.

use std::{fmt::Write as _, time::Duration};

use futures::{FutureExt as _, TryFutureExt as _, future::try_join4};
use lapin::{
    ExchangeKind,
    options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};
use tokio::sync::Mutex;

use super::{
    Declare, RabbitOptions,
    arguments::Arguments,
    fault::{Answers, Fault},
    link::Session,
};
use crate::retry::DELAY_UNIT as UNIT;

/// Bits of a delay: 2^28 units are two years.
const LEVELS: u32 = 28;

/// The names of the delay topology, all beginning with the exchange's name.
#[derive(Debug)]
pub(super) struct Delays {
    prefix: String,
    declare: Declare,
    answers: Answers,
    /// Number of the connection on which the levels were last made sure of.
    made_on: Mutex<Option<u64>>,
}

impl Delays {
    pub(super) fn new(options: &RabbitOptions, answers: Answers) -> Self {
        Self {
            prefix: format!("{}.delay.v1", options.exchange),
            declare: options.declare,
            answers,
            made_on: Mutex::default(),
        }
    }

    /// Returns the name of the exchange that hands out what is due.
    pub(super) fn delivery(&self) -> ShortString {
        short(format!("{}.delivery", self.prefix))
    }

    /// Returns the name of the queue that keeps what nobody is bound to when it is due.
    pub(super) fn undeliverable(&self) -> ShortString {
        short(format!("{}.undeliverable", self.prefix))
    }

    /// Tells whether an exchange belongs to the delays, so that its routing keys are no topics.
    pub(super) fn owns(&self, exchange: &str) -> bool {
        exchange.strip_prefix(&self.prefix).is_some_and(|rest| rest.starts_with('.'))
    }

    /// Tells whether a queue is one that messages are delayed in, whatever exchange it belongs to.
    pub(super) fn is_level(queue: &str) -> bool {
        queue.contains(".delay.v")
    }

    fn level(&self, level: u32) -> ShortString {
        short(format!("{}.{level:02}", self.prefix))
    }

    /// Finds exchange and routing key for what is to arrive at `address` after `delay`.
    ///
    /// `None` where the delay is longer than two years.
    pub(super) fn route(&self, delay: Duration, address: &str) -> Option<(ShortString, String)> {
        let units = delay.as_nanos().div_ceil(UNIT.as_nanos());
        let units = u32::try_from(units).ok().filter(|units| *units < 1 << LEVELS)?;
        let entry = units.checked_ilog2().unwrap_or(0);
        Some((self.level(entry), key(units, address)))
    }

    /// Declares what every queue is bound to, and where what nobody is bound to ends.
    pub(super) async fn declare_delivery(&self, channel: &lapin::Channel) -> Result<(), Fault> {
        let undeliverable = self.undeliverable();
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let exchange = channel.exchange_declare(
            undeliverable.clone(),
            ExchangeKind::Fanout,
            durable,
            FieldTable::default(),
        );
        let arguments = Arguments::quorum()
            .int("x-max-length", 100_000)
            .int("x-max-length-bytes", 1 << 30)
            .text("x-overflow", "drop-head");
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        let queue = channel.queue_declare(undeliverable.clone(), options, arguments.into_table());
        let bound = channel.queue_bind(
            undeliverable.clone(),
            undeliverable.clone(),
            short(""),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        // Without it, at-least-once dead-lettering keeps what nobody is bound to and stalls the
        // last level for everybody.
        let arguments = Arguments::none().text("alternate-exchange", undeliverable.as_str());
        let delivery = channel.exchange_declare(
            self.delivery(),
            ExchangeKind::Topic,
            durable,
            arguments.into_table(),
        );
        // All are sent, in this order, before the first answer is waited for.
        let declared = try_join4(exchange, queue.map_ok(drop), bound, delivery).boxed();
        self.answers.within(declared).await.map(drop)
    }

    /// Makes sure of the levels, once a connection.
    pub(super) async fn ensure_levels(&self, session: &Session) -> Result<(), Fault> {
        let mut made_on = self.made_on.lock().await;
        if *made_on == Some(session.number) {
            return Ok(());
        }
        let channel = session.channel().await?;
        for level in 0..LEVELS {
            self.declare_level(&channel, level).await?;
        }
        *made_on = Some(session.number);
        drop(self.answers.within(channel.close(200, short("done"))).await);
        Ok(())
    }

    /// Declares a level, whose next one exists.
    async fn declare_level(&self, channel: &lapin::Channel, level: u32) -> Result<(), Fault> {
        let name = self.level(level);
        let passive = self.declare == Declare::Passive;
        let options = ExchangeDeclareOptions { durable: true, passive, ..Default::default() };
        let exchange = channel.exchange_declare(
            name.clone(),
            ExchangeKind::Topic,
            options,
            FieldTable::default(),
        );
        self.answers.within(exchange).await?;
        if passive {
            return Ok(());
        }
        let next = if level == 0 { self.delivery() } else { self.level(level - 1) };
        let arguments = Arguments::quorum()
            .text("x-dead-letter-strategy", "at-least-once")
            .text("x-overflow", "reject-publish")
            .text("x-dead-letter-exchange", next.as_str())
            .int("x-message-ttl", hold(level));
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        self.answers
            .within(channel.queue_declare(name.clone(), options, arguments.into_table()))
            .await?;
        let wait = channel.queue_bind(
            name.clone(),
            name.clone(),
            short(format!("{}1.#", "*.".repeat((LEVELS - 1 - level) as usize))),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        self.answers.within(wait).await?;
        let pass = channel.exchange_bind(
            next,
            name,
            short(format!("{}0.#", "*.".repeat((LEVELS - 1 - level) as usize))),
            ExchangeBindOptions::default(),
            FieldTable::default(),
        );
        self.answers.within(pass).await
    }
}

/// Returns the key that binds an address to the delivery exchange.
pub(super) fn binding(address: &str) -> String {
    format!("{}{address}", "*.".repeat(LEVELS as usize))
}

/// Returns the address of a queue, for retries.
pub(super) fn queue_address(queue: &str) -> String {
    format!("q.{queue}")
}

/// Returns the address of a topic or pattern, for delayed publishes.
pub(super) fn topic_address(topic: &str) -> String {
    format!("t.{topic}")
}

/// Finds the address behind the bits of a delayed message's routing key.
pub(super) fn address(key: &str) -> Option<&str> {
    let (bits, address) = key.split_at_checked(2 * LEVELS as usize)?;
    let is_bit = |bit: &[u8]| matches!(bit, b"0." | b"1.");
    bits.as_bytes().chunks(2).all(is_bit).then_some(address)
}

fn key(units: u32, address: &str) -> String {
    let mut key = String::with_capacity(2 * LEVELS as usize + address.len());
    for level in (0..LEVELS).rev() {
        let _ = write!(key, "{}.", units >> level & 1);
    }
    key.push_str(address);
    key
}

/// How long a level holds a message, in milliseconds. The highest takes 388 days.
fn hold(level: u32) -> u64 {
    let unit = u64::try_from(UNIT.as_millis()).expect("the unit is a quarter of a second");
    unit << level
}

/// Names of ours are short: the exchange's length is checked beforehand.
fn short(text: impl Into<String>) -> ShortString {
    ShortString::try_new(text).expect("a name of at most 220 bytes and a short suffix")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::broker::{MAX_DELAY, rabbitmq::fault::Doubt};

    fn delays() -> Delays {
        let answers = Answers::new(Duration::from_secs(1), Doubt::default());
        Delays::new(&RabbitOptions::default(), answers)
    }

    fn route(millis: u64) -> Option<(String, String)> {
        let (exchange, key) = delays().route(Duration::from_millis(millis), "q.data")?;
        Some((exchange.to_string(), key))
    }

    #[test]
    fn a_delay_enters_at_its_highest_bit() {
        for (millis, level, bits) in [
            (0, "00", "0.0.0.0."),
            (1, "00", "0.0.0.1."),
            (250, "00", "0.0.0.1."),
            (251, "01", "0.0.1.0."),
            (2500, "03", "1.0.1.0."),
        ] {
            let (exchange, key) = route(millis).unwrap();
            assert_eq!(exchange, format!("agentbus.events.delay.v1.{level}"), "{millis}");
            assert_eq!(key, format!("{}{bits}q.data", "0.".repeat(24)), "{millis}");
        }
    }

    #[test]
    fn the_longest_delay_is_two_years() {
        let longest = ((1 << 28) - 1) * 250;
        assert_eq!(route(longest).unwrap().0, "agentbus.events.delay.v1.27");
        assert_eq!(route(longest + 1), None);
        assert_eq!(delays().route(Duration::MAX, "q.data"), None);
    }

    #[test]
    fn all_bits_together_are_the_longest_delay() {
        assert!(delays().route(MAX_DELAY, "q.data").is_some());
        assert!(delays().route(MAX_DELAY + Duration::from_nanos(1), "q.data").is_none());
    }

    proptest! {
        /// The levels a message waits in, added up, are its delay rounded up to the unit.
        #[test]
        fn a_scheduled_message_is_exact_to_the_unit(
            bits in 0..=45_u32,
            micros in 0..MAX_DELAY.as_secs() * 1_000_000,
        ) {
            // As many short delays as long ones.
            let delay = Duration::from_micros(micros >> bits);
            let (exchange, key) = delays().route(delay, "q.data").unwrap();
            let bits: Vec<&str> = key.split('.').take(LEVELS as usize).collect();
            let waits = (0..LEVELS).rev().zip(bits).filter(|(_, bit)| *bit == "1");
            let levels: Vec<u32> = waits.map(|(level, _)| level).collect();
            let held = Duration::from_millis(levels.iter().copied().map(hold).sum());
            prop_assert!(delay <= held && held < delay + UNIT, "{delay:?} is held {held:?}");
            let entry = levels.first().copied().unwrap_or(0);
            prop_assert_eq!(exchange, delays().level(entry));
        }
    }

    #[test]
    fn levels_hold_twice_as_long_as_the_one_below() {
        assert_eq!(hold(0), 250);
        assert_eq!(hold(3), 2000);
        assert_eq!(hold(27), (1 << 27) * 250);
    }

    #[test]
    fn the_longest_name_fits() {
        let name = "n".repeat(crate::contract::MAX_NAME_BYTES);
        assert_eq!(binding(&queue_address(&name)).len(), 255);
        assert_eq!(key(1, &topic_address(&name)).len(), 255);
    }

    #[test]
    fn the_address_is_behind_the_bits() {
        let (_, key) = route(2500).unwrap();
        assert_eq!(address(&key), Some("q.data"));
        for other in ["", "q.data", &key[2..], &key.replace('1', "2"), &"ä".repeat(40)] {
            assert_eq!(address(other), None, "{other}");
        }
    }

    #[test]
    fn only_its_own_exchanges_are_its_own() {
        assert!(delays().owns("agentbus.events.delay.v1.delivery"));
        assert!(!delays().owns("agentbus.events"));
        assert!(!delays().owns("agentbus.events.delay.v12"));
    }
}
