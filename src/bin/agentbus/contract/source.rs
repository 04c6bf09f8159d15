//! Where a contract is read from.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use agentbus::Schema;
use agentbus_build::Contract;

use crate::exit::Usage;

/// How deep folders are searched for `.proto` files.
const MAX_DEPTH: usize = 32;

/// Where a contract is read from. Whatever it is, the same descriptors come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// `.proto` files, and the folders that they and their imports are searched in.
    Protos { files: Vec<PathBuf>, includes: Vec<PathBuf> },
    /// A file with an encoded `FileDescriptorSet`.
    DescriptorSet(PathBuf),
    /// What a running agent has told.
    Registered { agent: String, descriptor_set: Vec<u8> },
}

impl Source {
    /// Names `.proto` files. Without `includes`, the folders that the files are in take their place.
    pub(crate) fn protos(files: Vec<PathBuf>, mut includes: Vec<PathBuf>) -> Self {
        if includes.is_empty() {
            includes = files.iter().filter_map(|file| file.parent().map(PathBuf::from)).collect();
            includes.dedup();
        }
        Self::Protos { files, includes }
    }

    /// Finds out what a path is: a folder of `.proto` files, a `.proto` file, or else a descriptor
    /// set.
    pub(crate) fn of_path(path: &Path, includes: &[PathBuf]) -> anyhow::Result<Self> {
        if path.is_dir() {
            let mut files = Vec::new();
            find_protos(path, MAX_DEPTH, &mut files).map_err(|error| unreadable(path, &error))?;
            if files.is_empty() {
                let shown = path.display();
                return Err(Usage(format!("there are no `.proto` files in `{shown}`")).into());
            }
            let mut includes = includes.to_vec();
            // A folder within another one that was given has its import names from there.
            if !includes.iter().any(|include| path.starts_with(include)) {
                includes.push(path.to_owned());
            }
            return Ok(Self::protos(files, includes));
        }
        if path.extension().is_some_and(|extension| extension == "proto") {
            return Ok(Self::protos(vec![path.to_owned()], includes.to_vec()));
        }
        Ok(Self::DescriptorSet(path.to_owned()))
    }

    /// Reads the contract, and checks that it is sound.
    pub(crate) fn read(&self) -> Result<Contract, Usage> {
        match self {
            Self::Protos { files, includes } => {
                Contract::from_protos(files, includes).map_err(|error| Usage(error.to_string()))
            }
            Self::DescriptorSet(path) => {
                let bytes = fs::read(path).map_err(|error| unreadable(path, &error))?;
                decode(&bytes).map_err(|error| Usage(format!("`{}`: {error}", path.display())))
            }
            Self::Registered { descriptor_set, .. } => {
                decode(descriptor_set).map_err(|error| Usage(format!("{self}: {error}")))
            }
        }
    }

    /// Finds the file behind an import name, as far as it is on disk.
    pub(crate) fn path_of(&self, import: &str) -> Option<PathBuf> {
        match self {
            Self::Protos { includes, .. } => {
                includes.iter().map(|include| include.join(import)).find(|path| path.is_file())
            }
            Self::DescriptorSet(_) | Self::Registered { .. } => None,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protos { files, .. } => {
                for (index, file) in files.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    write!(f, "{separator}`{}`", file.display())?;
                }
                Ok(())
            }
            Self::DescriptorSet(path) => write!(f, "`{}`", path.display()),
            Self::Registered { agent, .. } => write!(f, "the contract of `{agent}`"),
        }
    }
}

/// Reads a contract from an encoded `FileDescriptorSet`, wherever that came from.
pub(crate) fn decode(descriptor_set: &[u8]) -> Result<Contract, Usage> {
    // Checks more than the compiler's own reader, which takes some nonsense on trust.
    Schema::decode(descriptor_set).map_err(|error| Usage(error.to_string()))?;
    // An empty file would be a set as well.
    if descriptor_set.is_empty() {
        return Err(Usage("there is nothing in the descriptor set".to_owned()));
    }
    Contract::from_descriptor_set(descriptor_set).map_err(|error| Usage(error.to_string()))
}

fn unreadable(path: &Path, error: &io::Error) -> Usage {
    Usage(format!("cannot read `{}`: {error}", path.display()))
}

/// Collects the `.proto` files below a folder, in the order of their names. Hidden folders and links
/// to folders are passed over.
fn find_protos(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            if !hidden && depth > 0 {
                find_protos(&path, depth - 1, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "proto") && path.is_file() {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn market() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("proto")
    }

    #[test]
    fn a_folder_is_read_with_all_that_is_in_it() {
        let source = Source::of_path(&market(), &[]).expect("a folder");
        let Source::Protos { files, includes } = &source else { panic!("{source:?}") };
        assert!(files.iter().any(|file| file.ends_with("agentbus/v1/route.proto")), "{files:?}");
        assert_eq!(includes, &[market()]);
        assert_eq!(
            source.path_of("agentbus/v1/route.proto"),
            Some(market().join("agentbus/v1/route.proto"))
        );
        source.read().expect("our own schemas");
    }

    #[test]
    fn a_folder_within_an_include_keeps_its_import_names() {
        let source = Source::of_path(&market().join("agentbus"), &[market()]).expect("a folder");
        let Source::Protos { includes, .. } = source else { panic!("{source:?}") };
        assert_eq!(includes, [market()]);
    }

    #[test]
    fn what_is_no_proto_is_a_descriptor_set() {
        let source = Source::of_path(Path::new("no/such.bin"), &[]).expect("a path");
        assert_eq!(source, Source::DescriptorSet("no/such.bin".into()));
        let error = source.read().unwrap_err().to_string();
        assert!(error.starts_with("cannot read `no/such.bin`: "), "{error}");
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/retry");
        let error = Source::of_path(&src, &[]).unwrap_err().to_string();
        assert!(error.starts_with("there are no `.proto` files in "), "{error}");
    }
}
