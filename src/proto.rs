//! Messages of agentbus's own schemas, `proto/agentbus/v1`.

/// Version 1 of the schemas.
#[allow(clippy::pedantic)] // generated
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/agentbus.v1.rs"));
}
