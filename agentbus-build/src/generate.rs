//! Writes Rust: prost's messages, a module of constants a service, accessors of metadata.

#![expect(
    clippy::format_push_string,
    reason = "`let _ = write!` reads worse, and it is a build script"
)]

use std::{collections::HashMap, time::Duration};

use prost_build::{Comments, Method, Module, ServiceGenerator};
use protox::prost_reflect::{
    FileDescriptor, MessageDescriptor,
    prost_types::{
        FileDescriptorProto, MethodDescriptorProto, ServiceDescriptorProto,
        source_code_info::Location,
    },
};

use crate::{
    contract::{Contract, Route},
    metadata,
    rules::{constant, snake_case},
};

/// Name of the made-up service by which prost-build is asked for the Rust paths of the messages
/// that something is written for; no real service can be called so.
const CARRIERS: &str = "$carriers";

/// Names of its methods: for the accessor of metadata, and for serde.
const CARRIER: &str = "Carrier";
const SERDE: &str = "Serde";

/// The package whose messages prost has elsewhere.
const WELL_KNOWN: &str = "google.protobuf";

/// Name of the accessor of a message's metadata.
const ACCESSOR: &str = "bus_metadata";

/// Number of the field `service` in `FileDescriptorProto`, for paths to a place in the source.
const FILE_SERVICE: i32 = 6;

/// Number of the field `method` in `ServiceDescriptorProto`.
const SERVICE_METHOD: i32 = 2;

/// Types that prost maps to something that is not a path.
const NO_PATHS: [&str; 8] = ["()", "bool", "i32", "i64", "u32", "u64", "f32", "f64"];

/// Writes what agentbus adds to prost's messages.
pub(crate) struct Routing {
    /// Routes of each service, by its full name.
    services: HashMap<String, Vec<Route>>,
    /// How to get at the metadata of each message that has some, by its full name with a dot before.
    carriers: HashMap<String, String>,
    comments: bool,
    /// Paths of the messages that get serde.
    serde: Vec<String>,
}

impl Routing {
    pub(crate) fn new(contract: &Contract, comments: bool, serde: Vec<String>) -> Self {
        let services = contract
            .services()
            .iter()
            .map(|service| (service.name.clone(), service.routes.clone()))
            .collect();
        Self { services, carriers: HashMap::new(), comments, serde }
    }

    /// Returns what prost-build is to generate for a file; none of it where `external`.
    pub(crate) fn request(
        &mut self,
        file: &FileDescriptor,
        external: impl Fn(&str) -> bool,
    ) -> (Module, FileDescriptorProto) {
        let mut request = file.file_descriptor_proto().clone();
        let routed = file.services().any(|s| self.services.contains_key(s.full_name()));
        // prost-build panics on a package of services for which nothing is written.
        if !routed || external(&format!(".{}", file.package_name())) {
            request.service.clear();
        }
        let carriers = self.carriers(file.messages().collect(), &external);
        if !carriers.is_empty() {
            ask_for_paths(&mut request, carriers);
        }
        (Module::from_protobuf_package_name(file.package_name()), request)
    }

    fn carriers(
        &mut self,
        messages: Vec<MessageDescriptor>,
        external: &impl Fn(&str) -> bool,
    ) -> Vec<MethodDescriptorProto> {
        let mut found = Vec::new();
        for message in messages {
            let path = format!(".{}", message.full_name());
            if external(&path) || message.is_map_entry() {
                continue;
            }
            if message.package_name() != WELL_KNOWN
                && self.serde.iter().any(|wanted| is_at(&path, wanted))
            {
                found.push(MethodDescriptorProto {
                    name: Some(SERDE.to_owned()),
                    input_type: Some(path.clone()),
                    output_type: Some(path.clone()),
                    ..Default::default()
                });
            }
            let taken = message.fields().any(|field| snake_case(field.name()) == ACCESSOR);
            if let Some(field) = metadata::field_of(&message).filter(|_| !taken) {
                let name = snake_case(field.name());
                let access = if field.is_required() {
                    format!("let metadata = &self.{name};")
                } else {
                    format!("let metadata = self.{name}.as_ref()?;")
                };
                self.carriers.insert(path.clone(), access);
                let kind = field.kind();
                let metadata = kind.as_message().expect("a field of metadata is a message");
                found.push(MethodDescriptorProto {
                    name: Some(CARRIER.to_owned()),
                    input_type: Some(path),
                    output_type: Some(format!(".{}", metadata.full_name())),
                    ..Default::default()
                });
            }
            found.extend(self.carriers(message.child_messages().collect(), external));
        }
        found
    }

    fn route(&self, route: &Route, method: &Method, buf: &mut String) {
        let one_way = route.reply.is_none();
        let text = if one_way {
            format!("Messages are published under `{}`; nobody replies.", route.key)
        } else {
            format!("Requests are published under `{}`.", route.key)
        };
        self.docs(&method.comments, &text, 1, buf);
        if method.options.deprecated() {
            buf.push_str("    #[deprecated]\n");
        }
        let request = from_submodule(&method.input_type);
        let name = constant(&route.method);
        let (kind, metadata) = if one_way {
            let metadata =
                route.request_metadata.map(|number| format!(".with_metadata_field({number})"));
            (format!("::agentbus::Topic<{request}>"), metadata)
        } else {
            let fields = (route.request_metadata, route.reply_metadata);
            let metadata = (fields != (None, None)).then(|| {
                format!(".with_metadata_fields({}, {})", option(fields.0), option(fields.1))
            });
            (
                format!("::agentbus::Rpc<{request}, {}>", from_submodule(&method.output_type)),
                metadata,
            )
        };
        let constructor = kind.split('<').next().unwrap_or(&kind);
        buf.push_str(&format!(
            "    pub const {name}: {kind} = {constructor}::new({:?}){}{}.with_contract(&super::CONTRACT);\n",
            route.key,
            metadata.unwrap_or_default(),
            defaults(route),
        ));
    }

    /// Writes the comments of an element as its documentation, then `text`.
    fn docs(&self, comments: &Comments, text: &str, indent: u8, buf: &mut String) {
        let margin = "    ".repeat(usize::from(indent));
        let Comments { leading, trailing, .. } = comments.clone();
        if self.comments && !(leading.is_empty() && trailing.is_empty()) {
            Comments { leading_detached: Vec::new(), leading, trailing }
                .append_with_indent(indent, buf);
            buf.push_str(&format!("{margin}///\n"));
        }
        buf.push_str(&format!("{margin}/// {text}\n"));
    }

    fn for_messages(&self, methods: &[Method], buf: &mut String) {
        for carrier in methods {
            if carrier.proto_name == SERDE {
                serde(carrier, buf);
                continue;
            }
            let message = &carrier.input_type;
            let metadata = &carrier.output_type;
            let access = &self.carriers[&carrier.input_proto_type];
            buf.push_str(&format!(
                "impl {message} {{
    /// Returns the message's metadata, where it has one.
    #[allow(dead_code)]
    #[must_use]
    pub fn {ACCESSOR}(&self) -> ::core::option::Option<&{metadata}> {{
        {access}
        Some(metadata)
    }}
}}
"
            ));
        }
    }
}

impl ServiceGenerator for Routing {
    fn generate(&mut self, service: prost_build::Service, buf: &mut String) {
        if service.proto_name == CARRIERS {
            self.for_messages(&service.methods, buf);
            return;
        }
        let full_name = match service.package.as_str() {
            "" => service.proto_name.clone(),
            package => format!("{package}.{}", service.proto_name),
        };
        let Some(routes) = self.services.get(&full_name) else {
            return;
        };
        self.docs(&service.comments, &format!("Routes of the service `{full_name}`."), 0, buf);
        let module = snake_case(&service.proto_name);
        buf.push_str(&format!("#[allow(dead_code)]\npub mod {module} {{\n"));
        for (route, method) in routes.iter().zip(&service.methods) {
            self.route(route, method, buf);
        }
        buf.push_str("}\n");
    }
}

/// Writes the impls of serde for a message.
fn serde(method: &Method, buf: &mut String) {
    let message = &method.input_type;
    let name = method.input_proto_type.trim_start_matches('.');
    buf.push_str(&format!(
        "impl ::serde::Serialize for {message} {{
    fn serialize<S: ::serde::Serializer>(
        &self,
        serializer: S,
    ) -> ::core::result::Result<S::Ok, S::Error> {{
        ::agentbus::contract::proto_json::serialize(&CONTRACT, {name:?}, self, serializer)
    }}
}}
impl<'de> ::serde::Deserialize<'de> for {message} {{
    fn deserialize<D: ::serde::Deserializer<'de>>(
        deserializer: D,
    ) -> ::core::result::Result<Self, D::Error> {{
        ::agentbus::contract::proto_json::deserialize(&CONTRACT, {name:?}, deserializer)
    }}
}}
"
    ));
}

/// Tells whether a message's path is the one wanted or within it, as prost-build matches paths.
fn is_at(path: &str, wanted: &str) -> bool {
    let parts: Vec<_> = path.split('.').filter(|part| !part.is_empty()).collect();
    let sought: Vec<_> = wanted.split('.').filter(|part| !part.is_empty()).collect();
    if wanted.starts_with('.') { parts.starts_with(&sought) } else { parts.ends_with(&sought) }
}

/// Adds the made-up service, with a place for each element: prost-build panics without.
fn ask_for_paths(request: &mut FileDescriptorProto, carriers: Vec<MethodDescriptorProto>) {
    if let Some(info) = &mut request.source_code_info {
        let index = |length: usize| i32::try_from(length).expect("a file has less than 2 GiB");
        let service = [FILE_SERVICE, index(request.service.len())];
        let place = |path: Vec<i32>| Location { path, span: vec![0, 0, 0], ..Default::default() };
        info.location.push(place(service.to_vec()));
        for method in 0..index(carriers.len()) {
            info.location.push(place([service.as_slice(), &[SERVICE_METHOD, method]].concat()));
        }
    }
    request.service.push(ServiceDescriptorProto {
        name: Some(CARRIERS.to_owned()),
        method: carriers,
        ..Default::default()
    });
}

/// Returns how a path that is relative to the package's module is written one module further in.
fn from_submodule(path: &str) -> String {
    let absolute = path.starts_with("::") || path.starts_with("crate::");
    if absolute || NO_PATHS.contains(&path) { path.to_owned() } else { format!("super::{path}") }
}

/// Returns the calls by which a constant takes what the contract says beside the key.
fn defaults(route: &Route) -> String {
    let mut calls = String::new();
    if let Some(deadline) = route.deadline {
        calls.push_str(&format!(".with_deadline({})", duration(deadline)));
    }
    if let Some(retry) = &route.retry {
        calls.push_str(".with_retry(::agentbus::contract::Retries::new()");
        if let Some(attempts) = retry.attempts {
            calls.push_str(&format!(".attempts({attempts})"));
        }
        if let Some(multiplier) = retry.multiplier {
            calls.push_str(&format!(".multiplier({multiplier:?})"));
        }
        let times = [
            ("first_delay", retry.first_delay),
            ("max_delay", retry.max_delay),
            ("max_age", retry.max_age),
        ];
        for (name, time) in times {
            if let Some(time) = time {
                calls.push_str(&format!(".{name}({})", duration(time)));
            }
        }
        calls.push(')');
    }
    if let Some(priority) = route.priority {
        calls.push_str(&format!(".with_priority({priority})"));
    }
    calls
}

fn duration(time: Duration) -> String {
    format!("::core::time::Duration::new({}, {})", time.as_secs(), time.subsec_nanos())
}

fn option(number: Option<u32>) -> String {
    match number {
        Some(number) => format!("Some({number})"),
        None => "None".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::scratch::Scratch;

    const SHARED: &str = r#"syntax = "proto3";
package shared.v1;
message Outer {
  message Inner { agentbus.v1.Metadata type = 4; }
  Inner inner = 1;
}
import "agentbus/v1/metadata.proto";
"#;

    const MARKET: &str = r#"syntax = "proto3";
package market.v1;
import "agentbus/v1/route.proto";
import "google/protobuf/empty.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "shared/v1/shared.proto";
message DataRequest {
  string asset = 1;
  shared.v1.Outer.Inner inner = 2;
}
message DataResponse { message Point { double x = 1; } }
// Gives prices.
service DataAgent {
  // Fetches the prices
  // of one asset.
  rpc Fetch(DataRequest) returns (DataResponse) { option (agentbus.v1.route).key = "data.request"; }
  rpc FetchPoint(shared.v1.Outer.Inner) returns (DataResponse.Point) { option (agentbus.v1.route).key = "data.point"; }
  rpc Type(google.protobuf.StringValue) returns (google.protobuf.BoolValue) { option (agentbus.v1.route).key = "data.type"; }
}
service MarketEvents {
  rpc PriceMoved(shared.v1.Outer.Inner) returns (google.protobuf.Empty) { option (agentbus.v1.route).key = "price.moved"; }
  rpc Tick(google.protobuf.Timestamp) returns (google.protobuf.Empty) {
    option (agentbus.v1.route).key = "tick";
    option deprecated = true;
  }
}
"#;

    fn scratch() -> Scratch {
        Scratch::with([("market/v1/market.proto", MARKET), ("shared/v1/shared.proto", SHARED)])
    }

    fn market() -> String {
        let scratch = scratch();
        scratch.builder().compile([scratch.path("market/v1/market.proto")]).unwrap();
        scratch.written("market.v1.rs")
    }

    #[test]
    fn a_service_is_a_module_with_a_constant_a_method() {
        let expected = r#"/// Gives prices.
///
/// Routes of the service `market.v1.DataAgent`.
#[allow(dead_code)]
pub mod data_agent {
    /// Fetches the prices
    /// of one asset.
    ///
    /// Requests are published under `data.request`.
    pub const FETCH: ::agentbus::Rpc<super::DataRequest, super::DataResponse> = ::agentbus::Rpc::new("data.request").with_contract(&super::CONTRACT);
    /// Requests are published under `data.point`.
    pub const FETCH_POINT: ::agentbus::Rpc<super::super::super::shared::v1::outer::Inner, super::data_response::Point> = ::agentbus::Rpc::new("data.point").with_metadata_fields(Some(4), None).with_contract(&super::CONTRACT);
    /// Requests are published under `data.type`.
    pub const TYPE: ::agentbus::Rpc<::prost::alloc::string::String, bool> = ::agentbus::Rpc::new("data.type").with_contract(&super::CONTRACT);
}
"#;
        let market = market();
        assert!(market.contains(expected), "{market}");
    }

    #[test]
    fn a_constant_takes_what_the_contract_says_beside_the_key() {
        let source = r#"syntax = "proto3"; package a;
            import "agentbus/v1/route.proto";
            import "google/protobuf/empty.proto";
            message M {}
            service S {
              rpc Ask(M) returns (M) {
                option (agentbus.v1.route) = {
                  key: "ask"
                  deadline: { seconds: 2 nanos: 500000000 }
                  priority: 8
                  retry: {
                    attempts: 6
                    first_delay: { nanos: 250000000 }
                    multiplier: 1.5
                    max_delay: { seconds: 60 }
                    max_age: { seconds: 3600 }
                  }
                };
              }
              rpc Tell(M) returns (google.protobuf.Empty) {
                option (agentbus.v1.route).key = "tell";
                option (agentbus.v1.route).retry.attempts = 1;
              }
              rpc Plain(M) returns (google.protobuf.Empty) {
                option (agentbus.v1.route) = { key: "plain" retry: {} };
              }
            }"#;
        let scratch = Scratch::with([("a.proto", source)]);
        scratch.builder().compile([scratch.path("a.proto")]).unwrap();
        let written = scratch.written("a.rs");
        for expected in [
            r#"::agentbus::Rpc::new("ask").with_deadline(::core::time::Duration::new(2, 500000000)).with_retry(::agentbus::contract::Retries::new().attempts(6).multiplier(1.5).first_delay(::core::time::Duration::new(0, 250000000)).max_delay(::core::time::Duration::new(60, 0)).max_age(::core::time::Duration::new(3600, 0))).with_priority(8).with_contract(&super::CONTRACT);"#,
            r#"::agentbus::Topic::new("tell").with_retry(::agentbus::contract::Retries::new().attempts(1)).with_contract(&super::CONTRACT);"#,
            r#"::agentbus::Topic::new("plain").with_retry(::agentbus::contract::Retries::new()).with_contract(&super::CONTRACT);"#,
        ] {
            assert!(written.contains(expected), "{written}");
        }
    }

    #[test]
    fn paths_match_as_those_of_attributes_do() {
        for wanted in
            [".", ".a", ".a.v1", ".a.v1.M", ".a.v1.M.Inner", "Inner", "M.Inner", "v1.M.Inner"]
        {
            assert!(super::is_at(".a.v1.M.Inner", wanted), "{wanted}");
        }
        for other in [".a.v", ".a.v1.N", "M", ".M.Inner", "nner", ".a.v1.M.Inner.More"] {
            assert!(!super::is_at(".a.v1.M.Inner", other), "{other}");
        }
    }

    #[test]
    fn serde_is_written_for_messages_asked_for_only() {
        let scratch = scratch();
        let builder = scratch.builder().serde([".shared.v1.Outer", "DataResponse"]);
        builder.include_file("all.rs").compile([scratch.path("market/v1/market.proto")]).unwrap();
        let lines = |file: &str| -> Vec<String> {
            let text = scratch.written(file);
            let lines = text.lines().filter(|line| line.starts_with("impl ::serde::Serialize"));
            lines.map(str::to_owned).collect()
        };
        assert_eq!(lines("market.v1.rs"), ["impl ::serde::Serialize for DataResponse {"]);
        let shared =
            ["impl ::serde::Serialize for Outer {", "impl ::serde::Serialize for outer::Inner {"];
        assert_eq!(lines("shared.v1.rs"), shared);
    }

    #[test]
    fn a_method_that_returns_empty_is_a_topic() {
        let expected = r#"/// Routes of the service `market.v1.MarketEvents`.
#[allow(dead_code)]
pub mod market_events {
    /// Messages are published under `price.moved`; nobody replies.
    pub const PRICE_MOVED: ::agentbus::Topic<super::super::super::shared::v1::outer::Inner> = ::agentbus::Topic::new("price.moved").with_metadata_field(4).with_contract(&super::CONTRACT);
    /// Messages are published under `tick`; nobody replies.
    #[deprecated]
    pub const TICK: ::agentbus::Topic<::prost_types::Timestamp> = ::agentbus::Topic::new("tick").with_contract(&super::CONTRACT);
}
"#;
        let market = market();
        assert!(market.contains(expected), "{market}");
    }

    #[test]
    fn messages_have_their_names() {
        assert!(market().contains("\"market.v1.DataResponse.Point\""));
    }

    #[test]
    fn a_message_with_metadata_has_an_accessor() {
        let scratch = scratch();
        scratch.builder().compile([scratch.path("shared/v1/shared.proto")]).unwrap();
        let expected = "impl outer::Inner {
    /// Returns the message's metadata, where it has one.
    #[allow(dead_code)]
    #[must_use]
    pub fn bus_metadata(&self) -> ::core::option::Option<&::agentbus::proto::v1::Metadata> {
        let metadata = self.r#type.as_ref()?;
        Some(metadata)
    }
}
";
        let shared = scratch.written("shared.v1.rs");
        assert!(shared.contains(expected), "{shared}");
        assert_eq!(shared.matches("fn bus_metadata").count(), 1);
    }

    #[test]
    fn a_field_named_as_the_accessor_keeps_its_name_to_itself() {
        let source = r#"syntax = "proto2"; package a;
            import "agentbus/v1/metadata.proto";
            message Taken { optional agentbus.v1.Metadata m = 1; optional string bus_metadata = 2; }
            message Needed { required agentbus.v1.Metadata m = 1; }"#;
        let scratch = Scratch::with([("a.proto", source)]);
        scratch.builder().compile([scratch.path("a.proto")]).unwrap();
        let written = scratch.written("a.rs");
        assert!(!written.contains("impl Taken"), "{written}");
        assert!(written.contains("let metadata = &self.m;"), "{written}");
    }

    #[test]
    fn plain_services_and_those_of_other_crates_are_left_alone() {
        let plain = r#"syntax = "proto3"; package plain; import "market/v1/market.proto";
            service Grpc { rpc Watch(stream market.v1.DataRequest) returns (market.v1.DataResponse); }"#;
        let scratch = Scratch::with([
            ("market/v1/market.proto", MARKET),
            ("shared/v1/shared.proto", SHARED),
            ("plain.proto", plain),
        ]);
        let builder = scratch.builder().extern_path(".market.v1", "::other::v1");
        builder.include_file("all.rs").compile([scratch.path("plain.proto")]).unwrap();
        let all = scratch.written("all.rs");
        assert!(all.contains(r#"include!("shared.v1.rs");"#), "{all}");
        assert!(!all.contains("market") && !all.contains("plain"), "{all}");
    }
}
