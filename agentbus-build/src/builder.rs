//! Settings of a compilation, and the compilation.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use prost_build::{Config, Module};

use crate::{
    contract::Contract,
    generate::Routing,
    include::{self, Place},
    problem::Error,
    sources::Sources,
};

/// Package of agentbus's own messages.
const OWN_PACKAGE: &str = ".agentbus.v1";

/// Compiles `.proto` files with other than the default settings.
///
/// ```no_run
/// fn main() -> Result<(), agentbus_build::Error> {
///     agentbus_build::configure()
///         .includes(["proto", "third_party"])
///         .extern_path(".shared.v1", "::shared::v1")
///         .type_attribute(".market.v1.Asset", "#[derive(serde::Serialize)]")
///         .include_file("contract.rs")
///         .compile(["proto/market/v1/market.proto"])
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    includes: Vec<PathBuf>,
    extern_paths: Vec<(String, String)>,
    type_attributes: Vec<(String, String)>,
    field_attributes: Vec<(String, String)>,
    bytes: Vec<String>,
    btree_map: Vec<String>,
    serde: Vec<String>,
    comments: bool,
    out_dir: Option<PathBuf>,
    include_file: Option<PathBuf>,
    file_descriptor_set_path: Option<PathBuf>,
    emit_rerun_if_changed: bool,
    own_package: bool,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// Creates a builder with the defaults: comments are kept, `OUT_DIR` is written to, cargo is told
    /// which files were read.
    #[must_use]
    pub fn new() -> Self {
        Self {
            includes: Vec::new(),
            extern_paths: Vec::new(),
            type_attributes: Vec::new(),
            field_attributes: Vec::new(),
            bytes: Vec::new(),
            btree_map: Vec::new(),
            serde: Vec::new(),
            comments: true,
            out_dir: None,
            include_file: None,
            file_descriptor_set_path: None,
            emit_rerun_if_changed: true,
            own_package: false,
        }
    }

    /// Adds directories in which imports are searched, in order. Each compiled file has to be in one.
    #[must_use]
    pub fn includes(mut self, dirs: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        self.includes.extend(dirs.into_iter().map(|dir| dir.as_ref().to_owned()));
        self
    }

    /// Takes the types of a package, or one type, from elsewhere instead of generating them:
    /// `(".shared.v1", "::shared::v1")`. Constants of that package's services are not generated either.
    ///
    /// `.agentbus.v1` is `::agentbus::proto::v1` unless said otherwise.
    #[must_use]
    pub fn extern_path(mut self, proto: impl Into<String>, rust: impl Into<String>) -> Self {
        self.extern_paths.push((proto.into(), rust.into()));
        self
    }

    /// Adds an attribute to the messages, enums and oneofs at a path. `.` is all of them,
    /// `.market.v1` a package, `.market.v1.Asset` a type, `Asset` any type of this name.
    #[must_use]
    pub fn type_attribute(mut self, path: impl Into<String>, attribute: impl Into<String>) -> Self {
        self.type_attributes.push((path.into(), attribute.into()));
        self
    }

    /// Adds an attribute to the fields at a path, written as for
    /// [`type_attribute`](Self::type_attribute).
    #[must_use]
    pub fn field_attribute(
        mut self,
        path: impl Into<String>,
        attribute: impl Into<String>,
    ) -> Self {
        self.field_attributes.push((path.into(), attribute.into()));
        self
    }

    /// Makes the `bytes` fields at these paths `Bytes`, which is decoded without a copy, instead of
    /// `Vec<u8>`.
    #[must_use]
    pub fn bytes(mut self, paths: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.bytes.extend(paths.into_iter().map(Into::into));
        self
    }

    /// Makes the `map` fields at these paths `BTreeMap`, which keeps its order, instead of `HashMap`.
    #[must_use]
    pub fn btree_map(mut self, paths: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.btree_map.extend(paths.into_iter().map(Into::into));
        self
    }

    /// Gives the messages at these paths `serde::Serialize` and `Deserialize`, written as for
    /// [`type_attribute`](Self::type_attribute): as [`ProtoJSON`], which other languages and
    /// agentbus's own tools read and write.
    ///
    /// It goes by the embedded descriptors, so that times, wrappers, enums, 64-bit integers and
    /// agentbus's own messages come out as `ProtoJSON` has them, which derived impls would not do,
    /// and it needs no crate but `serde`. It is made for JSON in passing (a log, a web request, a
    /// stored state), not for speed: a message is encoded on the way.
    ///
    /// [`ProtoJSON`]: https://protobuf.dev/programming-guides/json/
    #[must_use]
    pub fn serde(mut self, paths: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.serde.extend(paths.into_iter().map(Into::into));
        self
    }

    /// Says whether comments become documentation; they do by default.
    ///
    /// rustdoc takes an indented block in a comment for Rust, and tests it: write such blocks between
    /// fences (```` ```text ````), or turn comments off.
    #[must_use]
    pub fn comments(mut self, keep: bool) -> Self {
        self.comments = keep;
        self
    }

    /// Sets the directory to write to, which has to exist; `OUT_DIR` by default.
    ///
    /// The generated files find each other by relative paths then, so that they can be committed.
    #[must_use]
    pub fn out_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.out_dir = Some(dir.into());
        self
    }

    /// Writes one more file of this name, which includes all packages, each in the module of its
    /// name: `include!(concat!(env!("OUT_DIR"), "/contract.rs"));`. Lints that generated code is
    /// likely to break are allowed in there.
    #[must_use]
    pub fn include_file(mut self, name: impl Into<PathBuf>) -> Self {
        self.include_file = Some(name.into());
        self
    }

    /// Writes the descriptor set to a file of your choice, too. It is embedded either way, as
    /// `FILE_DESCRIPTOR_SET` in each package.
    #[must_use]
    pub fn file_descriptor_set_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.file_descriptor_set_path = Some(path.into());
        self
    }

    /// Says whether to print `cargo:rerun-if-changed` for every file that was read, the default.
    /// Turn it off where this is called from something else than a build script.
    #[must_use]
    pub fn emit_rerun_if_changed(mut self, yes: bool) -> Self {
        self.emit_rerun_if_changed = yes;
        self
    }

    /// Generates package `agentbus.v1` itself: for agentbus's own build script only.
    #[doc(hidden)]
    #[must_use]
    pub fn generate_own_package(mut self, yes: bool) -> Self {
        self.own_package = yes;
        self
    }

    /// Compiles `files`: writes a `.rs` file a package and the descriptor set. Files that have not
    /// changed are left alone.
    ///
    /// # Errors
    ///
    /// [`Error::Contract`] with every problem of the `.proto` files; the other variants where
    /// nothing could be written. Nothing is written then, save where writing itself failed.
    pub fn compile(self, files: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<(), Error> {
        let files: Vec<_> = files.into_iter().map(|file| file.as_ref().to_owned()).collect();
        let (target, place) = match (&self.out_dir, env::var_os("OUT_DIR")) {
            (Some(dir), _) => (dir.clone(), Place::Beside),
            (None, Some(dir)) => (dir.into(), Place::OutDir),
            (None, None) => return Err(Error::NoOutDir),
        };
        let sources = Sources::compile(&files, &self.includes)?;
        if self.emit_rerun_if_changed {
            for path in sources.paths() {
                println!("cargo:rerun-if-changed={}", path.display());
            }
        }
        let pool = sources.pool.clone();
        let contract = Contract::from_sources(sources)?;

        let extern_paths = self.extern_paths();
        let external = |path: &str| {
            extern_paths.iter().any(|(known, _)| {
                path.strip_prefix(known.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        };
        let mut routing = Routing::new(&contract, self.comments, self.serde.clone());
        let requests: Vec<_> = pool.files().map(|file| routing.request(&file, external)).collect();
        let mut config = self.config(&extern_paths);
        config.service_generator(Box::new(routing));
        let modules: BTreeMap<Module, String> =
            config.generate(requests).map_err(Error::Generate)?.into_iter().collect();

        let names: BTreeMap<&Module, String> =
            modules.keys().map(|module| (module, module.to_file_name_or("_"))).collect();
        if let Some(first) = names.values().next() {
            // Two compilations into one directory are told apart as their packages are.
            let set = format!("{}.descriptors.bin", first.trim_end_matches(".rs"));
            let constant =
                include::descriptor_set_constant(&set, contract.hash(), place, self.own_package);
            write(&target.join(&set), contract.descriptor_set())?;
            for (module, code) in &modules {
                write(&target.join(&names[module]), format!("{code}{constant}").as_bytes())?;
            }
        }
        if let Some(path) = &self.file_descriptor_set_path {
            write(path, contract.descriptor_set())?;
        }
        if let Some(name) = &self.include_file {
            let files = names.iter().map(|(module, name)| (*module, name.as_str()));
            write(&target.join(name), include::include_file(files, place).as_bytes())?;
        }
        Ok(())
    }

    /// Returns what is taken from elsewhere, agentbus's own types included.
    fn extern_paths(&self) -> Vec<(String, String)> {
        let mut paths = self.extern_paths.clone();
        if !self.own_package && paths.iter().all(|(path, _)| path != OWN_PACKAGE) {
            paths.push((OWN_PACKAGE.to_owned(), "::agentbus::proto::v1".to_owned()));
        }
        paths
    }

    fn config(&self, extern_paths: &[(String, String)]) -> Config {
        let mut config = Config::new();
        config.enable_type_names().bytes(&self.bytes).btree_map(&self.btree_map);
        for (proto, rust) in extern_paths {
            config.extern_path(proto, rust);
        }
        for (path, attribute) in &self.type_attributes {
            config.type_attribute(path, attribute);
        }
        for (path, attribute) in &self.field_attributes {
            config.field_attribute(path, attribute);
        }
        if !self.comments {
            config.disable_comments(["."]);
        }
        config
    }
}

/// Writes a file, unless it has this content already: cargo looks at the time of the change.
fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    if fs::read(path).is_ok_and(|before| before == content) {
        return Ok(());
    }
    fs::write(path, content).map_err(|source| Error::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    const SOURCE: &str = r#"syntax = "proto3";
package a.v1;
import "agentbus/v1/error_reply.proto";
// Described.
message M {
  bytes raw = 1;
  map<string, string> map = 2;
  agentbus.v1.ErrorReply error = 3;
}
"#;

    fn written(settings: impl FnOnce(Builder) -> Builder) -> String {
        let scratch = Scratch::with([("a.proto", SOURCE)]);
        settings(scratch.builder()).compile([scratch.path("a.proto")]).unwrap();
        scratch.written("a.v1.rs")
    }

    #[test]
    fn the_defaults_keep_comments_and_take_our_types_from_agentbus() {
        let code = written(|builder| builder);
        assert!(code.contains("/// Described."), "{code}");
        assert!(code.contains("::agentbus::proto::v1::ErrorReply"), "{code}");
        assert!(code.contains(r#"= include_bytes!("a.v1.descriptors.bin");"#), "{code}");
    }

    #[test]
    fn settings_reach_the_generated_code() {
        let code = written(|builder| {
            builder
                .serde(["M"])
                .comments(false)
                .bytes([".a.v1.M.raw"])
                .btree_map(["."])
                .type_attribute("M", "#[derive(Eq)]")
                .field_attribute("M.raw", "#[doc(hidden)]")
                .extern_path(".agentbus.v1", "crate::own")
        });
        for expected in [
            "::prost::bytes::Bytes",
            "BTreeMap",
            "#[derive(Eq)]",
            "#[doc(hidden)]",
            "crate::own::ErrorReply",
            "impl ::serde::Serialize for M {",
            "impl<'de> ::serde::Deserialize<'de> for M {",
        ] {
            assert!(code.contains(expected), "{expected}: {code}");
        }
        assert!(!code.contains("Described"), "{code}");
    }

    #[test]
    fn the_own_package_is_generated_for_agentbus_itself() {
        let scratch = Scratch::with([("a.proto", SOURCE)]);
        let builder = scratch.builder().generate_own_package(true).include_file("all.rs");
        builder.compile([scratch.path("a.proto")]).unwrap();
        assert!(scratch.written("agentbus.v1.rs").contains("pub struct ErrorReply"));
        let all = scratch.written("all.rs");
        assert!(
            all.contains("pub mod agentbus {\n    /// Package `agentbus.v1`.\n    pub mod v1 {"),
            "{all}"
        );
    }

    #[test]
    fn the_descriptor_set_is_written_where_asked() {
        let scratch = Scratch::with([("a.proto", SOURCE)]);
        let path = scratch.path("set.bin");
        let builder = scratch.builder().file_descriptor_set_path(&path);
        builder.compile([scratch.path("a.proto")]).unwrap();
        let contract = scratch.contract(&["a.proto"]).unwrap();
        assert_eq!(fs::read(path).unwrap(), contract.descriptor_set());
    }

    #[test]
    fn nothing_is_written_for_a_contract_with_problems() {
        let scratch = Scratch::with([("a.proto", "syntax = \"proto3\"; package a; message {}")]);
        let set = scratch.path("set.bin");
        let builder = scratch.builder().file_descriptor_set_path(&set);
        let error = builder.compile([scratch.path("a.proto")]).unwrap_err();
        assert!(matches!(error, Error::Contract(_)), "{error}");
        assert!(!set.exists());
    }

    #[test]
    fn a_directory_that_is_missing_and_a_bad_path_are_named() {
        let scratch = Scratch::with([("a.proto", SOURCE)]);
        let nowhere = scratch.path("nowhere");
        let error = scratch.builder().out_dir(&nowhere).compile([scratch.path("a.proto")]);
        let error = error.unwrap_err();
        assert!(
            matches!(&error, Error::Write { path, .. } if path.starts_with(&nowhere)),
            "{error}"
        );
        let builder = scratch.builder().extern_path("a.v1", "::b");
        let error = builder.compile([scratch.path("a.proto")]).unwrap_err();
        assert!(matches!(error, Error::Generate(_)), "{error}");
    }
}
