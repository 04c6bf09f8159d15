//! Properties and headers, as a broker hands them on from whoever sent them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| agentbus::broker::rabbitmq::foreign::header_frame(payload));
