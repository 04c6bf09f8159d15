//! The command line.

use std::{convert::Infallible, fmt, str::FromStr, time::Duration};

use agentbus::{Config, config::BusUrl};
use anyhow::anyhow;
use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::SignedDuration;

use crate::prices::Source;

const EXAMPLES: &str = "\
Examples:
  market ask \"How did ZEC move against BTC in the last 90 days?\"
  market ask \"Were there unusual days for ETH since March 2025?\"
  market ask --prices eth.csv --prices ltc.csv \"Do ETH and LTC correlate in 2018?\"
  market ask --prices ZEC=zcash-usd.csv --json \"volatility of ZEC this year\"

  market serve all --bus amqp://localhost     in one terminal, or one agent in each
  market ask --bus amqp://localhost \"...\"     in another

Without --prices the built-in sample answers: ZEC, BTC and ETH, made up.
Without --bus the agents run inside the command.

Ends with 0 when the question is answered, 1 when it is not, 2 when the command line is wrong, and 3
when there is a question back. RUST_LOG=agentbus=debug shows what the bus does.";

/// Answers questions about prices, with three agents on a message bus.
#[derive(Debug, Parser)]
#[command(name = "market", version, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Asks a question and shows the answer.
    Ask(Ask),
    /// Runs agents on a shared bus until it is stopped.
    Serve(Serve),
    /// Prints the built-in sample as CSV.
    Sample,
}

/// Asks a question.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Ask {
    /// The question, in plain English.
    #[arg(required = true, num_args = 1..)]
    pub question: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)] // a doc comment would become the help of the group
    pub prices: PriceArgs,
    #[command(flatten)]
    #[allow(missing_docs)] // as above
    pub bus: BusArgs,
    /// Prints the answer as `ProtoJSON`, and nothing else, on standard output.
    #[arg(long)]
    pub json: bool,
    /// Brings its own agents onto the bus that was named, where they share the work with those that
    /// are there; always so without a bus.
    #[arg(long)]
    pub all: bool,
    /// How long to wait for the answer, such as `30s` or `2m`.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = timeout)]
    pub timeout: Duration,
}

impl Ask {
    /// Returns the words of the question as one text; quotes around it can be left out.
    #[must_use]
    pub fn question(&self) -> String {
        self.question.join(" ")
    }
}

/// Runs agents.
#[derive(Debug, Args)]
pub struct Serve {
    /// Which agent to run.
    pub agent: AgentName,
    #[command(flatten)]
    #[allow(missing_docs)] // a doc comment would become the help of the group
    pub prices: PriceArgs,
    #[command(flatten)]
    #[allow(missing_docs)] // as above
    pub bus: BusArgs,
}

/// An agent that can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AgentName {
    /// Reads questions and answers them.
    Query,
    /// Reads prices.
    Data,
    /// Computes.
    Analysis,
    /// All three.
    All,
}

impl AgentName {
    /// Tells whether the data agent is among them.
    #[must_use]
    pub fn reads_prices(self) -> bool {
        matches!(self, Self::Data | Self::All)
    }
}

// No doc comments on the two below: clap would show them as the help of the command.
#[derive(Debug, Args)]
#[allow(missing_docs)]
pub struct PriceArgs {
    /// A CSV file with prices, several times for several files; `ASSET=FILE` says which asset it
    /// holds. Columns: `date`, `time` or `timestamp`; `close`, `price`, `PriceUSD` or `price(USD)`;
    /// and `asset` or `symbol`, unless the file is named after the one asset it holds, as `eth.csv`.
    #[arg(long = "prices", value_name = "FILE")]
    pub sources: Vec<Source>,
}

#[derive(Debug, Args)]
#[allow(missing_docs)]
pub struct BusArgs {
    /// Address of the bus, such as `amqp://user:password@host/vhost`; without one, the environment's
    /// `AGENTBUS_URL`, and else an embedded bus.
    #[arg(long = "bus", value_name = "URL")]
    address: Option<Address>,
}

impl BusArgs {
    /// Returns the configuration: the environment's, on the bus that was named here. An empty
    /// address counts as none.
    ///
    /// # Errors
    ///
    /// Fails where the address or the environment is wrong; never shows a password.
    pub fn config(&self) -> anyhow::Result<Config> {
        let address = self.address.as_ref().map(|address| address.0.trim());
        let bus = address.filter(|text| !text.is_empty()).map(str::parse::<BusUrl>).transpose();
        let bus = bus.map_err(|error| anyhow!("`--bus` is not the address of a bus: {error}"))?;
        Ok(Config::load_with_bus(bus)?)
    }
}

/// Address of a bus as it was typed, which is never shown: it may hold a password.
#[derive(Clone)]
struct Address(String);

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

fn timeout(text: &str) -> Result<Duration, String> {
    const ALLOWED: &str = "write a time above zero, such as `30s` or `2m`";
    let time: SignedDuration = text.parse().map_err(|_| ALLOWED.to_owned())?;
    Duration::try_from(time).ok().filter(|time| !time.is_zero()).ok_or_else(|| ALLOWED.into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn ask(arguments: &[&str]) -> Result<Ask, String> {
        let arguments = ["market", "ask"].iter().chain(arguments);
        match Cli::try_parse_from(arguments).map_err(|error| error.to_string())?.command {
            Command::Ask(ask) => Ok(ask),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_question_may_be_quoted_or_not() {
        assert_eq!(ask(&["how did ZEC move"]).expect("quoted").question(), "how did ZEC move");
        assert_eq!(
            ask(&["how", "did", "ZEC", "move"]).expect("bare").question(),
            "how did ZEC move"
        );
        assert_eq!(ask(&[""]).expect("empty").question(), "");
        assert!(ask(&[]).is_err());
    }

    #[test]
    fn options_are_read() {
        let ask = ask(&[
            "ZEC",
            "--prices",
            "a.csv",
            "--prices",
            "zec=b.csv",
            "--json",
            "--all",
            "--timeout",
            "2m",
            "--bus",
            "amqp://me:secret@host/vhost",
        ])
        .expect("options");
        assert_eq!(ask.prices.sources.len(), 2);
        assert!(ask.json && ask.all);
        assert_eq!(ask.timeout, Duration::from_mins(2));
        assert!(!format!("{ask:?}").contains("secret"));
        let config = ask.bus.config().expect("a configuration");
        assert_eq!(config.bus, "amqp://me:secret@host/vhost".parse().expect("an address"));
    }

    #[test]
    fn bad_values_say_what_is_allowed() {
        for (arguments, part) in [
            (&["ZEC", "--timeout", "soon"][..], "such as `30s`"),
            (&["ZEC", "--timeout", "0s"], "above zero"),
            (&["ZEC", "--timeout=-5s"], "above zero"),
            (&["ZEC", "--prices", "a b=c.csv"], "not a ticker"),
            (&["ZEC", "--prices", ""], "--prices"),
        ] {
            let error = ask(arguments).expect_err(part);
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn an_address_that_is_none_is_not_shown() {
        let ask = ask(&["ZEC", "--bus", "amqp//me:secret@host"]).expect("read later");
        let error = ask.bus.config().expect_err("no address").to_string();
        assert!(error.starts_with("`--bus` is not the address of a bus: "), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
