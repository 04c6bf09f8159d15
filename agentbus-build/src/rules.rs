//! The rules a contract keeps, checked all at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use prost_build::Module;
use protox::prost_reflect::{
    ExtensionDescriptor, FileDescriptor, MessageDescriptor, MethodDescriptor, ServiceDescriptor,
};

use crate::{
    bundled::{ROUTE_EXTENSION, ROUTE_FILE},
    contract::{Route, Service},
    metadata,
    options::Options,
    problem::{Location, Problem},
    sources::Sources,
};

const EMPTY: &str = "google.protobuf.Empty";

/// Numbers of the fields `input_type`, `output_type` and `options` of a `MethodDescriptorProto`.
const METHOD_INPUT: i32 = 2;
const METHOD_OUTPUT: i32 = 3;
const METHOD_OPTIONS: i32 = 4;

/// Returns the services that have routes.
pub(crate) fn services(sources: &Sources) -> Result<Vec<Service>, Vec<Problem>> {
    let mut check = Check {
        sources,
        route: sources.pool.get_extension_by_name(ROUTE_EXTENSION),
        keys: HashMap::new(),
        modules: modules(sources),
        problems: Vec::new(),
    };
    let services: Vec<_> = sources
        .pool
        .files()
        .flat_map(|file| file.services().collect::<Vec<_>>())
        .filter_map(|service| check.service(&service))
        .collect();
    if check.problems.is_empty() { Ok(services) } else { Err(check.problems) }
}

/// Returns the Rust name of a module, a field or a method, as prost-build makes it.
pub(crate) fn snake_case(name: &str) -> String {
    // prost-build keeps the function private, save for this use of it.
    Module::from_protobuf_package_name(name).parts().collect()
}

/// Returns the name of a method's constant.
pub(crate) fn constant(method: &str) -> String {
    snake_case(method).trim_start_matches("r#").to_uppercase()
}

struct Check<'a> {
    sources: &'a Sources,
    route: Option<ExtensionDescriptor>,
    /// The method that has each key.
    keys: HashMap<String, (String, Location)>,
    /// What each package's module names are taken by.
    modules: BTreeMap<(String, String), String>,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn service(&mut self, service: &ServiceDescriptor) -> Option<Service> {
        let file = service.parent_file();
        let options: Vec<_> = service.methods().map(|method| self.options(&method)).collect();
        if !imports_routes(&file) && options.iter().all(Option::is_none) {
            return None;
        }
        let location = self.sources.location(&file, service.path());
        let package = service.package_name().to_owned();
        let module = snake_case(service.name());
        let name = service.full_name();
        if let Some(other) = self.modules.insert((package, module.clone()), format!("`{name}`")) {
            let message = format!("`{name}` and {other} would both be the module `{module}`");
            self.problems.push(Problem::new(location.clone(), message));
        }
        let mut constants = HashMap::new();
        let mut routes = Vec::new();
        for (method, options) in service.methods().zip(options) {
            let location = self.sources.location(&file, method.path());
            self.method(&method, options.as_ref(), &location);
            self.streams(&method);
            let constant = constant(method.name());
            if constant.is_empty() {
                let message = format!("`{}` has no letters to name a constant by", method.name());
                self.problems.push(Problem::new(location.clone(), message));
            } else if let Some(other) = constants.insert(constant.clone(), method.name().to_owned())
            {
                let message = format!(
                    "`{}` and `{other}` would both be the constant `{constant}`",
                    method.name()
                );
                self.problems.push(Problem::new(location.clone(), message));
            }
            routes.push(route(&method, options.unwrap_or_default(), location));
        }
        let name = name.to_owned();
        (!routes.is_empty()).then_some(Service { name, location, routes })
    }

    /// Checks what one method says of itself.
    fn method(
        &mut self,
        method: &MethodDescriptor,
        options: Option<&Options>,
        location: &Location,
    ) {
        let name = method.full_name();
        let Some(options) = options else {
            let message =
                format!("`{name}` has no key: add `option (agentbus.v1.route).key = \"…\";`");
            self.problems.push(Problem::new(location.clone(), message));
            return;
        };
        for fault in &options.faults {
            let place = self.within_option(method, &fault.path);
            self.problems.push(Problem::new(place, format!("`{name}` {}", fault.message)));
        }
        if !options.has_sound_key() {
            return;
        }
        let key = &options.key;
        let place = self.within_option(method, &Options::KEY_PATH);
        match self.keys.get(key) {
            Some((other, first)) => {
                let message =
                    format!("`{name}` has the key `{key}`, which `{other}` has already ({first})");
                self.problems.push(Problem::new(place, message));
            }
            None => {
                self.keys.insert(key.clone(), (name.to_owned(), place));
            }
        }
    }

    /// Checks that a method sends a single message each way.
    fn streams(&mut self, method: &MethodDescriptor) {
        let streams = [
            (method.is_client_streaming(), METHOD_INPUT),
            (method.is_server_streaming(), METHOD_OUTPUT),
        ];
        if let Some((_, place)) = streams.into_iter().find(|(streams, _)| *streams) {
            let message = format!(
                "`{}` streams, which is not supported yet: route a single message each way",
                method.full_name()
            );
            self.problems.push(Problem::new(self.within(method, &[place]), message));
        }
    }

    /// Reads the route option of a method that has one, even if it is empty.
    fn options(&self, method: &MethodDescriptor) -> Option<Options> {
        let route = self.route.as_ref()?;
        let options = method.options();
        if !options.has_extension(route) {
            return None;
        }
        let replies = method.output().full_name() != EMPTY;
        let route = options.get_extension(route);
        Some(route.as_message().map(|route| Options::read(route, replies)).unwrap_or_default())
    }

    /// Finds the place of a part of a method, or else of what it is a part of.
    fn within(&self, method: &MethodDescriptor, path: &[i32]) -> Location {
        let path = [method.path(), path].concat();
        self.sources.nearest(&method.parent_file(), &path)
    }

    fn within_option(&self, method: &MethodDescriptor, path: &[i32]) -> Location {
        let extension = self.route.as_ref().map_or(0, |route| route.number().cast_signed());
        self.within(method, &[&[METHOD_OPTIONS, extension], path].concat())
    }
}

fn route(method: &MethodDescriptor, options: Options, location: Location) -> Route {
    let Options { key, deadline, retry, priority, faults: _ } = options;
    let number = |message: &MessageDescriptor| Some(metadata::field_of(message)?.number());
    let reply = method.output();
    let reply = (reply.full_name() != EMPTY).then_some(reply);
    Route {
        service: method.parent_service().full_name().to_owned(),
        method: method.name().to_owned(),
        key,
        request: method.input().full_name().to_owned(),
        request_metadata: number(&method.input()),
        reply_metadata: reply.as_ref().and_then(number),
        deadline,
        retry,
        priority,
        reply: reply.map(|reply| reply.full_name().to_owned()),
        location,
    }
}

fn imports_routes(file: &FileDescriptor) -> bool {
    file.dependencies().any(|import| import.name() == ROUTE_FILE)
}

/// Lists the modules that prost-build makes: of messages with something nested, and of packages
/// inside a package.
fn modules(sources: &Sources) -> BTreeMap<(String, String), String> {
    let mut modules = BTreeMap::new();
    let packages: BTreeSet<String> =
        sources.pool.files().map(|file| file.package_name().to_owned()).collect();
    for package in &packages {
        for (dot, _) in package.match_indices('.') {
            let (parent, child) = (&package[..dot], &package[dot + 1..]);
            let child = snake_case(child.split('.').next().unwrap_or(child));
            modules.insert((parent.to_owned(), child), format!("the package `{package}`"));
        }
    }
    for file in sources.pool.files() {
        for message in file.messages() {
            let nested = message.child_messages().any(|child| !child.is_map_entry())
                || message.child_enums().len() > 0
                || message.oneofs().any(|oneof| !oneof.is_synthetic());
            if nested {
                let place = (file.package_name().to_owned(), snake_case(message.name()));
                modules.insert(place, format!("the types inside `{}`", message.full_name()));
            }
        }
    }
    modules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    const HEAD: &str = "syntax = \"proto3\";\npackage a;\nimport \"agentbus/v1/route.proto\";\n\
        message M {}\nimport \"google/protobuf/empty.proto\";\n";

    /// Returns the problems of a file whose line 6 is the first of `services`.
    fn problems(services: &str) -> String {
        let source = format!("{HEAD}{services}");
        Scratch::with([("a.proto", source.as_str())]).problems(&["a.proto"])
    }

    #[test]
    fn every_method_of_a_file_with_routes_has_a_key() {
        let text = problems("service S {\n  rpc A(M) returns (M);\n}");
        let expected =
            "a.proto:7:3: `a.S.A` has no key: add `option (agentbus.v1.route).key = \"…\";`";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_file_without_routes_is_left_alone() {
        let source = "syntax = \"proto3\"; message M {} service S { rpc A(stream M) returns (M); }";
        let scratch = Scratch::with([("a.proto", source)]);
        assert_eq!(scratch.contract(&["a.proto"]).unwrap().services(), []);
    }

    #[test]
    fn a_route_without_an_import_of_its_own_counts_too() {
        let through = "syntax = \"proto3\"; import public \"agentbus/v1/route.proto\";";
        let source = "syntax = \"proto3\";\nimport \"through.proto\";\nmessage M {}\nservice S {\n  \
            rpc A(M) returns (M) { option (agentbus.v1.route).key = \"a\"; }\n  rpc B(M) returns (M);\n}";
        let scratch = Scratch::with([("a.proto", source), ("through.proto", through)]);
        let text = scratch.problems(&["a.proto"]);
        assert!(text.starts_with("a.proto:6:3: `S.B` has no key"), "{text}");
    }

    #[test]
    fn a_bad_key_is_refused_with_the_reason() {
        let long = "x".repeat(198);
        let cases = [
            ("", "is empty"),
            ("a..b", "has an empty word: words are separated by single dots"),
            (".a", "has an empty word: words are separated by single dots"),
            ("a.*", "has a wildcard: `*` and `#` are for patterns"),
            ("a.#", "has a wildcard: `*` and `#` are for patterns"),
            ("a b", "has white space or a control character"),
            ("a\\n", "has white space or a control character"),
            (long.as_str(), "has more than 197 bytes"),
        ];
        for (key, reason) in cases {
            let text = problems(&format!(
                "service S {{\n\n    rpc A(M) returns (M) {{ option (agentbus.v1.route).key = \"{key}\"; }}\n}}"
            ));
            assert_eq!(
                text,
                format!("a.proto:8:28: `a.S.A` has the key \"{key}\", which {reason}")
            );
        }
    }

    #[test]
    fn defaults_out_of_bounds_are_refused_where_they_are() {
        let method = |reply: &str, options: &str| {
            problems(&format!(
                "service S {{\n  rpc A(M) returns ({reply}) {{\n    option (agentbus.v1.route).key = \"a\";\n{options}  }}\n}}"
            ))
        };
        let cases = [
            ("priority = 0", "has the priority 0; allowed: from 1 to 10"),
            ("priority = 11", "has the priority 11; allowed: from 1 to 10"),
            ("deadline.seconds = 0", "has the deadline 0ns; allowed: from 1ms to 2592000s"),
            (
                "deadline.seconds = -1",
                "has the deadline -1 s and 0 ns; allowed: from 1ms to 2592000s",
            ),
            (
                "deadline.seconds = 2592001",
                "has the deadline 2592001s; allowed: from 1ms to 2592000s",
            ),
            (
                "deadline.nanos = 1000000000",
                "has the deadline 0 s and 1000000000 ns; allowed: from 1ms to 2592000s",
            ),
            ("retry.attempts = 0", "has the attempts 0; allowed: from 1 to 1000"),
            ("retry.attempts = 1001", "has the attempts 1001; allowed: from 1 to 1000"),
            ("retry.multiplier = 0.5", "has the multiplier 0.5; allowed: from 1 to 1000"),
            (
                "retry.first_delay.seconds = 86401",
                "has the first delay 86401s; allowed: from 0ns to 86400s",
            ),
            (
                "retry.max_delay.seconds = 86401",
                "has the max delay 86401s; allowed: from 0ns to 86400s",
            ),
            ("retry.max_age.nanos = 1", "has the max age 1ns; allowed: from 1ms"),
        ];
        for (option, message) in cases {
            let text = method("M", &format!("\n    option (agentbus.v1.route).{option};\n"));
            assert_eq!(text, format!("a.proto:10:5: `a.S.A` {message}"));
        }
        let text = method(
            "google.protobuf.Empty",
            "    option (agentbus.v1.route).deadline.seconds = 5;\n",
        );
        let message = "has a deadline, but nobody replies: it returns google.protobuf.Empty";
        assert_eq!(text, format!("a.proto:9:5: `a.S.A` {message}"));
        let text = problems(
            "service S {\n  rpc A(M) returns (M) {\n    option (agentbus.v1.route) = {\n      key: \"a\"\n      \
             retry: { first_delay: { seconds: 9 } max_delay: { seconds: 8 } }\n    };\n  }\n}",
        );
        let message = "waits 9s before the first retry, and at most 8s";
        assert_eq!(text, format!("a.proto:8:5: `a.S.A` {message}"));
    }

    #[test]
    fn streaming_is_refused_either_way() {
        for (types, column) in [("(stream M) returns (M)", 16), ("(M) returns (stream M)", 28)] {
            let text = problems(&format!(
                "service S {{\n  rpc A{types} {{ option (agentbus.v1.route).key = \"a\"; }}\n}}"
            ));
            let expected =
                format!("a.proto:7:{column}: `a.S.A` streams, which is not supported yet");
            assert!(text.starts_with(&expected), "{text}");
        }
    }

    #[test]
    fn a_key_belongs_to_one_method_across_all_files() {
        let service = |name: &str| {
            format!(
                "service {name} {{\n  rpc A(M) returns (M) {{ option (agentbus.v1.route).key = \"a.b\"; }}\n}}"
            )
        };
        let one = format!("{HEAD}{}", service("S"));
        let two = format!("\n{}{}", HEAD.replace("package a", "package b"), service("T"));
        let scratch = Scratch::with([("one.proto", one.as_str()), ("two.proto", two.as_str())]);
        assert_eq!(
            scratch.problems(&["one.proto", "two.proto"]),
            "two.proto:8:26: `b.T.A` has the key `a.b`, which `a.S.A` has already (one.proto:7:26)"
        );
    }

    #[test]
    fn names_that_clash_in_rust_are_refused() {
        let text = problems(
            "service S {\n  rpc GetIt(M) returns (M) { option (agentbus.v1.route).key = \"a\"; }\n  \
             rpc get_it(M) returns (M) { option (agentbus.v1.route).key = \"b\"; }\n}\n\
             message fooBar { enum E { ZERO = 0; } }\nservice FooBar {\n  \
             rpc A(M) returns (M) { option (agentbus.v1.route).key = \"c\"; }\n}",
        );
        assert_eq!(
            text,
            "a.proto:8:3: `get_it` and `GetIt` would both be the constant `GET_IT`\n\
             a.proto:11:1: `a.FooBar` and the types inside `a.fooBar` would both be the module `foo_bar`"
        );
    }

    #[test]
    fn a_service_that_clashes_with_a_package_is_refused() {
        let inner = "syntax = \"proto3\"; package a.v1;";
        let outer = format!(
            "{HEAD}service V1 {{ rpc A(M) returns (M) {{ option (agentbus.v1.route).key = \"a\"; }} }}"
        );
        let scratch = Scratch::with([("inner.proto", inner), ("outer.proto", outer.as_str())]);
        assert_eq!(
            scratch.problems(&["inner.proto", "outer.proto"]),
            "outer.proto:6:1: `a.V1` and the package `a.v1` would both be the module `v1`"
        );
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let text = problems(
            "service S {\n  rpc A(M) returns (stream M);\n  rpc B(M) returns (M) { option (agentbus.v1.route).key = \"#\"; }\n}",
        );
        let places: Vec<_> = text.lines().filter_map(|line| line.split(": ").next()).collect();
        assert_eq!(places, ["a.proto:7:3", "a.proto:7:28", "a.proto:8:26"]);
    }

    #[test]
    fn constants_are_named_as_rust_names_them() {
        let names = ["FetchPrices", "getURL", "Type", "Self", "get_it"].map(constant);
        assert_eq!(names, ["FETCH_PRICES", "GET_URL", "TYPE", "SELF_", "GET_IT"]);
    }
}
