//! The files of a contract: which are there already, and which contradict each other.

use std::{collections::BTreeMap, fmt, panic, sync::Arc};

use bytes::Bytes;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, Kind, MessageDescriptor, ReflectMessage,
    prost_types::{
        DescriptorProto, EnumDescriptorProto, FileDescriptorProto, ServiceDescriptorProto,
    },
};

use super::SchemaError;

/// The files of a contract, linked with each other.
#[derive(Clone, Default)]
pub(super) struct Files {
    pool: DescriptorPool,
    /// Each file as it came, without comments and positions, to tell the same from another.
    contents: Arc<BTreeMap<String, Vec<u8>>>,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.contents.keys()).finish()
    }
}

/// A `FileDescriptorSet` whose files stay encoded, since decoding them drops custom options.
#[derive(Clone, PartialEq, prost::Message)]
struct EncodedSet {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    file: Vec<Bytes>,
}

/// Files that come with a compiler: they differ between its versions, not in what they mean.
const BUNDLED: [&str; 2] = ["google/protobuf/", "agentbus/v1/"];

impl Files {
    pub(super) fn pool(&self) -> &DescriptorPool {
        &self.pool
    }

    /// Adds the files of an encoded set, or none of them.
    pub(super) fn merge(&mut self, file_descriptor_set: &[u8]) -> Result<(), SchemaError> {
        let set = EncodedSet::decode(file_descriptor_set).map_err(SchemaError::malformed)?;
        let mut contents = BTreeMap::clone(&self.contents);
        let mut added = Vec::new();
        for encoded in set.file {
            let file = FileDescriptorProto::decode(&*encoded).map_err(SchemaError::malformed)?;
            let content = content(&encoded).map_err(SchemaError::malformed)?;
            match contents.get(file.name()) {
                Some(_) if BUNDLED.iter().any(|it| file.name().starts_with(it)) => {}
                Some(known) if *known == content => {}
                Some(_) => return Err(SchemaError::conflicting_file(file.name())),
                None => {
                    self.check_definitions(&file)?;
                    contents.insert(file.name().to_owned(), content);
                    added.push(encoded);
                }
            }
        }
        let pool = extend(self.pool.clone(), EncodedSet { file: added })?;
        *self = Self { pool, contents: Arc::new(contents) };
        Ok(())
    }

    /// Checks that what `file` defines is not defined by a file of another name.
    fn check_definitions(&self, file: &FileDescriptorProto) -> Result<(), SchemaError> {
        let messages = file.message_type.iter().map(DescriptorProto::name);
        let enums = file.enum_type.iter().map(EnumDescriptorProto::name);
        let services = file.service.iter().map(ServiceDescriptorProto::name);
        for name in messages.chain(enums).chain(services) {
            let full_name = match file.package() {
                "" => name.to_owned(),
                package => format!("{package}.{name}"),
            };
            let first = (self.pool.get_message_by_name(&full_name).map(|it| it.parent_file()))
                .or_else(|| self.pool.get_enum_by_name(&full_name).map(|it| it.parent_file()))
                .or_else(|| self.pool.get_service_by_name(&full_name).map(|it| it.parent_file()));
            if let Some(first) = first {
                return Err(SchemaError::conflicting_type(&full_name, file.name(), first.name()));
            }
        }
        Ok(())
    }
}

/// Adds files to a pool.
///
/// Most sets that no compiler made are an error in prost-reflect, but some make it panic while it
/// looks for the place of the error.
fn extend(mut pool: DescriptorPool, set: EncodedSet) -> Result<DescriptorPool, SchemaError> {
    let set = set.encode_to_vec();
    let extended = panic::catch_unwind(move || {
        pool.decode_file_descriptor_set(&*set).map_err(|error| SchemaError::unusable(&error))?;
        check_map_entries(&pool)?;
        Ok(pool)
    });
    extended.unwrap_or_else(|_| Err(SchemaError::malformed("its files contradict themselves")))
}

/// Checks what prost-reflect takes on trust, and panics over in the middle of a message.
fn check_map_entries(pool: &DescriptorPool) -> Result<(), SchemaError> {
    for entry in pool.all_messages().filter(MessageDescriptor::is_map_entry) {
        let key = entry.get_field(1).filter(|key| !key.is_list() && is_key(&key.kind()));
        let value = entry.get_field(2).filter(|value| !value.is_list());
        if key.is_none() || value.is_none() {
            let name = entry.full_name();
            return Err(SchemaError::malformed(format_args!("`{name}` is no entry of a map")));
        }
    }
    Ok(())
}

fn is_key(kind: &Kind) -> bool {
    !matches!(kind, Kind::Double | Kind::Float | Kind::Bytes | Kind::Message(_) | Kind::Enum(_))
}

/// What an encoded file says, custom options included, comments and positions not.
fn content(file: &[u8]) -> Result<Vec<u8>, prost::DecodeError> {
    let descriptor = FileDescriptorProto::default().descriptor();
    let mut message = DynamicMessage::decode(descriptor, file)?;
    message.clear_field_by_name("source_code_info");
    Ok(message.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Schema,
            tests::{SHOP, compile, shop},
        },
        *,
    };

    #[test]
    fn the_same_file_may_come_again_but_not_another_of_its_name() {
        let mut schema = shop();
        let commented = SHOP.replace("enum Status", "/* How far it is. */ enum Status");
        schema.merge(&compile(&[("shop.proto", &commented)])).unwrap();
        let other = r#"syntax = "proto3"; package news; message Story { string title = 1; }"#;
        schema.merge(&compile(&[("news.proto", other)])).unwrap();
        assert!(schema.contains("news.Story") && schema.contains("shop.v1.Item"));

        let before = schema.encode();
        let changed = SHOP.replace("int32 quantity", "int64 quantity");
        let error = schema.merge(&compile(&[("shop.proto", &changed)])).unwrap_err();
        assert!(matches!(&error, SchemaError::Conflict { file, .. } if file == "shop.proto"));
        let error = schema.merge(&compile(&[("copy/shop.proto", SHOP)])).unwrap_err();
        assert!(error.to_string().starts_with(
            "the file `copy/shop.proto` conflicts with the contract: `shop.v1.Item` is defined by \
             `shop.proto` already; "
        ));
        assert_eq!(schema.encode(), before);
    }

    #[test]
    fn custom_options_count_as_content_and_survive_encoding() {
        let routes = |key: &str| {
            let source = r#"
                syntax = "proto3";
                package shop;
                import "google/protobuf/descriptor.proto";
                extend google.protobuf.MessageOptions { string route = 51717; }
                message Order { option (route) = "KEY"; }
            "#;
            compile(&[("shop.proto", &source.replace("KEY", key))])
        };
        let mut schema = Schema::decode(&routes("order.placed")).unwrap();
        schema.merge(&routes("order.placed")).unwrap();
        assert!(matches!(schema.merge(&routes("order.moved")), Err(SchemaError::Conflict { .. })));
        let encoded = schema.encode();
        assert!(encoded.windows(12).any(|window| window == b"order.placed"));
        let mut again = Schema::decode(&encoded).unwrap();
        again.merge(&routes("order.placed")).unwrap();
    }

    #[test]
    fn sets_that_are_broken_or_lack_an_import_are_refused() {
        let error = Schema::decode(b"\x0a\xff").unwrap_err();
        assert!(matches!(error, SchemaError::Malformed { .. }), "{error}");
        let set = EncodedSet::decode(&*compile(&[("shop.proto", SHOP)])).unwrap();
        let alone = EncodedSet { file: set.file[set.file.len() - 1..].to_vec() };
        let error = Schema::decode(&alone.encode_to_vec()).unwrap_err();
        assert!(error.to_string().contains("`shop.proto`: imported file"), "{error}");
    }
}
