//! Headers as the libraries of other languages write them.

use std::time::Duration;

use agentbus::message::{HeaderValue, Timestamp};
use lapin::types::{AMQPValue, FieldArray, FieldTable};

use super::listener::{Scene, text, with_headers};

fn now() -> u64 {
    Timestamp::now().as_millis()
}

#[tokio::test]
async fn integers_of_any_width_text_and_times_are_read() {
    let Some(mut scene) = Scene::start().await else { return };
    let due = now() + 60_000;
    let seconds = due.div_ceil(1000);
    let iso = Timestamp::from_millis(due).to_rfc3339().unwrap();
    for (deadline, expected) in [
        (AMQPValue::LongLongInt(due.cast_signed()), due),
        (text(&due.to_string()), due),
        // What JavaScript and Python make of a time.
        (text(&iso), due),
        (AMQPValue::Timestamp(seconds), seconds * 1000),
    ] {
        let headers = with_headers([("agentbus-deadline", deadline.clone())]);
        scene.publish_event(1, headers).await;
        let read = scene.heard().await.metadata.deadline.unwrap();
        assert_eq!(read.as_millis(), expected, "{deadline:?}");
    }
    for attempt in [
        AMQPValue::ShortShortInt(3),
        AMQPValue::ShortShortUInt(3),
        AMQPValue::ShortInt(3),
        AMQPValue::ShortUInt(3),
        AMQPValue::LongInt(3),
        AMQPValue::LongUInt(3),
        AMQPValue::LongLongInt(3),
        text("3"),
    ] {
        scene.publish_event(2, with_headers([("agentbus-attempt", attempt.clone())])).await;
        assert_eq!(scene.heard().await.metadata.attempt, Some(3), "{attempt:?}");
    }
    scene.agents.stop().await;
}

#[tokio::test]
async fn a_deadline_that_is_nonsense_is_no_deadline() {
    let Some(mut scene) = Scene::start().await else { return };
    let far = Timestamp::now().after(Duration::from_hours(24 * 31)).as_millis();
    for nonsense in [
        AMQPValue::LongLongInt(far.cast_signed()),
        AMQPValue::LongLongInt(-1),
        AMQPValue::LongInt(1_795_266_000),
        AMQPValue::Boolean(true),
        AMQPValue::Double(1e300),
        text("soon"),
        AMQPValue::Void,
    ] {
        scene.publish_event(3, with_headers([("agentbus-deadline", nonsense.clone())])).await;
        assert_eq!(scene.heard().await.metadata.deadline, None, "{nonsense:?}");
    }
    scene.agents.stop().await;
}

#[tokio::test]
async fn the_users_own_of_any_type_are_flat_or_left_out() {
    let Some(mut scene) = Scene::start().await else { return };
    let mut nested = FieldTable::default();
    nested.insert("deep".into(), text("down"));
    let mut list = FieldArray::default();
    list.push(text("one"));
    let properties = with_headers([
        ("flag", AMQPValue::Boolean(false)),
        ("ratio", AMQPValue::Double(0.5)),
        ("count", AMQPValue::LongUInt(u32::MAX)),
        ("tenant", text("acme")),
        ("at", AMQPValue::Timestamp(1_795_266_000)),
        ("nested", AMQPValue::FieldTable(nested)),
        ("list", AMQPValue::FieldArray(list)),
        ("nothing", AMQPValue::Void),
        ("x-death", text("forged")),
        ("CC", AMQPValue::FieldArray(FieldArray::default())),
        ("traceparent", text("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
    ]);
    scene.publish_event(4, properties).await;
    let metadata = scene.heard().await.metadata;
    let mut headers: Vec<_> = metadata.headers.iter().collect();
    headers.sort_by_key(|(name, _)| name.to_owned());
    let expected = [
        ("at", HeaderValue::Int(1_795_266_000)),
        ("count", HeaderValue::Int(u32::MAX.into())),
        ("flag", "false".into()),
        ("ratio", "0.5".into()),
        ("tenant", "acme".into()),
    ];
    assert_eq!(headers, expected.iter().map(|(name, value)| (*name, value)).collect::<Vec<_>>());
    let traceparent = metadata.traceparent.unwrap();
    assert_eq!(&*traceparent, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    scene.agents.stop().await;
}
