//! The rules by which changes are judged.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

/// What a change breaks. Each category contains the ones before it, as buf's do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Category {
    /// Agents that exchange messages as protobuf (buf's `WIRE`, and the routes).
    Wire,
    /// Whoever reads or writes the messages as `ProtoJSON` (buf's `WIRE_JSON`).
    WireJson,
    /// Code that is generated from the contract (buf's `PACKAGE`).
    Source,
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wire => "wire",
            Self::WireJson => "wire-json",
            Self::Source => "source",
        })
    }
}

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident, $name:literal, $category:ident;)*) => {
        /// A kind of change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Rule {
            $($(#[$doc])* $rule,)*
        }

        impl Rule {
            /// All of them.
            #[cfg(test)]
            pub(crate) const ALL: &[Self] = &[$(Self::$rule,)*];

            /// Returns the name, which is part of the interface.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$rule => $name,)*
                }
            }

            /// Returns what a change of this kind breaks.
            pub(crate) fn category(self) -> Category {
                match self {
                    $(Self::$rule => Category::$category,)*
                }
            }
        }
    };
}

rules! {
    /// A package is gone or has another name, and with it every type's name.
    PackageRemoved, "PACKAGE_REMOVED", Wire;
    /// A message is gone or has another name. Names of types travel with messages.
    MessageRemoved, "MESSAGE_REMOVED", Wire;
    /// A field is gone, and its number may be taken for something else.
    FieldRemoved, "FIELD_REMOVED", Wire;
    /// A field has another number.
    FieldRenumbered, "FIELD_RENUMBERED", Wire;
    /// A field has a type with other bytes.
    FieldType, "FIELD_TYPE", Wire;
    /// A field is repeated, or a map, and was not, or the other way round.
    FieldCardinality, "FIELD_CARDINALITY", Wire;
    /// A field is required and was not, or the other way round (proto2).
    FieldRequired, "FIELD_REQUIRED", Wire;
    /// A field that is absent means another value (proto2).
    FieldDefault, "FIELD_DEFAULT", Wire;
    /// A field went into a oneof, out of one, or to another one.
    FieldOneof, "FIELD_ONEOF", Wire;
    /// A number that was reserved is not any more.
    ReservedNumberRemoved, "RESERVED_NUMBER_REMOVED", Wire;
    /// An enum's value is gone, and its number may be taken for something else.
    EnumValueRemoved, "ENUM_VALUE_REMOVED", Wire;
    /// An enum's value has another number.
    EnumValueRenumbered, "ENUM_VALUE_RENUMBERED", Wire;
    /// An enum that is absent means another value (proto2).
    EnumDefault, "ENUM_DEFAULT", Wire;
    /// A route is gone.
    RouteRemoved, "ROUTE_REMOVED", Wire;
    /// A route has another key.
    RouteKey, "ROUTE_KEY", Wire;
    /// A route takes another message.
    RouteRequest, "ROUTE_REQUEST", Wire;
    /// A route replies with another message.
    RouteReply, "ROUTE_REPLY", Wire;
    /// A route replies and did not, or the other way round.
    RouteOneWay, "ROUTE_ONE_WAY", Wire;
    /// A field has another name, in `ProtoJSON`, too.
    FieldName, "FIELD_NAME", WireJson;
    /// A field has another name in `ProtoJSON`.
    FieldJsonName, "FIELD_JSON_NAME", WireJson;
    /// A field has a type with the same bytes, but another range or another form in `ProtoJSON`.
    FieldJsonType, "FIELD_JSON_TYPE", WireJson;
    /// A map is a repeated field of the same bytes, or the other way round.
    FieldJsonCardinality, "FIELD_JSON_CARDINALITY", WireJson;
    /// A field is gone, and its name may be taken for something else.
    FieldNameNotReserved, "FIELD_NAME_NOT_RESERVED", WireJson;
    /// A name that was reserved is not any more.
    ReservedNameRemoved, "RESERVED_NAME_REMOVED", WireJson;
    /// An enum's value has another name.
    EnumValueName, "ENUM_VALUE_NAME", WireJson;
    /// An enum's value is gone, and its name may be taken for something else.
    EnumValueNameNotReserved, "ENUM_VALUE_NAME_NOT_RESERVED", WireJson;
    /// A field is gone; its number and name are reserved.
    FieldRetired, "FIELD_RETIRED", Source;
    /// A field has another name, and the same one in `ProtoJSON`.
    FieldSourceName, "FIELD_SOURCE_NAME", Source;
    /// A field has another type of the same bytes and the same form in `ProtoJSON`.
    FieldSourceType, "FIELD_SOURCE_TYPE", Source;
    /// A field tells absent from default and did not, or the other way round.
    FieldPresence, "FIELD_PRESENCE", Source;
    /// A field went, alone, into a oneof or out of one.
    FieldOneofAlone, "FIELD_ONEOF_ALONE", Source;
    /// A oneof has another name.
    OneofName, "ONEOF_NAME", Source;
    /// An enum is gone or has another name; those names do not travel.
    EnumRemoved, "ENUM_REMOVED", Source;
    /// An enum's value is gone; its number and name are reserved.
    EnumValueRetired, "ENUM_VALUE_RETIRED", Source;
    /// A route belongs to another method.
    RouteMethod, "ROUTE_METHOD", Source;
    /// A route states another deadline.
    RouteDeadline, "ROUTE_DEADLINE", Source;
    /// A route states another retry policy.
    RouteRetry, "ROUTE_RETRY", Source;
    /// A route states another priority.
    RoutePriority, "ROUTE_PRIORITY", Source;
    /// A file has another syntax.
    FileSyntax, "FILE_SYNTAX", Source;
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn every_rule_is_in_the_documentation_with_its_category() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/contract-tools.md");
        let page = fs::read_to_string(page).expect("the page on contracts");
        for rule in Rule::ALL {
            let row = format!("| `{rule}` | {} |", rule.category());
            assert!(page.contains(&row), "docs/contract-tools.md has no row that begins `{row}`");
        }
    }
}
