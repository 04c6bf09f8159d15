//! Compiles `.proto` files into descriptors, and remembers where each came from.

use std::{
    collections::BTreeMap,
    error::Error as _,
    fs, iter,
    path::{Path, PathBuf},
};

use miette::{Diagnostic, SourceCode};
use protox::{
    Compiler,
    file::{ChainFileResolver, GoogleFileResolver, IncludeFileResolver},
    prost_reflect::{DescriptorPool, FileDescriptor},
};

use crate::{
    bundled::Bundled,
    problem::{Error, Location, Problem},
};

/// Descriptors of a contract, with its imports and options.
pub(crate) struct Sources {
    /// All files, each after the files that it imports.
    pub(crate) pool: DescriptorPool,
    /// The same as bytes, custom options and source information included.
    pub(crate) descriptor_set: Vec<u8>,
    /// Where each import name was found; the files that came from memory are missing.
    paths: BTreeMap<String, PathBuf>,
}

impl Sources {
    /// Compiles `files` and what they import.
    pub(crate) fn compile(files: &[PathBuf], includes: &[PathBuf]) -> Result<Self, Error> {
        let mut compiler = compiler(includes);
        let mut problems = Vec::new();
        for file in files {
            if let Err(found) = open(&mut compiler, file, includes) {
                // What the failed file left behind must not confuse the next one.
                compiler = self::compiler(includes);
                for problem in found {
                    if !problems.contains(&problem) {
                        problems.push(problem);
                    }
                }
            }
        }
        if !problems.is_empty() {
            return Err(Error::Contract(problems));
        }
        let paths = compiler
            .files()
            .filter_map(|file| Some((file.name().to_owned(), file.path()?.to_owned())))
            .collect();
        let descriptor_set = compiler.encode_file_descriptor_set();
        Ok(Self { paths, ..Self::decode(&descriptor_set)? })
    }

    /// Reads what a compiler wrote before.
    pub(crate) fn decode(descriptor_set: &[u8]) -> Result<Self, Error> {
        let pool = DescriptorPool::decode(descriptor_set)
            .map_err(|error| Error::DescriptorSet(format!("{error:?}")))?;
        Ok(Self { pool, descriptor_set: descriptor_set.to_vec(), paths: BTreeMap::new() })
    }

    /// Returns every file that was read from disk.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.paths.values().map(PathBuf::as_path)
    }

    /// Returns the place of the element at `path`, as `SourceCodeInfo` means it.
    pub(crate) fn location(&self, file: &FileDescriptor, path: &[i32]) -> Location {
        self.place(file, |place| place == path)
    }

    /// Returns the place of what is at `path`; where it has none, of its first part that has one, or
    /// else of the nearest that it is a part of.
    pub(crate) fn nearest(&self, file: &FileDescriptor, path: &[i32]) -> Location {
        let within = self.place(file, |place| place.starts_with(path));
        let around = (0..path.len()).rev().map(|end| self.location(file, &path[..end]));
        iter::once(within)
            .chain(around)
            .find(|place| place.line > 0)
            .unwrap_or_else(|| Location::whole(self.name(file)))
    }

    /// Returns the first place whose path is as asked for.
    fn place(&self, file: &FileDescriptor, is_asked_for: impl Fn(&[i32]) -> bool) -> Location {
        let name = self.name(file);
        let info = file.file_descriptor_proto().source_code_info.as_ref();
        let span = info
            .and_then(|info| info.location.iter().find(|place| is_asked_for(&place.path)))
            .and_then(|place| Some((*place.span.first()?, *place.span.get(1)?)));
        match span {
            Some((line, column)) => Location {
                file: name,
                line: u32::try_from(line).unwrap_or(0) + 1,
                column: u32::try_from(column).unwrap_or(0) + 1,
            },
            None => Location::whole(name),
        }
    }

    /// Returns what a file is called in messages.
    fn name(&self, file: &FileDescriptor) -> String {
        match self.paths.get(file.name()) {
            Some(path) => shown(path),
            None => file.name().to_owned(),
        }
    }
}

fn compiler(includes: &[PathBuf]) -> Compiler {
    let mut resolver = ChainFileResolver::new();
    for include in includes {
        resolver.add(IncludeFileResolver::new(include.clone()));
    }
    resolver.add(Bundled);
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).include_source_info(true);
    compiler
}

fn open(compiler: &mut Compiler, file: &Path, includes: &[PathBuf]) -> Result<(), Vec<Problem>> {
    let found = file.exists() || includes.iter().any(|include| include.join(file).exists());
    if !found {
        let problem = Problem::new(Location::whole(shown(file)), "no such file");
        return Err(vec![problem]);
    }
    match compiler.open_file(file) {
        Ok(_) => Ok(()),
        Err(error) => {
            let name = match error.file() {
                Some(name) => found_in(name, includes),
                None => file.to_owned(),
            };
            let mut problems = Vec::new();
            collect(&error, None, &name, &mut problems);
            if let Some(cause) = error.source().filter(|_| error.is_io()) {
                for problem in &mut problems {
                    problem.message += ": ";
                    problem.message += &cause.to_string();
                }
            }
            if error.is_parse() {
                for problem in problems.iter_mut().filter(|p| p.location.line == 0) {
                    problem.location = end_of(&name);
                }
            }
            Err(problems)
        }
    }
}

/// Adds what `diagnostic` says, and what is related to it.
fn collect(
    diagnostic: &dyn Diagnostic,
    source: Option<&dyn SourceCode>,
    file: &Path,
    problems: &mut Vec<Problem>,
) {
    let source = diagnostic.source_code().or(source);
    let mut location = Location::whole(shown(file));
    if let Some(place) = place(diagnostic, source) {
        (location.line, location.column) = place;
    }
    let message = match diagnostic.help() {
        Some(help) => format!("{diagnostic} ({help})"),
        None => diagnostic.to_string(),
    };
    problems.push(Problem::new(location, message));
    for related in diagnostic.related().into_iter().flatten() {
        collect(related, source, file, problems);
    }
}

/// Finds line and column of a diagnostic.
fn place(diagnostic: &dyn Diagnostic, source: Option<&dyn SourceCode>) -> Option<(u32, u32)> {
    let labels: Vec<_> = diagnostic.labels()?.collect();
    // Of two labels, the one that says where the mistake is, not where its cause was defined.
    let label = ["again", "found"]
        .iter()
        .find_map(|word| {
            let says = |label: &&miette::LabeledSpan| label.label().unwrap_or("").contains(word);
            labels.iter().find(says)
        })
        .or(labels.first())?;
    let text = source?.read_span(label.inner(), 0, 0).ok()?;
    let line = u32::try_from(text.line()).ok()?;
    let column = u32::try_from(text.column()).ok()?;
    Some((line + 1, column + 1))
}

/// Points at the end of a file: where the parser was when it wanted more.
fn end_of(path: &Path) -> Location {
    let mut location = Location::whole(shown(path));
    if let Ok(text) = fs::read_to_string(path) {
        let lines: Vec<&str> = text.trim_end().split('\n').collect();
        let last = lines.last().map_or(0, |line| line.chars().count());
        location.line = u32::try_from(lines.len()).unwrap_or(0);
        location.column = u32::try_from(last + 1).unwrap_or(0);
    }
    location
}

/// Finds the file behind an import name.
fn found_in(name: &str, includes: &[PathBuf]) -> PathBuf {
    includes
        .iter()
        .map(|include| include.join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| name.into())
}

fn shown(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use crate::{bundled::ROUTE_EXTENSION, scratch::Scratch};

    use super::*;

    #[test]
    fn syntax_errors_have_file_line_and_column() {
        let source = "syntax = \"proto3\";\nmessage M {\n  string = 1;\n}\n";
        let text = Scratch::with([("a.proto", source)]).problems(&["a.proto"]);
        assert!(text.starts_with("a.proto:3:10: expected"), "{text}");
    }

    #[test]
    fn a_file_that_ends_too_early_is_pointed_at_its_end() {
        let source = "syntax = \"proto3\";\nmessage M {\n  string a = 1;\n";
        let text = Scratch::with([("a.proto", source)]).problems(&["a.proto"]);
        assert!(text.starts_with("a.proto:3:16: "), "{text}");
    }

    #[test]
    fn every_unknown_type_of_every_file_is_told() {
        let one = "syntax = \"proto3\";\nmessage M {\n  One a = 1;\n  Two b = 2;\n}";
        let two = "syntax = \"proto3\";\nimport \"none.proto\";";
        let scratch = Scratch::with([("one.proto", one), ("two.proto", two)]);
        assert_eq!(
            scratch.problems(&["one.proto", "two.proto", "three.proto"]),
            "one.proto:3:3: name 'One' is not defined\n\
             one.proto:4:3: name 'Two' is not defined\n\
             two.proto:2:1: import 'none.proto' not found\n\
             three.proto: no such file"
        );
    }

    #[test]
    fn a_problem_of_an_import_is_told_once_and_there() {
        let bad = "syntax = \"proto3\";\nmessage M {} message M {}";
        let good = "syntax = \"proto3\";\nimport \"bad.proto\";";
        let scratch = Scratch::with([("bad.proto", bad), ("b.proto", good), ("c.proto", good)]);
        let text = scratch.problems(&["b.proto", "c.proto"]);
        assert_eq!(text.lines().next(), Some("bad.proto:2:22: name 'M' is defined twice"));
        assert_eq!(text.matches("'M' is defined twice").count(), 1, "{text}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told_with_the_cause() {
        let scratch = Scratch::with([("a.proto/b.proto", "")]);
        let text = scratch.problems(&["a.proto"]);
        assert!(text.starts_with("a.proto: error opening file"), "{text}");
        assert!(text.contains("': "), "{text}");
    }

    #[test]
    fn a_mistyped_option_is_told_with_its_place() {
        let source = "syntax = \"proto3\";\nimport \"agentbus/v1/route.proto\";\nmessage M {}\nservice S {\n  \
            rpc A(M) returns (M) { option (agentbus.v1.route).kee = \"a\"; }\n}";
        let text = Scratch::with([("a.proto", source)]).problems(&["a.proto"]);
        assert!(text.starts_with("a.proto:5:"), "{text}");
    }

    #[test]
    fn our_schemas_come_from_memory_and_options_survive() {
        let source = "syntax = \"proto3\";\nimport \"agentbus/v1/route.proto\";\n\
            import \"agentbus/v1/error_reply.proto\";\nimport \"agentbus/v1/metadata.proto\";\n\
            message M {}\nservice S {\n  rpc A(M) returns (M) { option (agentbus.v1.route).key = \"a\"; }\n}";
        let scratch = Scratch::with([("a.proto", source)]);
        let sources = Sources::compile(&["a.proto".into()], &[scratch.path("")]).unwrap();
        assert_eq!(sources.paths().collect::<Vec<_>>(), [scratch.path("a.proto")]);
        let pool = DescriptorPool::decode(sources.descriptor_set.as_slice()).unwrap();
        let route = pool.get_extension_by_name(ROUTE_EXTENSION).unwrap();
        assert_eq!(route.number(), 51717);
        let method = pool.get_service_by_name("S").unwrap().methods().next().unwrap();
        let options = method.options();
        let key = options.get_extension(&route);
        let key = key.as_message().unwrap().get_field_by_name("key").unwrap();
        assert_eq!(key.as_str(), Some("a"));
        assert!(pool.get_message_by_name("agentbus.v1.ErrorReply").is_some());
    }

    #[test]
    fn a_copy_in_the_includes_goes_before_ours() {
        let copy = "syntax = \"proto3\"; package agentbus.v1; message Metadata { int32 mine = 1; }";
        let source = "syntax = \"proto3\"; import \"agentbus/v1/metadata.proto\";";
        let scratch = Scratch::with([("agentbus/v1/metadata.proto", copy), ("a.proto", source)]);
        let sources = Sources::compile(&["a.proto".into()], &[scratch.path("")]).unwrap();
        let metadata = sources.pool.get_message_by_name("agentbus.v1.Metadata").unwrap();
        assert!(metadata.get_field_by_name("mine").is_some());
    }
}
