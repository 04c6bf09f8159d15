//! What an engine calls itself.

use std::fmt;

/// The product behind a bus, as it calls itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    /// Its name, such as `RabbitMQ`.
    pub name: String,
    /// Its version, such as `3.13.7`.
    pub version: String,
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}
