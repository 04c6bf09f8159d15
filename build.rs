//! Compiles agentbus's own schemas.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    agentbus_build::configure().includes(["proto"]).generate_own_package(true).compile([
        "agentbus/v1/agent_card.proto",
        "agentbus/v1/agent_started.proto",
        "agentbus/v1/agent_stopped.proto",
        "agentbus/v1/dead_lettered.proto",
        "agentbus/v1/discover.proto",
        "agentbus/v1/error_reply.proto",
        "agentbus/v1/metadata.proto",
        "agentbus/v1/request_deadline.proto",
        "agentbus/v1/route.proto",
    ])?;
    Ok(())
}
