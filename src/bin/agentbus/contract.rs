//! The contract that bodies are written and read by: from `.proto` files, descriptor sets, or agents
//! that run.

pub(crate) mod carriers;
pub(crate) mod comment;
pub(crate) mod described;
pub(crate) mod proto_text;
pub(crate) mod source;

use std::{collections::BTreeMap, path::PathBuf};

use agentbus::{Envelope, Schema, proto};
use agentbus_build::Route;
use anyhow::Context as _;
use clap::Args;

use self::source::Source;
use crate::exit::Usage;

// No doc comment: clap would show it as the help of the command.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Contract")]
pub(crate) struct ContractArgs {
    /// A `.proto` file with messages and routes; may be given several times.
    #[arg(long = "proto", value_name = "FILE", global = true)]
    protos: Vec<PathBuf>,
    /// A folder in which `.proto` files and their imports are searched; may be given several times.
    /// Without it, the folders that the `.proto` files are in.
    #[arg(short = 'I', long = "include", value_name = "DIR", global = true)]
    includes: Vec<PathBuf>,
    /// An encoded `FileDescriptorSet` with all imports, as `protoc --include_imports
    /// --descriptor_set_out` and `buf build` write; may be given several times.
    #[arg(long = "descriptor-set", value_name = "FILE", global = true)]
    descriptor_sets: Vec<PathBuf>,
    /// A running agent that is asked for its contract; may be given several times.
    #[arg(long = "from-agent", value_name = "NAME", global = true)]
    from_agents: Vec<String>,
}

impl ContractArgs {
    /// Returns the agents that are to be asked.
    pub(crate) fn agents(&self) -> &[String] {
        &self.from_agents
    }

    /// Returns the folders that imports are searched in, as they were given.
    pub(crate) fn includes(&self) -> &[PathBuf] {
        &self.includes
    }

    /// Whether the command line names a contract.
    pub(crate) fn names_any(&self) -> bool {
        !(self.protos.is_empty() && self.descriptor_sets.is_empty() && self.from_agents.is_empty())
    }

    /// Returns the files that the command line names.
    pub(crate) fn sources(&self) -> anyhow::Result<Vec<Source>> {
        if self.protos.is_empty() && !self.includes.is_empty() {
            return Err(Usage("`--include` needs a `--proto` to search for".to_owned()).into());
        }
        let protos = (!self.protos.is_empty())
            .then(|| Source::protos(self.protos.clone(), self.includes.clone()));
        let sets = self.descriptor_sets.iter().cloned().map(Source::DescriptorSet);
        Ok(protos.into_iter().chain(sets).collect())
    }
}

/// Messages and routes. Without any files, agentbus's own messages.
#[derive(Debug)]
pub(crate) struct Contract {
    schema: Schema,
    routes: BTreeMap<String, Route>,
    is_given: bool,
}

impl Contract {
    /// Reads it from all that is named.
    pub(crate) fn load(sources: &[Source]) -> anyhow::Result<Self> {
        let mut contract = Self {
            schema: Schema::decode(proto::v1::FILE_DESCRIPTOR_SET)?,
            routes: BTreeMap::new(),
            is_given: !sources.is_empty(),
        };
        for source in sources {
            contract.add(source.read()?).with_context(|| source.to_string())?;
        }
        Ok(contract)
    }

    fn add(&mut self, more: agentbus_build::Contract) -> anyhow::Result<()> {
        let merged = self.schema.merge(more.descriptor_set());
        merged.map_err(|error| Usage(error.to_string()))?;
        for route in more.routes() {
            self.routes.insert(route.key.clone(), route.clone());
        }
        Ok(())
    }

    /// Whether the command line names a contract.
    pub(crate) fn is_given(&self) -> bool {
        self.is_given
    }

    /// Returns the descriptors of all messages.
    pub(crate) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Goes through the routes, by topic.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.values()
    }

    /// Finds the route of a topic.
    pub(crate) fn route(&self, topic: &str) -> Option<&Route> {
        self.routes.get(topic)
    }

    /// Finds the type of what is sent to a topic: the given one, or that of the topic's route.
    pub(crate) fn request_type(&self, topic: &str, given: Option<&str>) -> anyhow::Result<String> {
        if let Some(given) = given {
            return Ok(given.to_owned());
        }
        if let Some(route) = self.route(topic) {
            return Ok(route.request.clone());
        }
        let text = if self.is_given {
            format!(
                "the contract has no route for `{topic}`, so its type is not known; name it by \
                 `--type PACKAGE.MESSAGE`"
            )
        } else {
            format!(
                "the type of `{topic}` is not known: name the contract by `--proto FILE`, \
                 `--descriptor-set FILE` or `--from-agent NAME`"
            )
        };
        Err(Usage(text).into())
    }

    /// Finds out what the body of an envelope is: what it says, or what its topic's route says.
    pub(crate) fn type_of<'a>(&'a self, envelope: &'a Envelope) -> Option<&'a str> {
        let said = envelope.metadata.message_type.as_deref();
        said.or_else(|| Some(&*self.route(envelope.topic.as_deref()?)?.request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Contract {
        Contract::load(&[]).expect("our own messages")
    }

    #[test]
    fn our_own_messages_are_always_there() {
        assert!(own().schema().contains("agentbus.v1.ErrorReply"));
        assert!(!own().is_given());
    }

    #[test]
    fn a_type_that_is_not_known_says_what_to_name() {
        let error = own().request_type("data.request", None).unwrap_err().to_string();
        assert!(error.contains("--proto"), "{error}");
        assert_eq!(own().request_type("data.request", Some("a.B")).unwrap(), "a.B");
    }

    #[test]
    fn files_that_are_not_there_are_named() {
        for args in [
            ContractArgs { protos: vec!["no/such.proto".into()], ..ContractArgs::default() },
            ContractArgs { descriptor_sets: vec!["no/such.proto".into()], ..Default::default() },
        ] {
            let error = Contract::load(&args.sources().expect("sources")).unwrap_err();
            assert!(error.to_string().contains("no/such.proto"), "{error}");
            assert!(error.is::<Usage>(), "{error}");
        }
    }
}
