//! Headers of an envelope: taken or left out, and the same after they were sent on.
#![no_main]

use agentbus::{Envelope, message::WireValue};
use libfuzzer_sys::fuzz_target;

fn over_the_wire(sent: &Envelope) -> Envelope {
    let mut received = Envelope::default();
    sent.write_headers(true, |name, value| received.read_header(name, value));
    received
}

fuzz_target!(|entries: Vec<(&str, Option<i64>, &str)>| {
    let mut received = Envelope::default();
    for (name, number, text) in entries {
        received.read_header(name, number.map_or(WireValue::Text(text), WireValue::Int));
    }
    received.fill_from_cloud_events();
    let sent = over_the_wire(&received);
    assert_eq!(over_the_wire(&sent), sent);
});
