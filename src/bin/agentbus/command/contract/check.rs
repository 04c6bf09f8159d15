//! `agentbus contract check`: what breaks when a contract takes the place of another.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::{
    compatibility::{self, Category, Finding, FindingJson},
    contract::{described::Described, source::Source},
    exit::{Exit, Usage},
    output::{note, printable},
    session::Session,
};

const EXAMPLES: &str = "\
Examples:
  agentbus contract check old/proto proto
  agentbus contract check released.bin proto -I third_party
  agentbus contract check agent:data proto
  git archive main proto | tar -x -C /tmp/main && agentbus contract check /tmp/main/proto proto

OLD and NEW are folders of `.proto` files, `.proto` files, descriptor sets, or running agents (`agent:NAME`,
on the bus that agents use). `-I` names folders that both search their imports in. Ends with 1 where something breaks, and names the place in NEW, or in OLD where it
is gone from NEW.";

/// What comes before the name of an agent.
const AGENT: &str = "agent:";

/// Finds what breaks readers or writers when one contract takes the place of another.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Check {
    /// The contract that messages and agents have now.
    old: PathBuf,
    /// The contract that is to take its place.
    new: PathBuf,
    /// What must not break: messages as protobuf; as `ProtoJSON`, too; or generated code as well.
    #[arg(long, value_enum, default_value_t = Category::WireJson)]
    level: Category,
}

/// Compares.
pub(crate) async fn run(args: Check, session: &Session) -> anyhow::Result<Exit> {
    let contract = session.contract_args();
    if contract.names_any() {
        let text = "`check` compares OLD with NEW: give both without `--proto`, `--descriptor-set` and \
                    `--from-agent`";
        return Err(Usage(text.to_owned()).into());
    }
    let old = read(&args.old, session).await?;
    let new = read(&args.new, session).await?;
    let findings = compatibility::compare(&old, &new);
    let (told, passed): (Vec<_>, Vec<_>) =
        findings.iter().partition(|finding| finding.category <= args.level);
    let output = session.output();
    for finding in &told {
        output.result(&FindingJson::from(*finding), || printable(&finding.to_string()))?;
    }
    if !output.is_json() {
        output.text(summary(&told))?;
    }
    if !passed.is_empty() {
        let more = passed.iter().map(|finding| finding.category).max().unwrap_or(args.level);
        note(format_args!("{} passed over; `--level {more}` shows them", changes(passed.len())));
    }
    Ok(if told.is_empty() { Exit::Ok } else { Exit::Failed })
}

/// Reads OLD or NEW.
async fn read(named: &Path, session: &Session) -> anyhow::Result<Described> {
    let agent = named.to_str().and_then(|text| text.strip_prefix(AGENT));
    match agent {
        Some(agent) => Described::read_all(session.registered(agent).await?),
        None => Described::read(Source::of_path(named, session.contract_args().includes())?),
    }
}

fn summary(told: &[&Finding]) -> String {
    if told.is_empty() {
        "nothing breaks".to_owned()
    } else {
        let breaks = if told.len() == 1 { "breaks" } else { "break" };
        format!("{} {breaks} readers or writers", changes(told.len()))
    }
}

fn changes(count: usize) -> String {
    if count == 1 { "1 change".to_owned() } else { format!("{count} changes") }
}
