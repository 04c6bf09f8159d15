//! Stores in a file, by SQLite: for the agents of one machine, which go on where they were after
//! every one of them was restarted.
//!
//! ```no_run
//! use std::sync::Arc;
//! use agentbus::{Client, Config, Runtime, agent::middleware::Deduplicate, store::sqlite::Sqlite};
//!
//! # async fn run() -> Result<(), agentbus::Report> {
//! let file = Sqlite::open("/var/lib/agents/state.db").await?;
//! let client = Client::connect(Config::load()?).await?;
//! Runtime::new(client)
//!     .conversations(Arc::new(file.conversations()))
//!     .layer(Deduplicate::in_store(Arc::new(file.deduplication())));
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//!
//! What was stored is on the disk before the call returns (write-ahead log, `synchronous = FULL`),
//! and survives the processes and the machine's crash. The processes of one machine may share the
//! file; a file on a network drive they may not, since its locks cannot be trusted.
//!
//! Where the file cannot be read or written (locked by somebody else for longer than five seconds,
//! disk full, read-only), every call is [`StoreError::Unavailable`]: the message waits or is tried
//! again, and is never handled as if the store had said no. What a call did not finish is undone.
//!
//! The file is created for its owner alone (mode 600); one that is there keeps its mode. SQLite runs
//! on a thread of its own, which ends with the last handle.

mod conversations;
mod deduplication;

use std::{fmt, path::Path, time::Duration};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

pub use self::{conversations::SqliteConversations, deduplication::SqliteDeduplication};
use super::StoreError;

/// How long a lock of another process is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the tables look like, one step for each version of them.
const MIGRATIONS: &[&str] = &[include_str!("version_1.sql")];

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A file with stores. A clone is the same file, on the same thread.
#[derive(Clone)]
pub struct Sqlite {
    /// Unbounded, since what is undone must never find it full. Whoever asks waits for the answer,
    /// so there are only as many as messages are being handled.
    jobs: mpsc::UnboundedSender<Job>,
}

impl Sqlite {
    /// Opens a file, and makes it and its tables where they are missing.
    ///
    /// # Errors
    ///
    /// Returns an error where the file cannot be opened or written, is no database, or was made by a
    /// later version.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        let (jobs, mut work) = mpsc::unbounded_channel::<Job>();
        let (opened, ready) = oneshot::channel();
        let thread = std::thread::Builder::new().name("agentbus-sqlite".to_owned());
        let run = move || {
            let mut connection = match connect(&path) {
                Ok(connection) => connection,
                Err(error) => return drop(opened.send(Err(error))),
            };
            if opened.send(Ok(())).is_err() {
                return;
            }
            while let Some(job) = work.blocking_recv() {
                job(&mut connection);
            }
        };
        thread.spawn(run).map_err(|error| StoreError::Unavailable(error.into()))?;
        ready.await.map_err(|_| ended())??;
        Ok(Self { jobs })
    }

    /// Returns the store of conversations in this file; by default for 100 000 of at most an hour.
    #[must_use]
    pub fn conversations(&self) -> SqliteConversations {
        SqliteConversations::new(self.clone())
    }

    /// Returns the store of handled messages in this file; by default for 100 000 messages and an
    /// hour.
    #[must_use]
    pub fn deduplication(&self) -> SqliteDeduplication {
        SqliteDeduplication::new(self.clone())
    }

    /// Runs work on the file's thread, after all that was asked for before. It is done even where
    /// nobody waits for it any more.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.spawn(move |connection| drop(answer.send(work(connection))));
        let answered = answered.await.map_err(|_| ended())?;
        answered.map_err(|error| StoreError::Unavailable(error.into()))
    }

    fn spawn(&self, work: impl FnOnce(&mut Connection) + Send + 'static) {
        // Where the thread has ended, so does whoever waits for the answer.
        drop(self.jobs.send(Box::new(work)));
    }
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").finish_non_exhaustive()
    }
}

fn ended() -> StoreError {
    StoreError::Unavailable("the thread of the SQLite file has ended".into())
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    create(path).map_err(|error| {
        let text = format!("cannot create `{}`: {error}", path.display());
        StoreError::Unavailable(text.into())
    })?;
    let open = || -> rusqlite::Result<Connection> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(PATIENCE)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        migrate(&mut connection)?;
        Ok(connection)
    };
    let connection = open().map_err(|error| {
        StoreError::Unavailable(format!("cannot open `{}`: {error}", path.display()).into())
    })?;
    let version = version(&connection).unwrap_or_default();
    if version > MIGRATIONS.len() {
        let text = format!(
            "`{}` was made by a later version of agentbus (its tables are version {version}, ours {}); \
             use that one, or another file",
            path.display(),
            MIGRATIONS.len()
        );
        return Err(StoreError::Unavailable(text.into()));
    }
    Ok(connection)
}

/// Makes the file for its owner alone; SQLite gives its companions the same mode.
fn create(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn version(connection: &Connection) -> rusqlite::Result<usize> {
    let version = |row: &rusqlite::Row<'_>| row.get::<_, u32>(0);
    Ok(connection.pragma_query_value(None, "user_version", version)? as usize)
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    // Several processes may come at the same time: the second finds the work done.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (done, step) in MIGRATIONS.iter().enumerate().skip(version(&transaction)?) {
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", int(done as u64 + 1))?;
    }
    transaction.commit()
}

/// Begins a transaction that will write: it gets the lock now, or not at all.
fn begin(connection: &mut Connection) -> rusqlite::Result<rusqlite::Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

/// SQLite's integers have a sign.
fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
