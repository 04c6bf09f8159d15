//! Reply addresses: a queue, or an inbox at the broker.
//!
//! An inbox's address is `amq.rabbitmq.reply-to.`, the broker's name for a channel (an Erlang
//! process id in base64), a dot, and a key. RabbitMQ 3.10 does not survive decoding a forged one:
//! it closes the connection of whoever replies, with everybody else's messages on it. So
//! addresses are checked here; whether the node is one of the broker's is [`ReplyNodes`]' part.
//!
//! [`ReplyNodes`]: super::reply_nodes::ReplyNodes

use base64::{Engine, engine::general_purpose::STANDARD};

/// The address that the broker replaces, in a request, with one of its own.
pub(super) const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// How the names begin that the broker makes for queues, as many requesters' queues have.
const GENERATED: &str = "amq.gen-";

/// What a reply goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReplyAddress {
    /// An inbox: the broker drops the reply if it is gone.
    Inbox(InboxAddress),
    /// A queue.
    Queue,
}

/// The address of an inbox, well made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InboxAddress {
    process: String,
    node: String,
}

impl InboxAddress {
    /// Returns the node's name, as the broker shortens it.
    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// Returns an address of the same process with a key that is nobody's.
    pub(super) fn to_nobody(&self) -> String {
        format!("{REPLY_TO}.{}.{}", self.process, STANDARD.encode([0; 16]))
    }
}

impl ReplyAddress {
    /// Checks an address, which came from outside.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with it, in words.
    pub(super) fn parse(address: &str) -> Result<Self, String> {
        if address == REPLY_TO {
            return Err(format!(
                "`{REPLY_TO}` is no address: it stands for one that the broker fills in on requests"
            ));
        }
        let inbox = address.strip_prefix(REPLY_TO).and_then(|rest| rest.strip_prefix('.'));
        match inbox {
            Some(rest) => inbox_address(rest).map(Self::Inbox),
            None if address.starts_with(GENERATED) => Some(Self::Queue),
            None if address.is_empty() || address.starts_with("amq.") => None,
            None => Some(Self::Queue),
        }
        .ok_or_else(|| format!("`{address}` is no address that replies can go to"))
    }
}

fn inbox_address(rest: &str) -> Option<InboxAddress> {
    let (process, key) = rest.split_once('.')?;
    STANDARD.decode(key).ok().filter(|key| key.len() == 16)?;
    let node = node_of(&STANDARD.decode(process).ok()?)?.to_owned();
    Some(InboxAddress { process: process.to_owned(), node })
}

/// Returns the node of an external Erlang term that is a process id, where the node is named as
/// brokers name themselves here: a word, `@`, a number.
fn node_of(term: &[u8]) -> Option<&str> {
    const VERSION: u8 = 131;
    /// Tags of process ids, with the bytes after the node: id, serial and creation.
    const PROCESS_IDS: [(u8, usize); 2] = [(88, 4 + 4 + 4), (103, 4 + 4 + 1)];
    const SHORT_ATOMS: [u8; 2] = [119, 115];
    const LONG_ATOMS: [u8; 2] = [118, 100];

    let [VERSION, tag, atom, rest @ ..] = term else { return None };
    let (_, after) = PROCESS_IDS.iter().find(|(known, _)| known == tag)?;
    let (length, rest) = match rest {
        [length, rest @ ..] if SHORT_ATOMS.contains(atom) => (usize::from(*length), rest),
        [high, low, rest @ ..] if LONG_ATOMS.contains(atom) => {
            (usize::from(u16::from_be_bytes([*high, *low])), rest)
        }
        _ => return None,
    };
    let node = rest.get(..length).filter(|_| rest.len() == length + after)?;
    let node = std::str::from_utf8(node).ok()?;
    let (name, number) = node.split_once('@')?;
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (!name.is_empty()
        && name.bytes().all(is_word)
        && (1..=10).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit()))
    .then_some(node)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As RabbitMQ 3.10 makes them: a process of the node `reply@68781334`.
    fn term(node: &str) -> Vec<u8> {
        let mut term = vec![131, 88, 119, u8::try_from(node.len()).unwrap()];
        term.extend(node.bytes());
        term.extend([0; 12]);
        term
    }

    fn address(term: &[u8], key: &[u8]) -> String {
        format!("{REPLY_TO}.{}.{}", STANDARD.encode(term), STANDARD.encode(key))
    }

    #[test]
    fn an_inbox_and_a_queue_are_addresses() {
        let inbox = address(&term("reply@68781334"), &[7; 16]);
        let Ok(ReplyAddress::Inbox(parsed)) = ReplyAddress::parse(&inbox) else { panic!() };
        assert_eq!(parsed.node(), "reply@68781334");
        assert_eq!(parsed.to_nobody(), address(&term("reply@68781334"), &[0; 16]));
        let documented = "g1h2AA5yZXBseUA2ODc4MTMzNAAAcEoAAAAAaS8eQg==";
        let inbox = format!("{REPLY_TO}.{documented}.{}", STANDARD.encode([7; 16]));
        assert!(matches!(ReplyAddress::parse(&inbox), Ok(ReplyAddress::Inbox(_))));
        for queue in ["data", "data.7f", "größe", "amq.gen-ineSeiPuHRQXtqf9j-tBew"] {
            assert_eq!(ReplyAddress::parse(queue), Ok(ReplyAddress::Queue), "{queue}");
        }
    }

    #[test]
    fn what_is_forged_is_no_address() {
        let good = term("reply@68781334");
        let mut cut = good.clone();
        cut.pop();
        let mut atom = good.clone();
        atom[1] = 119;
        for forged in [
            String::new(),
            REPLY_TO.to_owned(),
            format!("{REPLY_TO}."),
            format!("{REPLY_TO}x"),
            format!("{REPLY_TO}.a.b"),
            "amq.rabbitmq.log".to_owned(),
            "amq.gen".to_owned(),
            address(&good, &[7; 15]),
            address(&good, &[]),
            address(&cut, &[7; 16]),
            address(&atom, &[7; 16]),
            address(&term("rabbit@host"), &[7; 16]),
            address(&term("reply@"), &[7; 16]),
            address(&[], &[7; 16]),
            format!("{}.x", address(&good, &[7; 16])),
        ] {
            assert!(ReplyAddress::parse(&forged).is_err(), "{forged}");
        }
    }

    proptest! {
        #[test]
        fn no_text_or_term_is_too_odd(
            text in ".*",
            bytes in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            drop(ReplyAddress::parse(&text));
            drop(ReplyAddress::parse(&format!("{REPLY_TO}.{text}")));
            let mut term = vec![131, 88];
            term.extend(bytes);
            drop(ReplyAddress::parse(&address(&term, &[7; 16])));
        }
    }
}
