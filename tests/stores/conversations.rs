//! Conversations: saved, taken once, and never lost on the way.

use std::{sync::Arc, time::Duration};

use agentbus::{
    message::Timestamp,
    store::{Conversation, Conversations, Expiry, Scope, StoreError},
};
use futures::future::join_all;

use crate::{backend::Place, cases};

const HOUR: Duration = Duration::from_hours(1);

pub(crate) fn conversation(id: &str, wait: Duration) -> Conversation {
    Conversation {
        id: id.into(),
        agent: "query".into(),
        follow_up: "with-news".into(),
        topic: "news.request".into(),
        state: "{\"number\": 1}".into(),
        asked_at: Timestamp::now(),
        deadline: Timestamp::now().after(wait),
        conversation_id: Some("whole".into()),
        causation_id: None,
        traceparent: Some("00-1".into()),
        attempt: 2,
    }
}

async fn what_was_saved_is_taken_once_and_by_its_agent(place: Place) {
    let store = place.conversations(10, HOUR);
    assert_eq!(store.scope(), Scope::Shared);
    let saved = conversation("a", Duration::from_mins(1));
    store.save(saved.clone()).await.unwrap();
    assert_eq!(store.take("data", &"a".into()).await.unwrap(), None);
    assert_eq!(store.take("query", &"b".into()).await.unwrap(), None);
    assert_eq!(store.count().await.unwrap(), 1);
    assert_eq!(store.take("query", &"a".into()).await.unwrap(), Some(saved));
    assert_eq!(store.take("query", &"a".into()).await.unwrap(), None);
    assert_eq!(store.count().await.unwrap(), 0);
}

async fn of_many_who_ask_one_gets_it(place: Place) {
    let store = place.conversations(100, HOUR);
    for number in 0..20 {
        let id = number.to_string();
        store.save(conversation(&id, Duration::from_mins(1))).await.unwrap();
        let id = id.as_str().into();
        let takes = (0..8).map(|_| store.take("query", &id));
        let taken = join_all(takes).await;
        let got = taken.into_iter().filter(|it| it.as_ref().unwrap().is_some()).count();
        assert_eq!(got, 1);
    }
}

async fn a_deadline_takes_out_what_is_due_only(place: Place) {
    let store = place.conversations(10, HOUR);
    let late = conversation("late", Duration::from_mins(10));
    let due = conversation("due", Duration::ZERO);
    for saved in [&late, &due] {
        store.save(saved.clone()).await.unwrap();
    }
    let expiry = async |id: &str| store.take_expired("query", &id.into()).await.unwrap();
    assert_eq!(expiry("late").await, Expiry::NotYet(late.deadline));
    assert_eq!(expiry("due").await, Expiry::Expired(due.into()));
    assert_eq!(expiry("due").await, Expiry::Gone);
    assert_eq!(expiry("other").await, Expiry::Gone);
    assert_eq!(store.take("query", &"late".into()).await.unwrap(), Some(late));
}

async fn what_was_taken_out_may_always_come_back(place: Place) {
    let store = place.conversations(1, HOUR);
    store.save(conversation("a", Duration::from_mins(1))).await.unwrap();
    let back = conversation("b", 5 * HOUR);
    store.put_back(back.clone()).await.unwrap();
    assert_eq!(store.take("query", &"b".into()).await.unwrap(), Some(back.clone()));
    store.put_back(back.clone()).await.unwrap();
    assert_eq!(store.take("query", &"b".into()).await.unwrap(), Some(back));
}

async fn a_full_store_refuses_and_keeps_what_it_has(place: Place) {
    let store = place.conversations(1, HOUR);
    let saved = conversation("a", Duration::from_mins(1));
    store.save(saved.clone()).await.unwrap();
    store.save(saved).await.unwrap();
    let refused = store.save(conversation("b", Duration::from_mins(1))).await;
    assert!(matches!(refused, Err(StoreError::Full { limit: 1 })), "{refused:?}");
    assert_eq!(store.take("query", &"b".into()).await.unwrap(), None);
    assert!(store.take("query", &"a".into()).await.unwrap().is_some());
    store.save(conversation("b", Duration::from_mins(1))).await.unwrap();
}

async fn one_that_waits_too_long_is_refused(place: Place) {
    let store = place.conversations(10, HOUR);
    let refused = store.save(conversation("a", 2 * HOUR)).await;
    assert!(matches!(refused, Err(StoreError::TooLong { .. })), "{refused:?}");
    assert_eq!(store.count().await.unwrap(), 0);
}

async fn the_next_deadline_is_waited_for(place: Place) {
    let store = place.conversations(10, HOUR);
    store.save(conversation("late", Duration::from_mins(10))).await.unwrap();
    let waiting = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.next_expired("query").await.unwrap().id }
    });
    store.save(conversation("early", Duration::from_millis(300))).await.unwrap();
    let expired = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    assert_eq!(expired.expect("it expires").unwrap(), "early".into());
    assert_eq!(store.count().await.unwrap(), 1);
}

/// Whoever stops waiting leaves the conversation to the next.
async fn a_take_that_nobody_waits_for_takes_nothing(place: Place) {
    let store: Arc<dyn Conversations> = place.conversations(100, HOUR);
    for number in 0..50_u64 {
        let id: String = number.to_string();
        let saved = conversation(&id, Duration::from_mins(1));
        store.save(saved.clone()).await.unwrap();
        let mut take = store.take("query", &saved.id);
        // Dropped before it began, on its way, or when it is done.
        for _ in 0..number % 3 {
            if futures::poll!(&mut take).is_ready() {
                store.put_back(saved.clone()).await.unwrap();
                break;
            }
            tokio::time::sleep(Duration::from_micros(number * 20)).await;
        }
        drop(take);
        let taken = async {
            loop {
                if let Some(found) = store.take("query", &saved.id).await.unwrap() {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let taken = tokio::time::timeout(Duration::from_secs(30), taken).await;
        assert_eq!(taken.unwrap_or_else(|_| panic!("`{id}` is lost")), saved);
    }
}

cases! {
    what_was_saved_is_taken_once_and_by_its_agent,
    of_many_who_ask_one_gets_it,
    a_deadline_takes_out_what_is_due_only,
    what_was_taken_out_may_always_come_back,
    a_full_store_refuses_and_keeps_what_it_has,
    one_that_waits_too_long_is_refused,
    the_next_deadline_is_waited_for,
    a_take_that_nobody_waits_for_takes_nothing,
}
