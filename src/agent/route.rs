//! One route: what it listens to, and how its messages are handled.

use std::{sync::Arc, time::Duration};

use super::endpoint::{BatchEndpoint, Endpoint, FollowUpEndpoint};
use crate::{
    contract::{Contract, Name, Pattern},
    retry::RetryPolicy,
};

/// A route of messages.
pub(super) struct Route<A> {
    pub(super) pattern: Pattern,
    pub(super) audience: Audience,
    pub(super) replies: bool,
    pub(super) metadata_field: Option<u32>,
    pub(super) reply_metadata_field: Option<u32>,
    pub(super) target: Target<A>,
    /// None leaves it to the agent.
    pub(super) retry: Option<RetryPolicy>,
    /// What the contract says, where neither the route nor the agent does.
    pub(super) contract_retry: Option<RetryPolicy>,
    pub(super) keep_expired: bool,
    pub(super) signature: Signature,
}

/// What a route tells of itself.
pub(super) struct Signature {
    /// Type of what is taken; none where that is anything.
    pub(super) request: Option<&'static str>,
    /// Type of the reply.
    pub(super) reply: &'static str,
    pub(super) contract: Option<&'static Contract>,
}

pub(super) struct FollowUpRoute<A> {
    pub(super) endpoint: Arc<dyn FollowUpEndpoint<A>>,
    /// Topic of the request.
    pub(super) topic: Name,
    /// What is asked, and what the answer is.
    pub(super) signature: Signature,
    pub(super) retry: Option<RetryPolicy>,
}

/// Which replicas get a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    /// One of them.
    One,
    /// Every one.
    Each,
}

pub(super) enum Target<A> {
    Single(Arc<dyn Endpoint<A>>),
    Batch { endpoint: Arc<dyn BatchEndpoint<A>>, max: usize, within: Duration },
}
