//! The command line: what may be written, and what its help says.

use std::{convert::Infallible, fmt, path::PathBuf, str::FromStr};

use clap::{Args, Parser};

use crate::{command::Command, contract::ContractArgs, exit::CODES};

const EXAMPLES: &str = "\
Examples:
  agentbus publish price.moved --proto market.proto --data '{\"asset\": \"ZEC\", \"price\": 42.5}'
  agentbus request data.request --proto market.proto --data '{\"asset\": \"ZEC\"}' --timeout 5s
  agentbus tail 'price.#' --proto market.proto
  agentbus agents
  agentbus queues list --agent data
  agentbus doctor --agent data

The bus is that of `--bus`, else that of the environment (`AGENTBUS_URL`, `RABBITMQ_URL` and the rest, as
agents read it), else that of the file that `--config` or `AGENTBUS_CONFIG` names. Results go to standard
output, everything else to standard error. `RUST_LOG=agentbus=debug` shows what the bus does.";

/// Takes part in a bus of agents, and looks into it.
#[derive(Debug, Parser)]
#[command(name = "agentbus", version, after_help = format!("{EXAMPLES}\n\n{CODES}"))]
#[command(disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) global: Global,
}

// No doc comment: clap would show it as the help of the command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// Address of the bus, such as `amqp://user:password@host/vhost`.
    #[arg(long, value_name = "URL", global = true)]
    pub(crate) bus: Option<Address>,
    /// A TOML file with the configuration, read before the environment.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    /// Writes results as JSON, one a line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) contract: ContractArgs,
}

/// Address of a bus as it was typed, which is never shown: it may hold a password.
#[derive(Clone)]
pub(crate) struct Address(String);

impl Address {
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl FromStr for Address {
    type Err = Infallible;

    // Not parsed here: clap would show a wrong value, with its password.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.into()))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address(..)")
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_for_everywhere_may_come_after_the_command() {
        let words =
            ["agentbus", "queues", "list", "q", "--json", "--bus", "amqp://me:secret@host/v"];
        let cli = Cli::try_parse_from(words).expect("options");
        assert!(cli.global.json);
        assert!(!format!("{cli:?}").contains("secret"));
    }
}
