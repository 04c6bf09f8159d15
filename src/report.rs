//! What `main` returns.

use std::fmt;

use crate::BoxError;

/// An error for `main` to return: it prints as a sentence with its causes, not as a `Debug` dump.
///
/// ```no_run
/// # use agentbus::{Client, Config};
/// #[tokio::main]
/// async fn main() -> Result<(), agentbus::Report> {
///     let client = Client::connect(Config::load()?).await?;
///     // Error: RabbitMQ cannot be reached at localhost:5672: connection refused; is it running?
/// #   drop(client);
///     Ok(())
/// }
/// ```
pub struct Report(BoxError);

impl Report {
    /// Returns the error.
    #[must_use]
    pub fn into_inner(self) -> BoxError {
        self.0
    }
}

// Not `std::error::Error`, so that the blanket `From` below is coherent: the choice anyhow makes.
impl<E: Into<BoxError>> From<E> for Report {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&with_causes(&*self.0))
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Joins an error's text with those of its causes, leaving out what is already said.
pub(crate) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the request was not sent")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_report_reads_as_a_sentence_with_its_causes() {
        let report = Report::from(Outer(std::io::Error::other("connection refused")));
        assert_eq!(format!("{report:?}"), "the request was not sent: connection refused");
    }
}
