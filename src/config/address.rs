//! What `amqp:` and `redis:` addresses have in common: hosts, user, password, path and query.

use super::bus_url::BusUrlError;
use std::fmt;

/// A password that neither `Debug` nor `Display` shows.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(String);

impl Secret {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// One server of a bus: a host name or address, and a port where one was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

/// An address as it was written, parts that were left out included: those can still be filled from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) tls: bool,
    pub(super) servers: Vec<Server>,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) path: Option<String>,
    pub(super) query: Vec<(String, String)>,
}

impl Address {
    /// Returns the address of one server, everything else left out.
    pub(super) fn of(server: Server) -> Self {
        Self {
            tls: false,
            servers: vec![server],
            username: None,
            password: None,
            path: None,
            query: Vec::new(),
        }
    }

    /// Parses an address in the comma separated forms `scheme://user:password@host1:1,host2:2/path?a=b` and
    /// `scheme://host1,scheme://host2`. `schemes` are the plain scheme and the one with TLS.
    pub(super) fn parse(text: &str, schemes: [&'static str; 2]) -> Result<Self, BusUrlError> {
        let mut whole: Option<Self> = None;
        for url in split_urls(text, schemes) {
            let next = Self::parse_one(url, schemes)?;
            match &mut whole {
                None => whole = Some(next),
                Some(whole) => whole.join(next)?,
            }
        }
        whole.ok_or(BusUrlError::Host)
    }

    fn parse_one(url: &str, [plain, with_tls]: [&'static str; 2]) -> Result<Self, BusUrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(BusUrlError::Scheme)?;
        let tls = scheme.eq_ignore_ascii_case(with_tls);
        if !tls && !scheme.eq_ignore_ascii_case(plain) {
            return Err(BusUrlError::MixedSchemes);
        }
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        // A raw `/`, `?` or `#` in a password ends the authority early; what follows would then be shown as a virtual
        // host. The `@` that comes too late gives it away.
        if tail.contains(['@', '#']) {
            return Err(BusUrlError::Unencoded);
        }
        let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
        let (user_info, hosts) = match authority.rsplit_once('@') {
            Some((user_info, hosts)) => (Some(user_info), hosts),
            None => (None, authority),
        };
        let (username, password) = match user_info.map(|text| (text, text.split_once(':'))) {
            None => (None, None),
            Some((user, None)) => (decode_stated(user)?, None),
            Some((_, Some((user, password)))) => {
                (decode_stated(user)?, Some(Secret::new(decode(password)?)))
            }
        };
        Ok(Self {
            tls,
            servers: hosts.split(',').map(Server::parse).collect::<Result<_, _>>()?,
            username,
            password,
            path: decode_stated(path.strip_prefix('/').unwrap_or(path))?,
            query: query
                .split('&')
                .filter(|pair| !pair.is_empty())
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    Ok((decode(key)?, decode(value)?))
                })
                .collect::<Result<_, BusUrlError>>()?,
        })
    }

    /// Adds the servers of `next`, another address of the same list. What it leaves out it inherits; what it says must
    /// be the same.
    pub(super) fn join(&mut self, next: Self) -> Result<(), BusUrlError> {
        fn agree<T: PartialEq>(first: &mut Option<T>, next: Option<T>) -> bool {
            match (&first, next) {
                (_, None) => true,
                (Some(first), Some(next)) => *first == next,
                (None, next) => {
                    *first = next;
                    true
                }
            }
        }
        let agrees = self.tls == next.tls
            && agree(&mut self.username, next.username)
            && agree(&mut self.password, next.password)
            && agree(&mut self.path, next.path)
            && (next.query.is_empty() || self.query.is_empty() || self.query == next.query);
        if !agrees {
            return Err(BusUrlError::HostsDiffer);
        }
        if self.query.is_empty() {
            self.query = next.query;
        }
        self.servers.extend(next.servers);
        Ok(())
    }

    /// Returns the value of a query parameter, parsed. The last one counts where it is written twice.
    pub(super) fn parameter<T>(
        &self,
        name: &'static str,
        allowed: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, BusUrlError> {
        let stated = self.query.iter().rev().find(|(key, _)| key == name);
        let value =
            stated.map(|(_, value)| parse(value).ok_or(BusUrlError::Parameter { name, allowed }));
        value.transpose()
    }

    /// Refuses query parameters that are not among `known`: one that is silently ignored might be a wish for safety.
    pub(super) fn allow_parameters(
        &self,
        known: &'static [&'static str],
    ) -> Result<(), BusUrlError> {
        if self.query.iter().all(|(key, _)| known.contains(&key.as_str())) {
            return Ok(());
        }
        Err(BusUrlError::UnknownParameter { allowed: known })
    }

    /// Writes `user:***@host1:1,host2`: what was stated, but for the password and for ports equal to `default_port`.
    pub(super) fn write_masked(
        &self,
        f: &mut fmt::Formatter<'_>,
        default_port: u16,
    ) -> fmt::Result {
        let user = Encoded(self.username.as_deref().unwrap_or_default());
        match (&self.username, &self.password) {
            (None, None) => {}
            (_, None) => write!(f, "{user}@")?,
            (_, Some(_)) => write!(f, "{user}:***@")?,
        }
        for (index, server) in self.servers.iter().enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { "," }, server.host)?;
            match server.port {
                Some(port) if port != default_port => write!(f, ":{port}")?,
                _ => {}
            }
        }
        Ok(())
    }
}

impl Server {
    pub(super) fn parse(text: &str) -> Result<Self, BusUrlError> {
        let colon = text.rfind(':').filter(|&at| !text[at..].contains(']'));
        let (host, port) = match colon {
            Some(at) => (&text[..at], Some(parse_port(&text[at + 1..]).ok_or(BusUrlError::Port)?)),
            None => (text, None),
        };
        Ok(Self { host: parse_host(host)?, port })
    }
}

/// Parses a host: a name, an IPv4 address, or an IPv6 address in brackets.
pub(super) fn parse_host(text: &str) -> Result<String, BusUrlError> {
    let host = url::Host::parse(text).map_err(|_| BusUrlError::Host)?;
    Ok(host.to_string())
}

/// Parses a port, 1 to 65535.
pub(super) fn parse_port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|&port| port != 0)
}

/// Splits `a://x,a://y` before each `,a://`, so that commas elsewhere stay where they are.
fn split_urls<'a>(text: &'a str, schemes: [&str; 2]) -> Vec<&'a str> {
    let starts = |rest: &str| {
        schemes.iter().any(|scheme| {
            rest.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
                && rest[scheme.len()..].starts_with("://")
        })
    };
    let mut urls = Vec::new();
    let mut from = 0;
    for (comma, _) in text.match_indices(',') {
        let rest = text[comma + 1..].trim_start();
        if starts(rest) {
            urls.push(text[from..comma].trim());
            from = text.len() - rest.len();
        }
    }
    urls.push(text[from..].trim());
    urls
}

fn decode_stated(text: &str) -> Result<Option<String>, BusUrlError> {
    if text.is_empty() { Ok(None) } else { decode(text).map(Some) }
}

/// Decodes `%41`. A `%` without two hexadecimal digits is an error, since it is most likely a raw one in a password.
pub(super) fn decode(text: &str) -> Result<String, BusUrlError> {
    let digit = |byte: Option<&u8>| byte.and_then(|&byte| char::from(byte).to_digit(16));
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let pair = digit(bytes.get(at + 1)).zip(digit(bytes.get(at + 2)));
            let value = pair.and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
            decoded.push(value.ok_or(BusUrlError::Percent)?);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(decoded).map_err(|_| BusUrlError::Percent)
}

/// Text written with everything percent-encoded that has a meaning in an address.
pub(super) struct Encoded<'a>(pub(super) &'a str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in self.0.as_bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                write!(f, "{}", char::from(byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AMQP: [&str; 2] = ["amqp", "amqps"];

    #[test]
    fn raw_percent_is_an_error() {
        for text in ["%", "%4", "%zz", "100%", "%ff"] {
            assert_eq!(decode(text), Err(BusUrlError::Percent), "{text}");
        }
    }

    #[test]
    fn comma_in_a_password_splits_nothing() {
        let address = Address::parse("amqp://u:a,b@h1,h2", AMQP).expect("an address");
        assert_eq!(address.password, Some(Secret::new("a,b")));
        assert_eq!(address.servers.len(), 2);
    }

    #[test]
    fn raw_at_sign_in_a_password_is_understood() {
        let address = Address::parse("amqp://u:p@ss@host", AMQP).expect("an address");
        assert_eq!(address.password, Some(Secret::new("p@ss")));
        assert_eq!(address.servers[0].host, "host");
    }

    #[test]
    fn raw_slash_question_mark_or_hash_in_a_password_is_an_error() {
        for text in ["amqp://u:p/s@h", "amqp://u:p?s@h", "amqp://u:p#s@h", "amqp://u:p@s/t@h"] {
            assert_eq!(Address::parse(text, AMQP), Err(BusUrlError::Unencoded), "{text}");
        }
    }

    #[test]
    fn ipv6_hosts_keep_their_brackets() {
        let server = Server::parse("[::1]:5673").expect("a server");
        assert_eq!((server.host.as_str(), server.port), ("[::1]", Some(5673)));
        assert_eq!(Server::parse("[::1]").expect("a server").port, None);
    }

    #[test]
    fn host_names_may_have_underscores_as_those_of_containers_do() {
        assert_eq!(parse_host("my_rabbit").as_deref(), Ok("my_rabbit"));
    }

    #[test]
    fn empty_host_is_an_error() {
        for text in ["amqp://", "amqp://u:p@", "amqp://h1,,h2", "amqp://:5672"] {
            assert_eq!(Address::parse(text, AMQP), Err(BusUrlError::Host), "{text}");
        }
    }

    proptest! {
        #[test]
        fn encoding_and_decoding_give_the_text_back(text in any::<String>()) {
            prop_assert_eq!(decode(&Encoded(&text).to_string()), Ok(text));
        }

        #[test]
        fn any_password_survives_when_it_is_encoded(password in any::<String>()) {
            let text = format!("amqp://u:{}@h/v", Encoded(&password));
            let address = Address::parse(&text, AMQP).expect("an address");
            prop_assert_eq!(address.password, Some(Secret::new(password)));
        }

        #[test]
        fn no_text_panics(text in any::<String>(), tail in "[a-z:/@,?&#%\\[\\]0-9]{0,40}") {
            let _ = Address::parse(&text, AMQP);
            let _ = Address::parse(&format!("amqp://{tail}"), AMQP);
        }
    }
}
