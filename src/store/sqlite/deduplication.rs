//! Which messages were handled, in a SQLite file.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Sqlite, begin, int};
use crate::{
    message::{Id, Timestamp},
    store::{Begun, Deduplication, MessageKey, Outcome, StoreError, record},
};

/// How long whoever waits for another's claim waits before it asks again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Remembers handled messages in a file, with the replies: bounded, expiring, and shared by all
/// that open it.
///
/// A claim whose process died is let go of after 35 minutes, or what
/// [`claims_for`](Self::claims_for) says: until then the message waits.
#[derive(Clone, Debug)]
pub struct SqliteDeduplication {
    file: Sqlite,
    limit: usize,
    age: Duration,
    reply_bytes: usize,
    claims: Duration,
}

impl SqliteDeduplication {
    pub(super) fn new(file: Sqlite) -> Self {
        Self {
            file,
            limit: 100_000,
            age: Duration::from_hours(1),
            reply_bytes: 64 << 20,
            claims: Duration::from_mins(35),
        }
    }

    /// Sets how many messages are remembered; those not seen for longest go first.
    #[must_use]
    pub fn limit(mut self, messages: usize) -> Self {
        self.limit = messages;
        self
    }

    /// Sets how long a message is remembered after it was seen last.
    #[must_use]
    pub fn age(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }

    /// Sets how many bytes the replies may have together; by default 64 MiB.
    #[must_use]
    pub fn reply_bytes(mut self, bytes: usize) -> Self {
        self.reply_bytes = bytes;
        self
    }

    /// Sets after what time a claim is let go of. It must be longer than any handler runs, or a
    /// message is handled a second time meanwhile.
    #[must_use]
    pub fn claims_for(mut self, time: Duration) -> Self {
        self.claims = time;
        self
    }
}

#[async_trait]
impl Deduplication for SqliteDeduplication {
    async fn begin(&self, key: &MessageKey, claim: &Id) -> Result<Begun, StoreError> {
        let (message, claim) = (record::key(key), claim.to_string());
        let (age, claims) = (self.age, self.claims);
        let begun = self.file.run(move |connection| {
            let transaction = begin(connection)?;
            let now = Timestamp::now();
            forget_old(&transaction, now, age)?;
            let begun = look_up(&transaction, &message, &claim, now)?;
            if begun == Begun::New {
                let claim_it = "INSERT INTO claims (message, claim, until) VALUES (?1, ?2, ?3) \
                                ON CONFLICT DO UPDATE SET claim = excluded.claim, until = excluded.until";
                let until = int(now.after(claims).as_millis());
                transaction.prepare_cached(claim_it)?.execute(params![message, claim, until])?;
            }
            transaction.commit()?;
            Ok(begun)
        });
        begun.await
    }

    async fn done(&self, key: &MessageKey, claim: &Id, outcome: Outcome) -> Result<(), StoreError> {
        let (message, claim) = (record::key(key), claim.to_string());
        let Self { limit, age, reply_bytes, .. } = *self;
        let keeps = limit > 0 && outcome.payload.len() <= reply_bytes;
        if !keeps && limit > 0 {
            let bytes = outcome.payload.len();
            tracing::warn!(id = %key.id, topic = %key.topic, bytes, "a reply is too large to be kept");
        }
        let done = self.file.run(move |connection| {
            let transaction = begin(connection)?;
            let now = Timestamp::now();
            forget_old(&transaction, now, age)?;
            release(&transaction, &message, &claim)?;
            if keeps {
                // Not replaced in place, so that the totals follow.
                let remove = "DELETE FROM outcomes WHERE message = ?1";
                transaction.prepare_cached(remove)?.execute([&message])?;
                let add = "INSERT INTO outcomes (message, seen, message_type, payload) \
                           VALUES (?1, ?2, ?3, ?4)";
                let Outcome { message_type, payload } = &outcome;
                let seen = int(now.as_millis());
                let row = params![message, seen, &**message_type, &payload[..]];
                transaction.prepare_cached(add)?.execute(row)?;
                make_room(&transaction, limit, reply_bytes)?;
            }
            transaction.commit()
        });
        done.await
    }

    async fn forget(&self, key: &MessageKey, claim: &Id) -> Result<(), StoreError> {
        let (message, claim) = (record::key(key), claim.to_string());
        self.file.run(move |connection| release(connection, &message, &claim)).await
    }

    async fn changed(&self, _: &MessageKey) {
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

fn look_up(
    connection: &Connection,
    message: &str,
    claim: &str,
    now: Timestamp,
) -> rusqlite::Result<Begun> {
    let claimed: Option<String> = connection
        .prepare_cached("SELECT claim FROM claims WHERE message = ?1 AND until > ?2")?
        .query_row(params![message, int(now.as_millis())], |row| row.get(0))
        .optional()?;
    if let Some(by) = claimed {
        return Ok(if by == claim { Begun::New } else { Begun::InProgress });
    }
    let see = "UPDATE outcomes SET seen = ?2 WHERE message = ?1 RETURNING message_type, payload";
    let outcome = connection
        .prepare_cached(see)?
        .query_row(params![message, int(now.as_millis())], |row| {
            let message_type: String = row.get(0)?;
            let payload: Vec<u8> = row.get(1)?;
            Ok(Outcome { message_type: message_type.into(), payload: payload.into() })
        })
        .optional()?;
    Ok(outcome.map_or(Begun::New, Begun::Done))
}

fn release(connection: &Connection, message: &str, claim: &str) -> rusqlite::Result<()> {
    let release = "DELETE FROM claims WHERE message = ?1 AND claim = ?2";
    connection.prepare_cached(release)?.execute([message, claim])?;
    Ok(())
}

fn forget_old(connection: &Connection, now: Timestamp, age: Duration) -> rusqlite::Result<()> {
    let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    let oldest = int(now.as_millis().saturating_sub(age));
    connection.prepare_cached("DELETE FROM outcomes WHERE seen <= ?1")?.execute([oldest])?;
    let now = int(now.as_millis());
    connection.prepare_cached("DELETE FROM claims WHERE until <= ?1")?.execute([now])?;
    Ok(())
}

/// Removes what was not seen for longest until the rest is within its bounds.
fn make_room(connection: &Connection, limit: usize, bytes: usize) -> rusqlite::Result<()> {
    let total = |name: &str| -> rusqlite::Result<i64> {
        let total = "SELECT amount FROM totals WHERE name = ?1";
        connection.prepare_cached(total)?.query_row([name], |row| row.get(0))
    };
    while total("outcomes")? > int(limit as u64) {
        remove_oldest(connection, "")?;
    }
    while total("bytes")? > int(bytes as u64) {
        remove_oldest(connection, "WHERE length(payload) > 0")?;
    }
    Ok(())
}

fn remove_oldest(connection: &Connection, of: &str) -> rusqlite::Result<()> {
    let remove = format!(
        "DELETE FROM outcomes WHERE rowid = \
         (SELECT rowid FROM outcomes {of} ORDER BY seen, rowid LIMIT 1)"
    );
    connection.prepare_cached(&remove)?.execute([])?;
    Ok(())
}
