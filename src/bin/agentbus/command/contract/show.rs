//! `agentbus contract show`: a message or an enum as the contract declares it.

use clap::Args;
use prost_reflect::{EnumDescriptor, MessageDescriptor};
use serde::Serialize;

use crate::{
    contract::{
        carriers::{self, Carrier},
        comment,
        described::{Described, Place},
        proto_text::ProtoText,
    },
    exit::{Exit, Usage},
    output::printable,
    session::Session,
};

const EXAMPLES: &str = "\
Examples:
  agentbus contract show market.v1.Question --proto market.proto
  agentbus contract show Question --all --descriptor-set market.bin
  agentbus contract show --proto market.proto

Without TYPE, lists the routes, and the messages that they carry.";

/// Shows a message or an enum as `.proto` text with its comments, and the routes that carry it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Show {
    /// Full name of a message or an enum; the last part will do where there is but one of it.
    #[arg(value_name = "TYPE")]
    name: Option<String>,
    /// Shows the types that its fields have as well.
    #[arg(long, requires = "name")]
    all: bool,
}

/// A message or an enum.
enum Definition {
    Message(MessageDescriptor),
    Enum(EnumDescriptor),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    #[serde(rename = "type")]
    name: String,
    kind: &'static str,
    #[serde(flatten)]
    place: Place,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    proto: String,
    routes: Vec<Carrier>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownRoute {
    topic: String,
    method: String,
    request: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<String>,
}

/// Shows.
pub(crate) async fn run(args: Show, session: &Session) -> anyhow::Result<Exit> {
    let contract = session.described().await?;
    let output = session.output();
    let Some(name) = &args.name else {
        return routes(&contract, session);
    };
    let definition = find(&contract, name)?;
    let mut shown = vec![shown(&contract, &definition)];
    if let (Definition::Message(message), true) = (&definition, args.all) {
        let mut parts = carriers::parts(message);
        parts.messages.remove(message.full_name());
        let messages = parts.messages.into_values().map(Definition::Message);
        let enums = parts.enums.into_values().map(Definition::Enum);
        shown.extend(messages.chain(enums).map(|part| self::shown(&contract, &part)));
    }
    for (index, shown) in shown.into_iter().enumerate() {
        // The types of its fields are carried by the same routes; those are listed once.
        let text = || text(&shown, index == 0);
        output.result(&shown, text)?;
    }
    Ok(Exit::Ok)
}

fn routes(contract: &Described, session: &Session) -> anyhow::Result<Exit> {
    let output = session.output();
    let rows: Vec<_> = contract
        .routes()
        .map(|route| ShownRoute {
            topic: route.key.clone(),
            method: carriers::method(route),
            request: route.request.clone(),
            reply: route.reply.clone(),
        })
        .collect();
    if output.is_json() {
        for row in &rows {
            output.json(row)?;
        }
    } else {
        let rows = rows.into_iter().map(|row| {
            [row.topic, row.method, row.request, row.reply.unwrap_or_else(|| "-".to_owned())]
        });
        output.table(["TOPIC", "METHOD", "SENT", "REPLY"], rows)?;
    }
    Ok(Exit::Ok)
}

/// Finds a type by its full name, or by the end of it where only one has that.
fn find(contract: &Described, name: &str) -> anyhow::Result<Definition> {
    if let Some(found) = contract.message(name).filter(|message| !message.is_map_entry()) {
        return Ok(Definition::Message(found));
    }
    if let Some(found) = contract.enumeration(name) {
        return Ok(Definition::Enum(found));
    }
    let end = format!(".{name}");
    let mut found: Vec<_> =
        contract.type_names().into_iter().filter(|known| known.ends_with(&end)).collect();
    if let [only] = &found[..] {
        return find(contract, only);
    }
    found.sort();
    let text = if found.is_empty() {
        format!("the contract has no type `{name}`; `agentbus contract show` lists what it carries")
    } else {
        format!("`{name}` may be any of `{}`: give the full name", found.join("`, `"))
    };
    Err(Usage(text).into())
}

fn shown(contract: &Described, definition: &Definition) -> Shown {
    let (file, path, full_name, package) = match definition {
        Definition::Message(it) => {
            (it.parent_file(), it.path(), it.full_name(), it.package_name().to_owned())
        }
        Definition::Enum(it) => {
            (it.parent_file(), it.path(), it.full_name(), it.package_name().to_owned())
        }
    };
    // As within the file: what is in the same package goes without its name.
    let prefix = format!("{package}.");
    let short = |name: &str| name.strip_prefix(&prefix).unwrap_or(name).to_owned();
    let writer = ProtoText::new(&short);
    let (kind, proto) = match definition {
        Definition::Message(it) => ("message", writer.message(it, it.name(), "")),
        Definition::Enum(it) => ("enum", ProtoText::enumeration(it, it.name(), "")),
    };
    Shown {
        name: full_name.to_owned(),
        kind,
        place: contract.place(&file, path),
        comment: comment::of(&file, path),
        proto,
        routes: carriers::of(contract, full_name),
    }
}

fn text(shown: &Shown, with_routes: bool) -> String {
    let mut lines = vec![format!("// {} ({})", shown.name, shown.place)];
    if with_routes {
        for carrier in &shown.routes {
            let Carrier { topic, method, role, within } = carrier;
            let within =
                within.as_ref().map_or_else(String::new, |name| format!(", within {name}"));
            lines.push(format!("// carried by {topic}: {role} of {method}{within}"));
        }
        if shown.routes.is_empty() {
            lines.push("// carried by no route".to_owned());
        }
    }
    lines.push(String::new());
    lines.extend(shown.proto.lines().map(str::to_owned));
    lines.push(String::new());
    let lines: Vec<_> = lines.iter().map(|line| printable(line)).collect();
    lines.join("\n")
}
