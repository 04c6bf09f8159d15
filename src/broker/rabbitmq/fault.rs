//! What a call to the broker can fail with.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use lapin::ErrorKind;
use tokio::{
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};

use crate::BoxError;

/// A call to the broker failed.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The broker or the client library said no.
    #[error("{}", text(.0))]
    Lapin(#[source] lapin::Error),
    /// No answer came. lapin waits for ever, notably while the broker blocks the connection.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// There is no connection at present.
    #[error("{0}")]
    Disconnected(String),
    /// This process closed the bus.
    #[error("the bus is closed")]
    Closed,
}

impl Fault {
    /// Returns the broker's reply code, if it replied.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Lapin(error) => match error.kind() {
                ErrorKind::ProtocolError(error) => Some(error.get_id()),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns the system's error, if it was one. It reads as the fault does; lapin's own wrapping
    /// would say the same once more in other words.
    pub(super) fn source(self) -> Option<BoxError> {
        match self {
            Self::Lapin(error) => match error.kind() {
                ErrorKind::IOError(error) => Some(error.clone().into()),
                _ => None,
            },
            _ => None,
        }
    }
}

impl From<lapin::Error> for Fault {
    fn from(error: lapin::Error) -> Self {
        Self::Lapin(error)
    }
}

/// Returns what the broker said, without the client library's wrapping.
pub(super) fn text(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        ErrorKind::IOError(error) => error.to_string(),
        ErrorKind::ParsingError(_) => {
            "a message cannot be read: a property or the name of a header is not UTF-8".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Waits for the broker's answer, but not for ever.
pub(super) async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = lapin::Result<T>>,
) -> Result<T, Fault> {
    match timeout(limit, answer).await {
        Ok(answer) => answer.map_err(Fault::Lapin),
        Err(_) => Err(Fault::Timeout(limit)),
    }
}

/// How long an answer may be in coming before somebody should look at the connection.
pub(super) const LATE: Duration = Duration::from_secs(1);

/// Asks for a look at a connection on which something failed, or is late.
#[derive(Clone, Debug, Default)]
pub(super) struct Doubt(Arc<Notify>);

impl Doubt {
    pub(super) fn raise(&self) {
        self.0.notify_one();
    }

    /// Waits until it is raised; for one task. What was raised before counts.
    pub(super) async fn raised(&self) {
        self.0.notified().await;
    }
}

/// Waits for answers on one connection, not for ever, and raises a doubt of it while one is late:
/// a slow broker may take its time, a mute one is not waited for.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    limit: Duration,
    pub(super) doubt: Doubt,
}

impl Answers {
    pub(super) fn new(limit: Duration, doubt: Doubt) -> Self {
        Self { limit, doubt }
    }

    pub(super) async fn within<T>(
        &self,
        answer: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, Fault> {
        let began = Instant::now();
        let mut answer = pin!(answer);
        let mut late = began + LATE;
        while late < began + self.limit {
            if let Ok(answer) = timeout_at(late, answer.as_mut()).await {
                return answer.map_err(Fault::Lapin);
            }
            self.doubt.raise();
            late += LATE;
        }
        match timeout_at(began + self.limit, answer).await {
            Ok(answer) => answer.map_err(Fault::Lapin),
            Err(_) => Err(Fault::Timeout(self.limit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_late_raises_doubts_and_may_still_come() {
        let answers = Answers::new(Duration::from_secs(10), Doubt::default());
        let prompt = answers.within(async { Ok(1) }).await;
        assert_eq!(prompt.unwrap(), 1);
        let raised = async || timeout(Duration::ZERO, answers.doubt.raised()).await.is_ok();
        assert!(!raised().await);
        let slow = async {
            tokio::time::sleep(Duration::from_secs(7)).await;
            Ok(2)
        };
        assert_eq!(answers.within(slow).await.unwrap(), 2);
        assert!(raised().await);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_never_comes_is_waited_for_as_long_as_was_said() {
        for limit in [Duration::from_millis(300), Duration::from_secs(3)] {
            let began = Instant::now();
            let answers = Answers::new(limit, Doubt::default());
            let fault = answers.within(pending::<lapin::Result<()>>()).await;
            assert!(matches!(fault, Err(Fault::Timeout(said)) if said == limit));
            assert_eq!(began.elapsed(), limit);
        }
    }
}
