//! What agentbus-build has made of the contract.

use std::time::Duration;

use agentbus::{Schema, Topic, contract::Retries, retry::RetryPolicy};
use examples::v1::{
    CONTRACT, FILE_DESCRIPTOR_SET, QuoteResponse, QuoteWithdrawn,
    quote_service::{QUOTE, WITHDRAWN},
};

#[test]
fn constants_carry_what_the_contract_states() {
    assert_eq!(QUOTE.deadline(), Some(Duration::from_secs(10)));
    assert_eq!((QUOTE.topic().priority(), QUOTE.topic().retry()), (Some(8), None));
    let stated = Retries::new()
        .attempts(3)
        .first_delay(Duration::from_millis(250))
        .multiplier(1.0)
        .max_age(Duration::from_hours(1));
    assert_eq!((WITHDRAWN.priority(), WITHDRAWN.retry()), (None, Some(stated)));
    let policy = RetryPolicy::from(stated);
    assert_eq!((policy.attempts, policy.max_age), (3, Some(Duration::from_hours(1))));
}

#[test]
fn the_hash_at_run_time_is_that_of_the_build() {
    let schema = Schema::decode(FILE_DESCRIPTOR_SET).unwrap();
    assert_eq!(schema.hash(), CONTRACT.hash());
    assert_eq!(CONTRACT.schema().unwrap().hash(), CONTRACT.hash());
    let topic: Topic<QuoteWithdrawn> = WITHDRAWN;
    assert_eq!(topic.contract().map(agentbus::contract::Contract::hash), Some(CONTRACT.hash()));
    let mut more = schema.clone();
    let rest = Schema::decode(agentbus::proto::v1::FILE_DESCRIPTOR_SET).unwrap();
    more.merge(&rest.encode()).unwrap();
    assert_eq!(more.hash(), schema.hash(), "agentbus's own messages are not part of it");
}

#[test]
fn json_that_is_no_such_message_is_refused_with_the_field() {
    let error = serde_json::from_str::<QuoteResponse>(r#"{"cents": "many"}"#).unwrap_err();
    assert!(error.to_string().contains("cents"), "{error}");
    let error = serde_json::from_str::<QuoteResponse>(r#"{"price": 1}"#).unwrap_err();
    assert!(error.to_string().contains("price"), "{error}");
    assert!(serde_json::from_str::<QuoteResponse>("[1]").is_err());
    let quote: QuoteResponse = serde_json::from_str(r#"{"cents": 7, "validUntil": null}"#).unwrap();
    assert_eq!(quote, QuoteResponse { cents: 7, valid_until: None });
}
