//! Compiles the contract.

fn main() -> Result<(), agentbus_build::Error> {
    agentbus_build::compile(&["proto/market/v1/market.proto"], &["proto"])
}
