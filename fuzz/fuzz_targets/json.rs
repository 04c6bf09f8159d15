//! ProtoJSON: any body is shown or an error, and what is shown can be read again.
#![no_main]

use std::sync::LazyLock;

use agentbus::Schema;
use libfuzzer_sys::fuzz_target;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

const SHOP: &str = r#"
    syntax = "proto3";
    package shop.v1;
    import "google/protobuf/any.proto";
    import "google/protobuf/duration.proto";
    import "google/protobuf/field_mask.proto";
    import "google/protobuf/struct.proto";
    import "google/protobuf/timestamp.proto";
    import "google/protobuf/wrappers.proto";
    enum Status { STATUS_UNSPECIFIED = 0; STATUS_PAID = 1; }
    message Order {
      int64 id = 1; Status status = 2; repeated Order parts = 3; map<string, Order> gifts = 4;
      bytes signature = 5; google.protobuf.Timestamp at = 6; google.protobuf.Any note = 7;
      oneof payment { string card = 8; uint64 cash = 9; } double total = 10; float rate = 11;
      google.protobuf.Duration within = 12; google.protobuf.Struct extra = 13;
      google.protobuf.DoubleValue weight = 14; map<int32, string> labels = 15;
      optional bool gift = 16; google.protobuf.FieldMask mask = 17;
    }
"#;

struct Shop;

impl FileResolver for Shop {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match name {
            "shop.proto" => File::from_source(name, SHOP),
            _ => Err(protox::Error::file_not_found(name)),
        }
    }
}

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let mut resolver = ChainFileResolver::new();
    resolver.add(Shop);
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).open_file("shop.proto").expect("it compiles");
    Schema::decode(&compiler.encode_file_descriptor_set()).expect("it is a descriptor set")
});

fuzz_target!(|input: (bool, &[u8])| {
    const ORDER: &str = "shop.v1.Order";
    let (is_json, input) = input;
    let body = if is_json {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let Ok(body) = SCHEMA.from_json(ORDER, text) else { return };
        body
    } else {
        input.to_vec().into()
    };
    let shown = match SCHEMA.to_json_string(ORDER, &body) {
        Ok(shown) => shown,
        // A body may hold a time that no calendar has; what was encoded here may not.
        Err(error) => return assert!(!is_json, "{error}"),
    };
    // A body may hold numbers that an enum or a mask cannot say; what is shown is read at least
    // without a panic, and what came from JSON without an error.
    match SCHEMA.from_json(ORDER, &shown) {
        Ok(again) => {
            let again = SCHEMA.to_json_string(ORDER, &again).expect("it was shown before");
            assert!(!is_json || again == shown, "{shown}\n{again}");
        }
        Err(error) => assert!(!is_json, "{error}: {shown}"),
    }
});
