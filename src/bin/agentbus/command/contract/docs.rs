//! `agentbus contract docs`: the contract as a document, for programs or for people.

use std::{fs, path::PathBuf};

use agentbus::config::BusUrl;
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::{
    asyncapi::{self, About, Server},
    contract::{described::Described, source},
    exit::{Exit, Usage},
    page,
    session::Session,
};

const EXAMPLES: &str = "\
Examples:
  agentbus contract docs --proto market.proto > asyncapi.json
  agentbus contract docs --proto market.proto --format markdown --output market.md
  agentbus contract docs --descriptor-set market.bin --bus amqp://rabbit/prod --title Market

The AsyncAPI document is JSON, which is YAML, too. It names a broker only where `--bus` does, and never
users or passwords.";

/// Writes an `AsyncAPI` 3.0 document, or a page to read.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Docs {
    /// What to write.
    #[arg(long, value_enum, default_value_t = Format::Asyncapi)]
    format: Format,
    /// The file to write to, in place of standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What the contract is called; without it, the packages of its services.
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Which version of the contract this is; without it, what the package ends with (`v1`).
    #[arg(long = "contract-version", value_name = "TEXT")]
    version: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// `AsyncAPI` 3.0, as JSON.
    Asyncapi,
    /// A page as Markdown.
    Markdown,
    /// A page as one HTML file.
    Html,
}

/// What was written where.
#[derive(Serialize)]
struct Written {
    path: String,
    format: Format,
}

/// A page within a line of JSON.
#[derive(Serialize)]
struct PageText {
    format: Format,
    text: String,
}

/// Writes.
pub(crate) async fn run(args: Docs, session: &Session) -> anyhow::Result<Exit> {
    let contract = session.described().await?;
    if contract.routes().next().is_none() {
        let text = "the contract has no routes: nothing travels by it";
        return Err(Usage(text.to_owned()).into());
    }
    let output = session.output();
    let title = args.title.clone().unwrap_or_else(|| packages(&contract));
    let document = match args.format {
        Format::Asyncapi => Some(document(&args, &title, &contract, session)?),
        Format::Markdown | Format::Html => None,
    };
    let text = match (&document, args.format) {
        (Some(document), _) => serde_json::to_string_pretty(document)? + "\n",
        (None, Format::Html) => page::to_html(&page::page(&contract, &title)),
        (None, _) => page::to_markdown(&page::page(&contract, &title)),
    };
    if let Some(path) = &args.output {
        let shown = path.display().to_string();
        fs::write(path, text).with_context(|| format!("cannot write `{shown}`"))?;
        let written = Written { path: shown, format: args.format };
        output.result(&written, || written.path.clone())?;
    } else if !output.is_json() {
        output.text(text.trim_end())?;
    } else if let Some(document) = &document {
        output.json(document)?;
    } else {
        output.json(&PageText { format: args.format, text })?;
    }
    Ok(Exit::Ok)
}

fn document(
    args: &Docs,
    title: &str,
    contract: &Described,
    session: &Session,
) -> anyhow::Result<serde_json::Value> {
    let config = session.config()?;
    let servers = match (&config.bus, session.names_bus()) {
        (BusUrl::Amqp(url), true) => url
            .hosts()
            .map(|(host, port)| Server {
                host: format!("{host}:{port}"),
                protocol: url.scheme(),
                vhost: url.vhost().to_owned(),
            })
            .collect(),
        _ => Vec::new(),
    };
    let about = About {
        title: title.to_owned(),
        version: args.version.clone().unwrap_or_else(|| version(contract)),
        exchange: config.exchange.clone(),
        servers,
    };
    let own = Described::own(source::decode(agentbus::proto::v1::FILE_DESCRIPTOR_SET)?)?;
    Ok(asyncapi::document(contract, &own, &about))
}

/// Names the packages that have routes.
fn packages(contract: &Described) -> String {
    let mut packages: Vec<&str> = contract
        .routes()
        .map(|route| route.service.rsplit_once('.').map_or("", |(package, _)| package))
        .filter(|package| !package.is_empty())
        .collect();
    packages.dedup();
    if packages.is_empty() { "Contract".to_owned() } else { packages.join(", ") }
}

/// Returns what the first package ends with where that is a version, as in `market.v1`.
fn version(contract: &Described) -> String {
    let packages = packages(contract);
    let first = packages.split(", ").next().unwrap_or_default();
    let last = first.rsplit('.').next().unwrap_or_default();
    let is_version = |text: &str| {
        text.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    if is_version(last) { last.to_owned() } else { "unversioned".to_owned() }
}
