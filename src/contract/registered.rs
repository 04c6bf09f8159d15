//! The contract that a topic was generated from.

use std::fmt;

/// A compiled contract, as generated code carries it: its descriptors, and the hash that tells it
/// from others.
///
/// agentbus-build writes one a compilation, `CONTRACT`, and each generated topic refers to it. So a
/// running agent knows the contract it was built with, and [tells it](crate::Client::discover) to
/// whoever asks.
pub struct Contract {
    descriptor_set: &'static [u8],
    hash: &'static str,
}

impl Contract {
    /// Describes a contract by an encoded `google.protobuf.FileDescriptorSet` with all imports, and a
    /// hash of it. Generated code calls this.
    #[must_use]
    pub const fn new(descriptor_set: &'static [u8], hash: &'static str) -> Self {
        Self { descriptor_set, hash }
    }

    /// Returns the descriptors, for [`Schema::decode`](super::Schema::decode).
    #[must_use]
    pub const fn descriptor_set(&self) -> &'static [u8] {
        self.descriptor_set
    }

    /// Returns the hash: the same text for contracts that say the same.
    #[must_use]
    pub const fn hash(&self) -> &'static str {
        self.hash
    }
}

impl fmt::Debug for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contract").field("hash", &self.hash).finish_non_exhaustive()
    }
}
