//! Generated messages as `ProtoJSON`, for serde.

use std::{
    collections::HashMap,
    sync::{LazyLock, PoisonError, RwLock},
};

use prost::Message;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::{Contract, Schema, SchemaError};

/// The schemas of the contracts of this program, by where their descriptors are in memory.
static SCHEMAS: LazyLock<RwLock<HashMap<usize, &'static Schema>>> = LazyLock::new(RwLock::default);

impl Contract {
    /// Returns the descriptors, decoded: once, and kept as long as the program runs.
    ///
    /// # Errors
    ///
    /// As [`Schema::decode`]; not for a contract that agentbus-build has written.
    pub fn schema(&self) -> Result<&'static Schema, SchemaError> {
        let key = self.descriptor_set().as_ptr() as usize;
        let known = SCHEMAS.read().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        if let Some(schema) = known {
            return Ok(schema);
        }
        let schema = Schema::decode(self.descriptor_set())?;
        let mut schemas = SCHEMAS.write().unwrap_or_else(PoisonError::into_inner);
        Ok(schemas.entry(key).or_insert_with(|| Box::leak(Box::new(schema))))
    }
}

/// Writes a message as canonical `ProtoJSON`. Generated code calls this.
///
/// # Errors
///
/// Returns an error where `ProtoJSON` has no form for the message, and those of the serializer.
#[doc(hidden)]
pub fn serialize<M: Message, S: Serializer>(
    contract: &Contract,
    full_name: &str,
    message: &M,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let schema = contract.schema().map_err(ser::Error::custom)?;
    let json = schema.to_json(full_name, &message.encode_to_vec()).map_err(ser::Error::custom)?;
    json.serialize(serializer)
}

/// Reads a message from `ProtoJSON`. Generated code calls this.
///
/// # Errors
///
/// Returns an error that names the field and what is wrong there.
#[doc(hidden)]
pub fn deserialize<'de, M: Message + Default, D: Deserializer<'de>>(
    contract: &Contract,
    full_name: &str,
    deserializer: D,
) -> Result<M, D::Error> {
    let json = serde_json::Value::deserialize(deserializer)?;
    let schema = contract.schema().map_err(de::Error::custom)?;
    let body = schema.from_json(full_name, &json.to_string()).map_err(de::Error::custom)?;
    M::decode(body).map_err(de::Error::custom)
}
