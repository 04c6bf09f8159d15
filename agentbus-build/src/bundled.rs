//! The schemas of package `agentbus.v1`, carried along so that nobody needs a copy of them.

use protox::{
    Error,
    file::{File, FileResolver},
};

/// Name and source of each schema.
const FILES: [(&str, &str); 9] = [
    ("agentbus/v1/agent_card.proto", include_str!("../proto/agentbus/v1/agent_card.proto")),
    ("agentbus/v1/agent_started.proto", include_str!("../proto/agentbus/v1/agent_started.proto")),
    ("agentbus/v1/agent_stopped.proto", include_str!("../proto/agentbus/v1/agent_stopped.proto")),
    ("agentbus/v1/dead_lettered.proto", include_str!("../proto/agentbus/v1/dead_lettered.proto")),
    ("agentbus/v1/discover.proto", include_str!("../proto/agentbus/v1/discover.proto")),
    ("agentbus/v1/error_reply.proto", include_str!("../proto/agentbus/v1/error_reply.proto")),
    ("agentbus/v1/metadata.proto", include_str!("../proto/agentbus/v1/metadata.proto")),
    (
        "agentbus/v1/request_deadline.proto",
        include_str!("../proto/agentbus/v1/request_deadline.proto"),
    ),
    (ROUTE_FILE, include_str!("../proto/agentbus/v1/route.proto")),
];

/// Returns name (`agentbus/v1/route.proto`) and text of each schema of package `agentbus.v1`.
///
/// They come with this crate, and imports of them are resolved from it; other compilers need them as
/// files.
#[must_use]
pub fn bundled_protos() -> impl ExactSizeIterator<Item = (&'static str, &'static str)> {
    FILES.into_iter()
}

/// The schema that a file with routes imports.
pub(crate) const ROUTE_FILE: &str = "agentbus/v1/route.proto";

/// The extension that holds a method's key.
pub(crate) const ROUTE_EXTENSION: &str = "agentbus.v1.route";

/// Resolves `import "agentbus/v1/….proto"` from memory.
#[derive(Debug)]
pub(crate) struct Bundled;

impl FileResolver for Bundled {
    fn open_file(&self, name: &str) -> Result<File, Error> {
        match FILES.iter().find(|(known, _)| *known == name) {
            Some((_, source)) => File::from_source(name, source),
            None => Err(Error::file_not_found(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, path::Path};

    use super::*;

    fn tree(dir: &Path) -> BTreeMap<String, String> {
        fs::read_dir(dir)
            .expect("the directory can be read")
            .map(|entry| {
                let path = entry.expect("the entry can be read").path();
                let name = path.file_name().expect("it has a name").to_string_lossy();
                let name = format!("agentbus/v1/{name}");
                (name, fs::read_to_string(&path).expect("the file can be read"))
            })
            .collect()
    }

    #[test]
    fn every_schema_of_the_package_is_bundled() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/agentbus/v1");
        let bundled = FILES.map(|(name, source)| (name.to_owned(), source.to_owned()));
        assert_eq!(tree(&here), BTreeMap::from(bundled));
    }

    #[test]
    fn the_copy_is_byte_identical_to_the_original() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        if !here.join("../proto").exists() {
            eprintln!("skipped: a published package has no original beside it");
            return;
        }
        let copy = tree(&here.join("proto/agentbus/v1"));
        assert_eq!(copy, tree(&here.join("../proto/agentbus/v1")));
    }

    #[test]
    fn an_unknown_name_is_left_to_the_next_resolver() {
        let error = Bundled.open_file("agentbus/v1/other.proto").unwrap_err();
        assert!(error.is_file_not_found());
    }
}
