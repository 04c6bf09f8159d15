//! What is SQLite's own: files that outlive their processes, are locked, or are none.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use agentbus::store::{Begun, Conversations as _, Deduplication as _, StoreError, sqlite::Sqlite};

use crate::{
    backend::Place,
    conversations::conversation,
    deduplication::{key, reply},
};

const MINUTE: Duration = Duration::from_mins(1);

/// A file of one test's own, which goes with it.
pub(crate) struct File {
    pub(crate) sqlite: Sqlite,
    path: PathBuf,
}

impl Drop for File {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

pub(crate) async fn place() -> Place {
    let path = path();
    Place::Sqlite(File { sqlite: Sqlite::open(&path).await.unwrap(), path })
}

fn path() -> PathBuf {
    std::env::temp_dir().join(format!("agentbus-test-{:016x}.db", fastrand::u64(..)))
}

fn remove(path: &Path) {
    for end in ["", "-wal", "-shm"] {
        let mut path = path.to_owned().into_os_string();
        path.push(end);
        drop(std::fs::remove_file(path));
    }
}

#[tokio::test]
async fn what_was_stored_outlives_who_stored_it() {
    let path = path();
    let saved = conversation("a", MINUTE);
    {
        let file = Sqlite::open(&path).await.unwrap();
        file.conversations().save(saved.clone()).await.unwrap();
        let handled = file.deduplication();
        assert_eq!(handled.begin(&key("1"), &"x".into()).await.unwrap(), Begun::New);
        handled.done(&key("1"), &"x".into(), reply(9)).await.unwrap();
        assert_eq!(handled.begin(&key("2"), &"x".into()).await.unwrap(), Begun::New);
    }
    let (one, two) = (Sqlite::open(&path).await.unwrap(), Sqlite::open(&path).await.unwrap());
    let begun = two.deduplication().begin(&key("1"), &"y".into()).await.unwrap();
    assert_eq!(begun, Begun::Done(reply(9)));
    let begun = two.deduplication().begin(&key("2"), &"y".into()).await.unwrap();
    assert_eq!(begun, Begun::InProgress, "its process may still be there");
    let impatient = two.deduplication().claims_for(Duration::from_millis(1));
    assert_eq!(impatient.begin(&key("3"), &"x".into()).await.unwrap(), Begun::New);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(impatient.begin(&key("3"), &"y".into()).await.unwrap(), Begun::New, "let go of");
    assert_eq!(one.conversations().take("query", &"a".into()).await.unwrap(), Some(saved));
    assert_eq!(two.conversations().take("query", &"a".into()).await.unwrap(), None);
    remove(&path);
}

#[tokio::test]
async fn a_locked_file_has_not_said_no() {
    let path = path();
    let file = Sqlite::open(&path).await.unwrap();
    let (store, handled) = (file.conversations(), file.deduplication());
    let saved = conversation("a", MINUTE);
    store.save(saved.clone()).await.unwrap();
    let locker = rusqlite::Connection::open(&path).unwrap();
    locker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let id = "a".into();
    // One after the other they would each wait for the lock.
    let taken = store.take("query", &id).await;
    assert!(matches!(taken, Err(StoreError::Unavailable(_))), "{taken:?}");
    let begun = handled.begin(&key("1"), &"x".into()).await;
    assert!(matches!(begun, Err(StoreError::Unavailable(_))), "{begun:?}");
    locker.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.take("query", &id).await.unwrap(), Some(saved));
    assert_eq!(handled.begin(&key("1"), &"x".into()).await.unwrap(), Begun::New);
    remove(&path);
}

#[tokio::test]
async fn what_cannot_be_written_is_undone() {
    let path = path();
    let file = Sqlite::open(&path).await.unwrap();
    let store = file.conversations();
    let saved = conversation("a", MINUTE);
    store.save(saved.clone()).await.unwrap();
    // As a full disk would: in the middle of the work.
    let other = rusqlite::Connection::open(&path).unwrap();
    let full = "CREATE TRIGGER full BEFORE UPDATE ON totals BEGIN SELECT RAISE(ABORT, 'full'); END";
    other.execute_batch(full).unwrap();
    for _ in 0..2 {
        let taken = store.take("query", &"a".into()).await;
        assert!(matches!(taken, Err(StoreError::Unavailable(_))), "{taken:?}");
        let refused = store.save(conversation("b", MINUTE)).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    }
    other.execute_batch("DROP TRIGGER full").unwrap();
    assert_eq!(store.count().await.unwrap(), 1);
    assert_eq!(store.take("query", &"a".into()).await.unwrap(), Some(saved));
    remove(&path);
}

#[tokio::test]
async fn what_is_no_store_is_said_so() {
    let path = path();
    std::fs::write(&path, vec![b'x'; 5000]).unwrap();
    let error = Sqlite::open(&path).await.unwrap_err();
    assert!(agentbus::Report::from(error).to_string().contains("not a database"));
    remove(&path);
    drop(Sqlite::open(&path).await.unwrap());
    let other = rusqlite::Connection::open(&path).unwrap();
    other.pragma_update(None, "user_version", 99).unwrap();
    let error = Sqlite::open(&path).await.unwrap_err();
    assert!(agentbus::Report::from(error).to_string().contains("a later version"));
    remove(&path);
    let error = Sqlite::open("/nowhere/at/all.db").await.unwrap_err();
    assert!(agentbus::Report::from(error).to_string().contains("/nowhere/at/all.db"));
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let path = path();
    let file = Sqlite::open(&path).await.unwrap();
    file.conversations().save(conversation("a", MINUTE)).await.unwrap();
    for end in ["", "-wal"] {
        let mut path = path.clone().into_os_string();
        path.push(end);
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{end}");
    }
    remove(&path);
}
