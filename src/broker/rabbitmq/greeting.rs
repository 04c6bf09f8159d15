//! What the broker says of itself first of all, which lapin keeps to itself.

use std::sync::{Arc, Mutex, PoisonError};

use crate::broker::Product;

/// Class and method of `connection.start`.
const CONNECTION_START: [u8; 4] = [0, 10, 0, 10];

/// What was said on the newest connection of a pool.
#[derive(Clone, Debug, Default)]
pub(super) struct Greeting(Arc<Mutex<Option<Product>>>);

impl Greeting {
    /// Listens to the payload of a method frame.
    pub(super) fn hear(&self, payload: &[u8]) {
        if let Some(arguments) = payload.strip_prefix(&CONNECTION_START)
            && let Some(product) = product(arguments)
        {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(product);
        }
    }

    pub(super) fn product(&self) -> Option<Product> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Finds name and version among the server's properties; `None` where they are not there as text.
fn product(arguments: &[u8]) -> Option<Product> {
    // Two bytes say which AMQP it speaks.
    let (mut table, _) = long(arguments.get(2..)?)?;
    let (mut name, mut version) = (None, None);
    while !table.is_empty() {
        let (key, rest) = short(table)?;
        let (&kind, rest) = rest.split_first()?;
        let (value, rest) = match kind {
            b'S' | b'x' | b'F' | b'A' => long(rest)?,
            b't' | b'b' | b'B' => rest.split_at_checked(1)?,
            b's' | b'u' | b'U' => rest.split_at_checked(2)?,
            b'I' | b'i' | b'f' => rest.split_at_checked(4)?,
            b'l' | b'L' | b'd' | b'T' => rest.split_at_checked(8)?,
            b'D' => rest.split_at_checked(5)?,
            b'V' => rest.split_at_checked(0)?,
            _ => return None,
        };
        let text = || (kind == b'S').then(|| String::from_utf8_lossy(value).into_owned());
        match key {
            b"product" => name = text(),
            b"version" => version = text(),
            _ => {}
        }
        table = rest;
    }
    Some(Product { name: name?, version: version? })
}

/// Takes what is preceded by its length in a byte.
fn short(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    rest.split_at_checked(length.into())
}

/// Takes what is preceded by its length in four bytes.
fn long(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn greeting() -> Vec<u8> {
        let mut table = Vec::new();
        let mut field = |key: &str, kind: u8, value: &[u8]| {
            table.push(u8::try_from(key.len()).unwrap());
            table.extend_from_slice(key.as_bytes());
            table.push(kind);
            if matches!(kind, b'S' | b'F') {
                table.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
            }
            table.extend_from_slice(value);
        };
        field("capabilities", b'F', b"\x03acks");
        field("product", b'S', b"RabbitMQ");
        field("direct", b't', b"\x01");
        field("version", b'S', b"3.13.7");
        let mut payload = CONNECTION_START.to_vec();
        payload.extend_from_slice(&[0, 9]);
        payload.extend_from_slice(&u32::try_from(table.len()).unwrap().to_be_bytes());
        payload.extend_from_slice(&table);
        payload.extend_from_slice(b"\0\0\0\x05PLAIN\0\0\0\x05en_US");
        payload
    }

    #[test]
    fn name_and_version_are_heard() {
        let heard = Greeting::default();
        heard.hear(b"\0\x3c\0\x3c");
        assert_eq!(heard.product(), None);
        heard.hear(&greeting());
        assert_eq!(heard.product().unwrap().to_string(), "RabbitMQ 3.13.7");
    }

    proptest! {
        #[test]
        fn a_damaged_greeting_is_no_panic(at in 0_usize..60, byte in any::<u8>(), end in 0_usize..99) {
            let mut payload = greeting();
            payload[at] = byte;
            payload.truncate(end);
            Greeting::default().hear(&payload);
        }
    }
}
