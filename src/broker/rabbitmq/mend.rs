//! Makes what other programs sent readable to lapin.
//!
//! AMQP does not say what a short string is written in. lapin takes only UTF-8, and ends the
//! connection over anything else: the broker would deliver the same message again, for ever.

/// How deep tables and arrays may be nested in a header; lapin reads them by recursion, and
/// enough of them would end the process.
const DEEPEST: u8 = 16;

const CONNECTION_CLOSE: [u8; 4] = method(10, 50);
const CHANNEL_CLOSE: [u8; 4] = method(20, 40);
const BASIC_RETURN: [u8; 4] = method(60, 50);
const BASIC_DELIVER: [u8; 4] = method(60, 60);
const BASIC_GET_OK: [u8; 4] = method(60, 71);

const fn method(class: u8, method: u8) -> [u8; 4] {
    [0, class, 0, method]
}

/// Puts a `?` for each byte that is not UTF-8, where the payload of a method frame has names that
/// are not ours, or texts that the broker may have cut inside a character.
///
/// The length stays; what is malformed in any other way is left to lapin to report.
pub(super) fn mend_method(payload: &mut [u8]) {
    let Some((id, arguments)) = payload.split_first_chunk_mut() else { return };
    let mut fields = Fields(arguments);
    // None of them being complete is as good as all.
    let _malformed = match *id {
        CONNECTION_CLOSE | CHANNEL_CLOSE => fields.skip(2).and_then(|()| fields.shorts(1)),
        BASIC_RETURN => fields.skip(2).and_then(|()| fields.shorts(3)),
        BASIC_DELIVER => {
            fields.shorts(1).and_then(|()| fields.skip(9)).and_then(|()| fields.shorts(2))
        }
        BASIC_GET_OK => fields.skip(9).and_then(|()| fields.shorts(2)),
        _ => None,
    };
}

/// Does the same for the properties of a message, in the payload of a header frame; what is
/// nested too deeply becomes bytes.
pub(super) fn mend_header(payload: &mut [u8]) {
    let _malformed = Fields(payload).properties();
}

/// What is not read yet; `None` of a method means that it ended too soon.
struct Fields<'a>(&'a mut [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a mut [u8]> {
        let (taken, rest) = std::mem::take(&mut self.0).split_at_mut_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn skip(&mut self, length: usize) -> Option<()> {
        self.take(length).map(drop)
    }

    /// Takes what is preceded by its length in four bytes.
    fn long(&mut self) -> Option<Fields<'a>> {
        let length = self.take(4)?.try_into().ok().map(u32::from_be_bytes)?;
        self.take(usize::try_from(length).ok()?).map(Fields)
    }

    fn shorts(&mut self, count: usize) -> Option<()> {
        for _ in 0..count {
            let length = self.take(1)?[0];
            mend_text(self.take(length.into())?);
        }
        Some(())
    }

    fn properties(&mut self) -> Option<()> {
        // Class, weight and the size of the body.
        self.skip(12)?;
        let flags = self.take(2)?.try_into().ok().map(u16::from_be_bytes)?;
        for property in (0..16).filter(|property| flags & (0x8000 >> property) != 0) {
            match property {
                2 => self.long()?.table(0)?,
                // Delivery mode and priority.
                3 | 4 => self.skip(1)?,
                // The timestamp.
                9 => self.skip(8)?,
                14.. => return None,
                _ => self.shorts(1)?,
            }
        }
        Some(())
    }

    fn table(mut self, depth: u8) -> Option<()> {
        while !self.0.is_empty() {
            self.shorts(1)?;
            self.value(depth)?;
        }
        Some(())
    }

    fn array(mut self, depth: u8) -> Option<()> {
        while !self.0.is_empty() {
            self.value(depth)?;
        }
        Some(())
    }

    fn value(&mut self, depth: u8) -> Option<()> {
        let kind = &mut self.take(1)?[0];
        if depth == DEEPEST && matches!(kind, b'A' | b'F') {
            *kind = b'x';
        }
        match *kind {
            b'V' => Some(()),
            b't' | b'b' | b'B' => self.skip(1),
            b's' | b'U' | b'u' => self.skip(2),
            b'I' | b'i' | b'f' => self.skip(4),
            b'D' => self.skip(5),
            b'L' | b'l' | b'd' | b'T' => self.skip(8),
            b'S' | b'x' => self.long().map(drop),
            b'A' => self.long()?.array(depth + 1),
            b'F' => self.long()?.table(depth + 1),
            _ => None,
        }
    }
}

fn mend_text(mut text: &mut [u8]) {
    while let Err(error) = std::str::from_utf8(text) {
        let rest = &mut text[error.valid_up_to()..];
        let (wrong, rest) = rest.split_at_mut(error.error_len().unwrap_or(rest.len()));
        wrong.fill(b'?');
        text = rest;
    }
}

#[cfg(test)]
mod tests {
    use lapin::{
        protocol::basic::parse_properties,
        types::{AMQPValue, FieldTable},
    };

    use super::*;

    /// A header frame's payload with one property, which is a table.
    fn header(table: &[u8]) -> Vec<u8> {
        let mut payload = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0].to_vec();
        payload.extend(long(table));
        payload
    }

    fn long(bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap();
        [&length.to_be_bytes(), bytes].concat()
    }

    fn headers(payload: &[u8]) -> FieldTable {
        let (rest, properties) = parse_properties(&payload[12..]).unwrap();
        assert!(rest.is_empty());
        properties.headers().clone().unwrap()
    }

    #[test]
    fn each_byte_that_is_not_utf8_becomes_a_question_mark() {
        let texts: [(&[u8], &str); 6] = [
            (b"", ""),
            ("ä€𝄞".as_bytes(), "ä€𝄞"),
            (b"\xff", "?"),
            (b"a\xffb\xc3", "a?b?"),
            (b"\xe2\x82", "??"),
            (b"\xc3\xa4\xed\xa0\x80", "ä???"),
        ];
        for (text, mended) in texts {
            let mut text = text.to_vec();
            mend_text(&mut text);
            assert_eq!(text, mended.as_bytes());
        }
    }

    #[test]
    fn all_texts_among_the_properties_are_mended() {
        let mut payload = header(&[]);
        payload[12..].fill(0);
        payload.truncate(12);
        payload.extend([0xff, 0xfc]);
        let text = [2, 0xff, b'x'];
        let table = [&text[..], b"V"].concat();
        payload.extend([text, text].concat());
        payload.extend(long(&table));
        payload.extend([2, 5]);
        payload.extend([text; 4].concat());
        payload.extend([0xff; 8]);
        payload.extend([text; 4].concat());
        let mut mended = payload.clone();
        mend_header(&mut mended);
        assert_eq!(mended.len(), payload.len());
        let (rest, properties) = parse_properties(&mended[12..]).unwrap();
        assert!(rest.is_empty());
        assert_eq!(properties.cluster_id().as_ref().unwrap().as_str(), "?x");
        assert_eq!(properties.reply_to().as_ref().unwrap().as_str(), "?x");
        assert_eq!(properties.timestamp(), &Some(u64::MAX));
        assert!(properties.headers().as_ref().unwrap().contains_key("?x"));
    }

    #[test]
    fn values_stay_as_they_are() {
        let bytes = [&b"\x01aS"[..], &long(&[0xff]), b"\x01bx", &long(&[0xfe])].concat();
        let mut deep = b"\x01cF".to_vec();
        deep.extend(long(&[&b"\x02\xff\xffA"[..], &long(b"t\x01VD\x02\x00\x00\x00\xff")].concat()));
        let mut payload = header(&[bytes, deep].concat());
        mend_header(&mut payload);
        let headers = headers(&payload);
        assert_eq!(headers.inner()["a"], AMQPValue::LongString(vec![0xff].into()));
        assert_eq!(headers.inner()["b"], AMQPValue::ByteArray(vec![0xfe].into()));
        let AMQPValue::FieldTable(deep) = &headers.inner()["c"] else { panic!("{headers:?}") };
        let AMQPValue::FieldArray(array) = &deep.inner()["??"] else { panic!("{deep:?}") };
        assert_eq!(array.as_slice()[0], AMQPValue::Boolean(true));
        assert_eq!(array.as_slice().len(), 3);
    }

    #[test]
    fn nesting_that_would_exhaust_the_stack_becomes_bytes() {
        let mut value = b"V".to_vec();
        for _ in 0..20_000 {
            value = [&b"A"[..], &long(&value)].concat();
        }
        let mut payload = header(&[&b"\x01a"[..], &value].concat());
        mend_header(&mut payload);
        let mut value = &headers(&payload).inner()["a"].clone();
        let mut depth = 0;
        while let AMQPValue::FieldArray(array) = value {
            (value, depth) = (&array.as_slice()[0], depth + 1);
        }
        assert_eq!(depth, DEEPEST);
        assert!(matches!(value, AMQPValue::ByteArray(_)), "{value:?}");
    }

    #[test]
    fn names_in_methods_are_mended() {
        let cases: [(&[u8], &[u8]); 4] = [
            (
                b"\0\x3c\0\x3c\x01\xff\0\0\0\0\0\0\0\xff\x01\x01\xfe\x02a\xc3",
                b"\0\x3c\0\x3c\x01?\0\0\0\0\0\0\0\xff\x01\x01?\x02a?",
            ),
            (
                b"\0\x3c\0\x32\x01\x38\x01\xff\x01\xff\x01\xff",
                b"\0\x3c\0\x32\x01\x38\x01?\x01?\x01?",
            ),
            (
                b"\0\x14\0\x28\x01\x94\x02a\xc3\0\x32\0\x0a",
                b"\0\x14\0\x28\x01\x94\x02a?\0\x32\0\x0a",
            ),
            // A confirmation has no names.
            (b"\0\x3c\0\x50\0\0\0\0\0\0\0\xff\0", b"\0\x3c\0\x50\0\0\0\0\0\0\0\xff\0"),
        ];
        for (payload, expected) in cases {
            let mut payload = payload.to_vec();
            mend_method(&mut payload);
            assert_eq!(payload, expected);
        }
    }

    #[test]
    fn what_ends_too_soon_is_left_alone() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let mut payload: Vec<u8> = (0..rng.usize(0..60)).map(|_| rng.u8(..)).collect();
            if let Some(id) = payload.first_chunk_mut() {
                *id = BASIC_DELIVER;
            }
            let length = payload.len();
            mend_method(&mut payload);
            mend_header(&mut payload);
            assert_eq!(payload.len(), length);
        }
    }
}
