//! Descriptor sets that came from somewhere, and bodies decoded by them.
#![no_main]

use agentbus::Schema;
use libfuzzer_sys::fuzz_target;

/// Ends the run at a panic of ours. Those of prost-reflect, which panics on some malformed sets, are caught by
/// `Schema` and become errors.
fn end_at_a_panic_of_ours() {
    std::panic::set_hook(Box::new(|panic| {
        if panic.location().is_some_and(|place| place.file().contains("prost-reflect")) {
            return;
        }
        eprintln!("{panic}");
        std::process::abort();
    }));
}

fuzz_target!(init: end_at_a_panic_of_ours(), |input: (&[u8], &[u8])| {
    let (set, body) = input;
    let Ok(schema) = Schema::decode(set) else { return };
    for name in schema.messages() {
        assert!(schema.contains(&name));
        drop(schema.to_json_string(&name, body));
    }
});
