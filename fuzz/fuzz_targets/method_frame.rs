//! Methods with names that may be no text.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| agentbus::broker::rabbitmq::foreign::method_frame(payload));
