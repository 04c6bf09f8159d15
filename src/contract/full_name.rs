//! The protobuf full name of a message, known at compile time.

/// Returns the protobuf full name of `M`, such as `market.v1.Question`.
///
/// Unlike [`prost::Name::full_name`] this allocates nothing: the name is put together by the
/// compiler, which rejects one of more than 255 bytes (AMQP carries it in a short string).
///
/// ```
/// assert_eq!(agentbus::contract::full_name::<()>(), "google.protobuf.Empty");
/// ```
#[must_use]
pub const fn full_name<M: prost::Name>() -> &'static str {
    FullName::<M>::TEXT
}

const CAPACITY: usize = 256;

struct FullName<M>(std::marker::PhantomData<M>);

impl<M: prost::Name> FullName<M> {
    const BYTES: ([u8; CAPACITY], usize) = joined(M::PACKAGE, M::NAME);
    const TEXT: &'static str = {
        let (bytes, length) = &Self::BYTES;
        match std::str::from_utf8(bytes.split_at(*length).0) {
            Ok(text) => text,
            Err(_) => panic!("protobuf names are ASCII"),
        }
    };
}

const fn joined(package: &str, name: &str) -> ([u8; CAPACITY], usize) {
    assert!(
        package.len() + 1 + name.len() < CAPACITY,
        "a message's full name has at most 255 bytes"
    );
    let mut bytes = [0; CAPACITY];
    let mut length = 0;
    let mut i = 0;
    while i < package.len() {
        bytes[length] = package.as_bytes()[i];
        length += 1;
        i += 1;
    }
    if length > 0 {
        bytes[length] = b'.';
        length += 1;
    }
    let mut i = 0;
    while i < name.len() {
        bytes[length] = name.as_bytes()[i];
        length += 1;
        i += 1;
    }
    (bytes, length)
}

#[cfg(test)]
mod tests {
    use prost::Name;

    use super::*;

    #[derive(Clone, PartialEq, prost::Message)]
    struct Bare {}

    impl Name for Bare {
        const NAME: &'static str = "Outer.Bare";
        const PACKAGE: &'static str = "";
    }

    #[test]
    fn it_is_what_prost_would_allocate() {
        assert_eq!(full_name::<()>(), <()>::full_name());
        assert_eq!(full_name::<Bare>(), "Outer.Bare");
    }
}
