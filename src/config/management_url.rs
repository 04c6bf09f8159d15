//! Where RabbitMQ's management API is.

use std::{fmt, str::FromStr};

use url::Url;

use super::address::decode;

/// Address of RabbitMQ's management API, such as `http://user:password@rabbit:15672`.
///
/// Tools use it to find out what the messaging protocol does not tell; agents do not need it. Without
/// a user, that of the bus is meant. `Display` and `Debug` never show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct ManagementUrl {
    /// Without user and password.
    base: Url,
    credentials: Option<(String, String)>,
}

/// Text that is not the address of a management API. It is not shown, as it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the address of a management API looks like `http://user:password@host:15672`")]
pub struct InvalidManagementUrl;

impl ManagementUrl {
    /// Returns the address without user and password, and without a slash at its end.
    #[must_use]
    pub fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Returns user and password, where the address has them.
    #[must_use]
    pub fn credentials(&self) -> Option<(&str, &str)> {
        self.credentials.as_ref().map(|(user, password)| (user.as_str(), password.as_str()))
    }
}

impl FromStr for ManagementUrl {
    type Err = InvalidManagementUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut base = Url::parse(text.trim()).map_err(|_| InvalidManagementUrl)?;
        let plain = base.query().is_none() && base.fragment().is_none();
        if base.scheme() != "http" || !base.has_host() || !plain {
            return Err(InvalidManagementUrl);
        }
        let decoded = |text: &str| decode(text).map_err(|_| InvalidManagementUrl);
        let user = decoded(base.username())?;
        let password = decoded(base.password().unwrap_or_default())?;
        let credentials = (!user.is_empty()).then_some((user, password));
        // Neither fails for an address with a host.
        let cleared = base.set_username("").and_then(|()| base.set_password(None));
        cleared.map_err(|()| InvalidManagementUrl)?;
        Ok(Self { base, credentials })
    }
}

impl fmt::Display for ManagementUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base())
    }
}

impl fmt::Debug for ManagementUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_decoded_and_not_shown() {
        let url: ManagementUrl = "http://me:p%40+&=x@rabbit:15672/api-of/".parse().unwrap();
        assert_eq!(url.base(), "http://rabbit:15672/api-of");
        assert_eq!(url.credentials(), Some(("me", "p@+&=x")));
        assert_eq!(
            format!("{url} {url:?}"),
            "http://rabbit:15672/api-of http://rabbit:15672/api-of"
        );
        let url: ManagementUrl = "http://rabbit:15672".parse().unwrap();
        assert_eq!(url.credentials(), None);
    }

    #[test]
    fn what_is_no_such_address_is_refused_without_showing_it() {
        for text in
            ["", "rabbit", "amqp://u:SECRET@h", "http://", "http://u:SECRET@h?x", "me:SECRET@h"]
        {
            let error = text.parse::<ManagementUrl>().unwrap_err();
            assert!(!error.to_string().contains("SECRET"), "{text}");
        }
    }
}
