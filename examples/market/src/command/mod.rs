//! What the commands do.

pub mod ask;
pub mod sample;
pub mod serve;

use std::io::{self, Write as _};

use agentbus::{Client, Running, Runtime, agent::StartError};

use crate::{
    agents::{Analysis, Data, Query},
    cli::AgentName,
    prices::{Prices, Source},
};

/// Starts one of the agents, or all of them; the data agent reads prices from `sources`.
async fn start(
    which: AgentName,
    client: Client,
    sources: Vec<Source>,
) -> Result<Running, StartError> {
    let runtime = Runtime::new(client).version(env!("CARGO_PKG_VERSION"));
    let data = || Data::new(Prices::new(sources));
    match which {
        AgentName::Query => runtime.agent(Query),
        AgentName::Data => runtime.agent(data()),
        AgentName::Analysis => runtime.agent(Analysis),
        AgentName::All => runtime.agent(Query).agent(data()).agent(Analysis),
    }
    .start()
    .await
}

/// Prints on standard output; a reader that has seen enough, such as `head`, is no error.
fn print(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
