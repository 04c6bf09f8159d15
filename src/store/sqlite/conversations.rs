//! Conversations in a SQLite file.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::sync::oneshot;

use super::{Sqlite, begin, ended, int};
use crate::{
    message::{Id, Timestamp},
    store::{Conversation, Conversations, Expiry, Scope, StoreError, handover::Handover, record},
};

/// How long [`Conversations::next_expired`] waits at most before it looks again: another process may
/// have added an earlier deadline.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Keeps conversations in a file, where they survive every process; shared by all that open it.
#[derive(Clone, Debug)]
pub struct SqliteConversations {
    file: Sqlite,
    limit: usize,
    ttl: Duration,
}

impl SqliteConversations {
    pub(super) fn new(file: Sqlite) -> Self {
        Self { file, limit: 100_000, ttl: Duration::from_hours(1) }
    }

    /// Sets how many conversations there may be, of all agents in the file together.
    #[must_use]
    pub fn limit(mut self, conversations: usize) -> Self {
        self.limit = conversations;
        self
    }

    /// Sets how long a conversation may wait. One that nobody comes for is removed that long after
    /// its deadline.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Takes something out; where nobody waits for it any more, it is put back.
    async fn take_out<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
        taken: impl FnOnce(T) -> Option<String> + Send + 'static,
    ) -> Result<Option<T>, StoreError> {
        let (answer, answered) = oneshot::channel();
        let file = self.file.clone();
        self.file.spawn(move |connection| {
            let undo = move |value| {
                let Some(text) = taken(value) else { return };
                file.spawn(move |connection| match record::read(&text) {
                    Ok(conversation) => {
                        if let Err(error) = insert(connection, &conversation) {
                            tracing::error!(id = %conversation.id, %error, "a conversation is lost: it was taken out for nobody, and cannot be put back");
                        }
                    }
                    Err(error) => tracing::error!(%error, "a conversation cannot be read"),
                });
            };
            let worked = work(connection).map(|value| Handover::new(value, undo));
            drop(answer.send(worked));
        });
        let worked = answered.await.map_err(|_| ended())?;
        Ok(worked.map_err(|error| StoreError::Unavailable(error.into()))?.accept())
    }
}

#[async_trait]
impl Conversations for SqliteConversations {
    fn scope(&self) -> Scope {
        Scope::Shared
    }

    async fn save(&self, conversation: Conversation) -> Result<(), StoreError> {
        let asked = conversation.deadline.remaining();
        if asked > self.ttl {
            return Err(StoreError::TooLong { asked, kept: self.ttl });
        }
        let (limit, ttl) = (self.limit, self.ttl);
        let saved = self.file.run(move |connection| {
            let transaction = begin(connection)?;
            let now = Timestamp::now().as_millis();
            let forgotten = now.saturating_sub(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
            transaction
                .prepare_cached("DELETE FROM conversations WHERE deadline < ?1")?
                .execute([int(forgotten)])?;
            insert(&transaction, &conversation)?;
            let fits = usize::try_from(total(&transaction)?).unwrap_or(0) <= limit;
            if fits {
                transaction.commit()?;
            }
            Ok(fits)
        });
        if saved.await? { Ok(()) } else { Err(StoreError::Full { limit }) }
    }

    async fn put_back(&self, conversation: Conversation) -> Result<(), StoreError> {
        self.file.run(move |connection| insert(connection, &conversation)).await
    }

    async fn take(&self, agent: &str, id: &Id) -> Result<Option<Conversation>, StoreError> {
        let (agent, id) = (agent.to_owned(), id.to_string());
        let taken = self.take_out(move |connection| remove(connection, &agent, &id), |text| text);
        taken.await?.flatten().map(|text| record::read(&text)).transpose()
    }

    async fn take_expired(&self, agent: &str, id: &Id) -> Result<Expiry, StoreError> {
        enum Found {
            Expired(String),
            NotYet(i64),
            Gone,
        }
        let (agent, id) = (agent.to_owned(), id.to_string());
        let work = move |connection: &mut Connection| {
            let transaction = begin(connection)?;
            let deadline: Option<i64> = transaction
                .prepare_cached("SELECT deadline FROM conversations WHERE agent = ?1 AND id = ?2")?
                .query_row([&agent, &id], |row| row.get(0))
                .optional()?;
            let found = match deadline {
                Some(deadline) if deadline > int(Timestamp::now().as_millis()) => {
                    Found::NotYet(deadline)
                }
                _ => remove(&transaction, &agent, &id)?.map_or(Found::Gone, Found::Expired),
            };
            transaction.commit()?;
            Ok(found)
        };
        let taken = |found| match found {
            Found::Expired(text) => Some(text),
            Found::NotYet(_) | Found::Gone => None,
        };
        match self.take_out(work, taken).await? {
            Some(Found::Expired(text)) => Ok(Expiry::Expired(record::read(&text)?.into())),
            Some(Found::NotYet(deadline)) => {
                let deadline = u64::try_from(deadline).unwrap_or_default();
                Ok(Expiry::NotYet(Timestamp::from_millis(deadline)))
            }
            Some(Found::Gone) | None => Ok(Expiry::Gone),
        }
    }

    async fn next_expired(&self, agent: &str) -> Result<Conversation, StoreError> {
        loop {
            let asked = agent.to_owned();
            let first = self.file.run(move |connection| {
                let next = "SELECT id, deadline FROM conversations WHERE agent = ?1 \
                            ORDER BY deadline LIMIT 1";
                let mut next = connection.prepare_cached(next)?;
                let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
                next.query_row([&asked], row).optional()
            });
            let first: Option<(String, i64)> = first.await?;
            let mut wait = LOOK_AGAIN;
            if let Some((id, deadline)) = first {
                let deadline = Timestamp::from_millis(u64::try_from(deadline).unwrap_or_default());
                if deadline.has_passed()
                    && let Expiry::Expired(conversation) =
                        self.take_expired(agent, &id.as_str().into()).await?
                {
                    return Ok(*conversation);
                }
                wait = wait.min(deadline.remaining());
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn count(&self) -> Result<usize, StoreError> {
        let count = self.file.run(|connection| total(connection)).await?;
        Ok(usize::try_from(count).unwrap_or_default())
    }
}

fn insert(connection: &Connection, conversation: &Conversation) -> rusqlite::Result<()> {
    let insert = "INSERT INTO conversations (agent, id, deadline, record) VALUES (?1, ?2, ?3, ?4) \
                  ON CONFLICT DO UPDATE SET deadline = excluded.deadline, record = excluded.record";
    connection.prepare_cached(insert)?.execute(params![
        &*conversation.agent,
        conversation.id.to_string(),
        int(conversation.deadline.as_millis()),
        record::write(conversation),
    ])?;
    Ok(())
}

fn remove(connection: &Connection, agent: &str, id: &str) -> rusqlite::Result<Option<String>> {
    let remove = "DELETE FROM conversations WHERE agent = ?1 AND id = ?2 RETURNING record";
    connection.prepare_cached(remove)?.query_row([agent, id], |row| row.get(0)).optional()
}

fn total(connection: &Connection) -> rusqlite::Result<i64> {
    let total = "SELECT amount FROM totals WHERE name = 'conversations'";
    connection.prepare_cached(total)?.query_row([], |row| row.get(0))
}
