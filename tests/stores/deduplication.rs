//! Handled messages: claimed by one, remembered with their reply, and forgotten in time.

use std::time::Duration;

use agentbus::store::{Begun, Deduplication, MessageKey, Outcome};
use futures::future::join_all;

use crate::{
    backend::{Bounds, Place},
    cases,
};

pub(crate) fn key(id: &str) -> MessageKey {
    MessageKey {
        agent: "data".into(),
        replica: None,
        sender: Some("query".into()),
        topic: "data.request".into(),
        id: id.into(),
    }
}

pub(crate) fn reply(bytes: usize) -> Outcome {
    Outcome { message_type: "test.v1.Answer".into(), payload: vec![0xff; bytes].into() }
}

/// Handles a message; `false` where it was handled before. The next one is later.
async fn handle(store: &dyn Deduplication, id: &str, bytes: usize) -> bool {
    let begun = store.begin(&key(id), &"claim".into()).await.unwrap();
    let is_new = match begun {
        Begun::New => {
            store.done(&key(id), &"claim".into(), reply(bytes)).await.unwrap();
            true
        }
        Begun::Done(outcome) => {
            assert_eq!(outcome, reply(bytes));
            false
        }
        Begun::InProgress => panic!("nobody handles `{id}`"),
    };
    tokio::time::sleep(Duration::from_millis(3)).await;
    is_new
}

async fn one_claims_and_the_others_get_its_outcome(place: Place) {
    let store = place.deduplication(Bounds::default());
    let begin = async |claim: &str| store.begin(&key("a"), &claim.into()).await.unwrap();
    assert_eq!(begin("mine").await, Begun::New);
    assert_eq!(begin("mine").await, Begun::New, "it may not have got the answer");
    assert_eq!(begin("another").await, Begun::InProgress);
    for _ in 0..2 {
        store.done(&key("a"), &"mine".into(), reply(300)).await.unwrap();
    }
    assert_eq!(begin("another").await, Begun::Done(reply(300)));
}

async fn of_many_who_claim_one_does(place: Place) {
    let store = place.deduplication(Bounds::default());
    for number in 0..20 {
        let key = key(&number.to_string());
        let claims: Vec<_> = (0..8).map(|claim| claim.to_string().into()).collect();
        let begun = join_all(claims.iter().map(|claim| store.begin(&key, claim))).await;
        let new = begun.iter().filter(|it| *it.as_ref().unwrap() == Begun::New).count();
        assert_eq!(new, 1);
    }
}

async fn a_key_is_all_of_its_parts(place: Place) {
    let store = place.deduplication(Bounds::default());
    assert!(handle(&*store, "a", 0).await);
    for other in [
        MessageKey { agent: "news".into(), ..key("a") },
        MessageKey { replica: Some("1".into()), ..key("a") },
        MessageKey { sender: None, ..key("a") },
        MessageKey { topic: "data.other".into(), ..key("a") },
        key("b"),
    ] {
        assert_eq!(store.begin(&other, &"x".into()).await.unwrap(), Begun::New, "{other:?}");
    }
}

async fn what_is_forgotten_is_new_and_only_the_claimant_forgets(place: Place) {
    let store = place.deduplication(Bounds::default());
    let begin = async |claim: &str| store.begin(&key("a"), &claim.into()).await.unwrap();
    assert_eq!(begin("mine").await, Begun::New);
    store.forget(&key("a"), &"another".into()).await.unwrap();
    assert_eq!(begin("another").await, Begun::InProgress);
    store.forget(&key("a"), &"mine".into()).await.unwrap();
    assert!(handle(&*store, "a", 1).await);
    store.forget(&key("a"), &"claim".into()).await.unwrap();
    assert!(!handle(&*store, "a", 1).await, "what was handled stays so");
}

async fn whoever_waits_for_a_claim_asks_again(place: Place) {
    let store = place.deduplication(Bounds::default());
    assert_eq!(store.begin(&key("a"), &"mine".into()).await.unwrap(), Begun::New);
    let waits = async {
        loop {
            match store.begin(&key("a"), &"another".into()).await.unwrap() {
                Begun::InProgress => store.changed(&key("a")).await,
                begun => return begun,
            }
        }
    };
    let ends = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        store.done(&key("a"), &"mine".into(), reply(1)).await.unwrap();
    };
    let both = async { tokio::join!(waits, ends) };
    let (begun, ()) = tokio::time::timeout(Duration::from_secs(30), both).await.expect("it ends");
    assert_eq!(begun, Begun::Done(reply(1)));
}

async fn the_least_recently_seen_goes_first(place: Place) {
    let store = place.deduplication(Bounds { limit: 3, ..Bounds::default() });
    for (id, bytes) in [("a", 0), ("b", 1), ("c", 0)] {
        assert!(handle(&*store, id, bytes).await);
    }
    assert!(!handle(&*store, "a", 0).await, "seen again");
    assert!(handle(&*store, "d", 0).await);
    assert!(!handle(&*store, "a", 0).await);
    assert!(!handle(&*store, "c", 0).await);
    assert!(handle(&*store, "b", 1).await, "it was not seen for longest");
}

async fn replies_are_bounded_together_and_leave_the_silent_alone(place: Place) {
    let store = place.deduplication(Bounds { reply_bytes: 100, ..Bounds::default() });
    assert!(handle(&*store, "silent", 0).await);
    for id in ["a", "b", "c"] {
        assert!(handle(&*store, id, 40).await);
    }
    assert!(!handle(&*store, "b", 40).await);
    assert!(!handle(&*store, "silent", 0).await);
    assert!(handle(&*store, "a", 40).await, "dropped for the third");
    for _ in 0..2 {
        assert!(handle(&*store, "large", 101).await, "never kept");
    }
    assert!(!handle(&*store, "silent", 0).await);
}

async fn what_is_too_old_is_new(place: Place) {
    let store = place.deduplication(Bounds { age: Duration::from_millis(40), ..Bounds::default() });
    assert!(handle(&*store, "a", 5).await);
    tokio::time::sleep(Duration::from_millis(80)).await;
    assert!(handle(&*store, "a", 7).await);
}

async fn a_store_for_nothing_keeps_nothing(place: Place) {
    let store = place.deduplication(Bounds { limit: 0, ..Bounds::default() });
    for _ in 0..2 {
        assert!(handle(&*store, "a", 0).await);
    }
}

cases! {
    one_claims_and_the_others_get_its_outcome,
    of_many_who_claim_one_does,
    a_key_is_all_of_its_parts,
    what_is_forgotten_is_new_and_only_the_claimant_forgets,
    whoever_waits_for_a_claim_asks_again,
    the_least_recently_seen_goes_first,
    replies_are_bounded_together_and_leave_the_silent_alone,
    what_is_too_old_is_new,
    a_store_for_nothing_keeps_nothing,
}
