//! A contract with the descriptors of its parts, and where each of them is declared.

use agentbus::Schema;
use agentbus_build::{Contract, Route};
use anyhow::Context as _;
use prost_reflect::{
    DescriptorPool, EnumDescriptor, FileDescriptor, MessageDescriptor, ServiceDescriptor,
};
use serde::Serialize;

use super::source::{self, Source};
use crate::exit::Usage;

/// A place in a `.proto` file. Line and column count from 1, columns in bytes; both are 0 where they
/// are not known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Place {
    pub(crate) file: String,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        Ok(())
    }
}

/// A contract that was read, with its descriptors.
#[derive(Debug)]
pub(crate) struct Described {
    sources: Vec<Source>,
    contract: Contract,
    pool: DescriptorPool,
}

impl Described {
    pub(crate) fn read(source: Source) -> anyhow::Result<Self> {
        let contract = source.read()?;
        Self::new(vec![source], contract)
    }

    /// Reads several contracts as one; they must not contradict each other.
    pub(crate) fn read_all(mut sources: Vec<Source>) -> anyhow::Result<Self> {
        if sources.len() == 1 {
            return Self::read(sources.remove(0));
        }
        let mut schema = Schema::default();
        for source in &sources {
            let merged = schema.merge(source.read()?.descriptor_set());
            merged.map_err(|error| Usage(format!("{source}: {error}")))?;
        }
        let contract = source::decode(&schema.encode())?;
        Self::new(sources, contract)
    }

    /// Takes a contract that comes with the program.
    pub(crate) fn own(contract: Contract) -> anyhow::Result<Self> {
        Self::new(Vec::new(), contract)
    }

    fn new(sources: Vec<Source>, contract: Contract) -> anyhow::Result<Self> {
        let pool = DescriptorPool::decode(contract.descriptor_set())
            .context("cannot read the descriptors of the contract")?;
        Ok(Self { sources, contract, pool })
    }

    /// Goes through the files, each after the ones that it imports.
    pub(crate) fn files(&self) -> impl Iterator<Item = FileDescriptor> + '_ {
        self.pool.files()
    }

    pub(crate) fn message(&self, full_name: &str) -> Option<MessageDescriptor> {
        self.pool.get_message_by_name(full_name)
    }

    pub(crate) fn enumeration(&self, full_name: &str) -> Option<EnumDescriptor> {
        self.pool.get_enum_by_name(full_name)
    }

    pub(crate) fn service(&self, full_name: &str) -> Option<ServiceDescriptor> {
        self.pool.get_service_by_name(full_name)
    }

    /// Returns the full names of all messages and enums.
    pub(crate) fn type_names(&self) -> Vec<String> {
        let messages = self.pool.all_messages().filter(|message| !message.is_map_entry());
        let messages = messages.map(|message| message.full_name().to_owned());
        messages.chain(self.pool.all_enums().map(|it| it.full_name().to_owned())).collect()
    }

    /// Goes through the routes in the order they are declared.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Route> {
        self.contract.routes()
    }

    /// Finds the place of the element at `path`, as `SourceCodeInfo` means it. Of an element without
    /// a place of its own, that of what it is in.
    pub(crate) fn place(&self, file: &FileDescriptor, path: &[i32]) -> Place {
        let name = match self.sources.iter().find_map(|source| source.path_of(file.name())) {
            Some(path) => path.strip_prefix(".").unwrap_or(&path).display().to_string(),
            None => file.name().to_owned(),
        };
        let places = file.file_descriptor_proto().source_code_info.as_ref();
        let places = places.map(|info| info.location.as_slice()).unwrap_or_default();
        let mut path = path;
        loop {
            let found = places.iter().find(|place| place.path == path && place.span.len() >= 2);
            if let Some(found) = found {
                let from_one = |number: i32| u32::try_from(number).unwrap_or(0) + 1;
                let (line, column) = (from_one(found.span[0]), from_one(found.span[1]));
                return Place { file: name, line, column };
            }
            // Elements are named by pairs: the number of the field, and which one of it.
            match path.len() {
                0 | 1 => return Place { file: name, line: 0, column: 0 },
                length => path = &path[..length - 2],
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn parts_have_places_in_the_files_they_were_read_from() {
        let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
        let source = Source::of_path(&proto, &[]).expect("a folder");
        let read = Described::read(source).expect("our own schemas");
        let message = read.message("agentbus.v1.ErrorReply").expect("it is there");
        let field = message.get_field_by_name("code").expect("it is there");
        let place = read.place(&field.parent_file(), field.path());
        assert_eq!((place.line, place.column), (9, 3));
        assert!(place.file.ends_with("proto/agentbus/v1/error_reply.proto"), "{place}");
        assert!(place.to_string().ends_with("error_reply.proto:9:3"), "{place}");
    }
}
