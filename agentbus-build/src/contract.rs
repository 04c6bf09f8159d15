//! The contract as data: which services there are, and which keys their methods travel under.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    hash::contract_hash,
    problem::{Error, Location},
    rules,
    sources::Sources,
};

/// The services of a set of `.proto` files that have routes.
///
/// A contract that was read is sound: every rule that [`compile`](crate::compile) checks holds.
/// Services without routes (plain gRPC) are not part of it.
///
/// ```no_run
/// # fn main() -> Result<(), agentbus_build::Error> {
/// let contract = agentbus_build::Contract::from_protos(["proto/market/v1/market.proto"], ["proto"])?;
/// for route in contract.routes() {
///     println!("{}: {} -> {:?}, {}", route.key, route.request, route.reply, route.location);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Contract {
    services: Vec<Service>,
    hash: String,
    descriptor_set: Vec<u8>,
}

/// A service with routes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Service {
    /// Full name: `market.v1.DataAgent`.
    pub name: String,
    /// Where it is declared.
    pub location: Location,
    /// Its methods, in the order they are declared; never empty.
    pub routes: Vec<Route>,
}

/// A method, and the key its messages travel under.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Route {
    /// Full name of the service: `market.v1.DataAgent`.
    pub service: String,
    /// Name of the method: `Fetch`.
    pub method: String,
    /// The topic: `data.request`.
    pub key: String,
    /// Full name of the message that is sent: `market.v1.DataRequest`.
    pub request: String,
    /// Full name of the message that answers it; none where the method is one-way, that is, returns
    /// `google.protobuf.Empty`.
    pub reply: Option<String>,
    /// Number of the field that holds the request's metadata, where it has one.
    pub request_metadata: Option<u32>,
    /// Number of the field that holds the reply's metadata, where it has one.
    pub reply_metadata: Option<u32>,
    /// How long a requester waits for the reply, where it does not say so itself.
    pub deadline: Option<Duration>,
    /// How often messages are tried that their handler fails on, where nothing in code says so.
    pub retry: Option<Retry>,
    /// How urgent the messages are, 1 to 10, where their sender does not say so.
    pub priority: Option<u8>,
    /// Where the method is declared.
    pub location: Location,
}

/// How often and for how long a message is tried; what is not given is left to the default.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Retry {
    /// How many times the handler runs in all, the first included.
    pub attempts: Option<u32>,
    /// The delay before the first retry.
    pub first_delay: Option<Duration>,
    /// How many times longer each delay is than the one before.
    pub multiplier: Option<f64>,
    /// The longest delay; never less than the first, where both are given.
    pub max_delay: Option<Duration>,
    /// How old a message may be when a retry starts.
    pub max_age: Option<Duration>,
}

impl Contract {
    /// Reads the contract from `.proto` files and what they import.
    ///
    /// A file is named by its path, or relative to one of the `includes`. Imports are searched in
    /// `includes` in order; `agentbus/v1/*.proto` and `google/protobuf/*.proto` need not be there.
    ///
    /// # Errors
    ///
    /// [`Error::Contract`] with every problem found.
    pub fn from_protos(
        files: impl IntoIterator<Item = impl AsRef<Path>>,
        includes: impl IntoIterator<Item = impl AsRef<Path>>,
    ) -> Result<Self, Error> {
        let owned = |path: &dyn AsRef<Path>| -> PathBuf { path.as_ref().to_owned() };
        let files: Vec<_> = files.into_iter().map(|path| owned(&path)).collect();
        let includes: Vec<_> = includes.into_iter().map(|path| owned(&path)).collect();
        Self::from_sources(Sources::compile(&files, &includes)?)
    }

    /// Reads the contract from an encoded `google.protobuf.FileDescriptorSet` that includes all
    /// imports: the generated `FILE_DESCRIPTOR_SET`, or what `protoc --include_imports
    /// --descriptor_set_out` and `buf build` write.
    ///
    /// # Errors
    ///
    /// [`Error::DescriptorSet`] if the bytes are something else or imports are missing,
    /// [`Error::Contract`] if a rule is broken.
    pub fn from_descriptor_set(bytes: &[u8]) -> Result<Self, Error> {
        Self::from_sources(Sources::decode(bytes)?)
    }

    pub(crate) fn from_sources(sources: Sources) -> Result<Self, Error> {
        let services = rules::services(&sources).map_err(Error::Contract)?;
        let hash = contract_hash(&sources.pool);
        Ok(Self { services, hash, descriptor_set: sources.descriptor_set })
    }

    /// Returns the services that have routes: imported files first, each file in its own order.
    #[must_use]
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// Returns the routes of all services.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.services.iter().flat_map(|service| &service.routes)
    }

    /// Returns the route with this key; there is at most one.
    #[must_use]
    pub fn route(&self, key: &str) -> Option<&Route> {
        self.routes().find(|route| route.key == key)
    }

    /// Returns a hash of what the routes say and of all messages and enums they reach, as 16
    /// hexadecimal digits.
    ///
    /// It is the same for contracts that differ in comments, formatting, the order of files or in
    /// messages that no route carries, and in what comes with agentbus and protobuf. Keys, names,
    /// numbers, types and custom options, such as rules of fields, change it. `agentbus::Schema::hash`
    /// gives the same for the descriptor set.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Returns all descriptors as an encoded `google.protobuf.FileDescriptorSet`, with imports,
    /// custom options, comments and positions.
    #[must_use]
    pub fn descriptor_set(&self) -> &[u8] {
        &self.descriptor_set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    const MARKET: &str = r#"syntax = "proto3";
package market.v1;
import "agentbus/v1/route.proto";
import "google/protobuf/empty.proto";
message DataRequest { string asset = 1; }
message DataResponse { double price = 1; }
service DataAgent {
  rpc Fetch(DataRequest) returns (DataResponse) { option (agentbus.v1.route).key = "data.request"; }
}
service MarketEvents {
  rpc PriceMoved(DataResponse) returns (google.protobuf.Empty) {
    option (agentbus.v1.route) = { key: "price.moved" };
  }
}
"#;

    #[test]
    fn it_lists_services_and_routes_with_their_places() {
        let scratch = Scratch::with([("market/v1/market.proto", MARKET)]);
        let contract = scratch.contract(&["market/v1/market.proto"]).unwrap();
        let names: Vec<_> = contract.services().iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["market.v1.DataAgent", "market.v1.MarketEvents"]);
        let fetch = contract.route("data.request").unwrap();
        assert_eq!(fetch.service, "market.v1.DataAgent");
        assert_eq!(fetch.method, "Fetch");
        assert_eq!(fetch.request, "market.v1.DataRequest");
        assert_eq!(fetch.reply.as_deref(), Some("market.v1.DataResponse"));
        let place = format!("{}:8:3", scratch.shown("market/v1/market.proto"));
        assert_eq!(fetch.location.to_string(), place);
        let moved = contract.route("price.moved").unwrap();
        assert_eq!((moved.reply.as_ref(), moved.location.line), (None, 11));
    }

    #[test]
    fn a_descriptor_set_gives_the_same_contract_with_import_names() {
        let scratch = Scratch::with([("market/v1/market.proto", MARKET)]);
        let contract = scratch.contract(&["market/v1/market.proto"]).unwrap();
        let again = Contract::from_descriptor_set(contract.descriptor_set()).unwrap();
        let keys = |contract: &Contract| -> Vec<_> {
            contract.routes().map(|route| route.key.clone()).collect()
        };
        assert_eq!(keys(&again), keys(&contract));
        let fetch = again.route("data.request").unwrap();
        assert_eq!(fetch.location.to_string(), "market/v1/market.proto:8:3");
    }

    /// Hashes `source`, together with `extra`, which holds nothing that is routed.
    fn hash(source: &str, files: &[&str]) -> String {
        let extra = "syntax = \"proto3\"; package extra; message Extra {}";
        let scratch = Scratch::with([("market/v1/market.proto", source), ("extra.proto", extra)]);
        scratch.contract(files).unwrap().hash().to_owned()
    }

    const FILE: &str = "market/v1/market.proto";

    #[test]
    fn the_hash_is_the_same_for_contracts_that_say_the_same() {
        let plain = hash(MARKET, &[FILE]);
        assert_eq!(plain.len(), 16);
        assert!(plain.bytes().all(|digit| digit.is_ascii_hexdigit()), "{plain}");
        let commented = MARKET.replace("message", "\n// A message.\nmessage");
        let spaced = MARKET.replace(' ', "   ").replace('{', "{\n");
        let (first, second) = MARKET.split_once("service MarketEvents").unwrap();
        let (head, service) = first.split_once("service DataAgent").unwrap();
        let turned = format!("{head}service MarketEvents{second}service DataAgent{service}");
        let unused = format!("{MARKET}message Unused {{ string x = 1; }}");
        let explicit =
            MARKET.replace("string asset = 1;", "string asset = 1 [json_name = \"asset\"];");
        for same in [&commented, &spaced, &turned, &unused, &explicit] {
            assert_eq!(hash(same, &[FILE]), plain, "{same}");
        }
        assert_eq!(hash(MARKET, &["extra.proto", FILE]), plain);
        assert_eq!(hash(MARKET, &[FILE, "extra.proto"]), plain);
    }

    #[test]
    fn the_hash_changes_with_what_is_said() {
        let changes = [
            ("data.request", "data.asked"),
            ("asset = 1", "asset = 2"),
            ("string asset", "bytes asset"),
            ("string asset", "optional string asset"),
            ("string asset", "repeated string asset"),
            ("string asset = 1;", "oneof one { string asset = 1; }"),
            ("string asset = 1;", "string asset = 1; string more = 2;"),
            ("asset", "name"),
            ("returns (DataResponse)", "returns (DataRequest)"),
            ("rpc Fetch", "rpc Get"),
            ("double price = 1;", "double price = 1; Kind kind = 2; enum Kind { A = 0; }"),
            ("double price = 1;", "double price = 1; Kind kind = 2; enum Kind { A = 0; B = 1; }"),
            ("double price = 1;", "repeated double price = 1;"),
            ("double price = 1;", "repeated double price = 1 [packed = false];"),
            ("double price = 1;", "double price = 1; DataResponse nested = 2;"),
        ];
        let mut seen = std::collections::HashMap::from([(hash(MARKET, &[FILE]), ("", ""))]);
        for change in changes {
            let source = MARKET.replace(change.0, change.1);
            assert_ne!(source, MARKET, "{change:?}");
            let before = seen.insert(hash(&source, &[FILE]), change);
            assert_eq!(before, None, "{change:?} says something else");
        }
    }

    #[test]
    fn the_hash_changes_with_rules_of_fields() {
        let import = "import \"agentbus/v1/route.proto\";";
        let rules = "import \"google/protobuf/descriptor.proto\";
            extend google.protobuf.FieldOptions { string rule = 50000; }";
        let source = MARKET.replace(import, &format!("{import} {rules}"));
        assert_ne!(source, MARKET);
        let ruled = |rule: &str| {
            source.replace("asset = 1;", &format!("asset = 1 [(market.v1.rule) = \"{rule}\"];"))
        };
        let hashes = [&source, &ruled("short"), &ruled("long")].map(|it| hash(it, &[FILE]));
        assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[0] != hashes[2]);
    }

    /// Programs of different builds compare their hashes, so that no update may change them unseen.
    #[test]
    fn the_hash_stays_what_it_was() {
        assert_eq!(hash(MARKET, &[FILE]), "fc63860dde8a9c57");
    }

    #[test]
    fn the_hash_is_the_same_for_the_descriptor_set() {
        let scratch = Scratch::with([(FILE, MARKET)]);
        let contract = scratch.contract(&[FILE]).unwrap();
        let again = Contract::from_descriptor_set(contract.descriptor_set()).unwrap();
        assert_eq!(again.hash(), contract.hash());
    }

    #[test]
    fn agentbus_hashes_in_the_same_way() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let other = here.join("../src/contract/schema/hash.rs");
        if !other.exists() {
            eprintln!("skipped: a published package has no agentbus beside it");
            return;
        }
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!(read(&other), read(&here.join("src/hash.rs")));
    }

    #[test]
    fn bytes_that_are_no_descriptor_set_are_refused() {
        let error = Contract::from_descriptor_set(b"\xff\xff").unwrap_err();
        assert!(matches!(error, Error::DescriptorSet(_)), "{error}");
    }
}
