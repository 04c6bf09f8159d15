//! Addresses that requesters ask to be answered at.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|address: &str| agentbus::broker::rabbitmq::foreign::reply_address(address));
