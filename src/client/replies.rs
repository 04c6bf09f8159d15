//! The replies of many to one request.

use std::marker::PhantomData;

use prost::{Message, Name as MessageName};

use super::{RequestError, requester::Slot};
use crate::{contract::Name, message::Envelope};

/// The replies to a request, as they come; made by [`Client::request_many`](super::Client::request_many).
///
/// Dropping it forgets the request.
#[derive(Debug)]
pub struct Replies<Res> {
    topic: Name,
    slot: Slot,
    left: usize,
    reply: PhantomData<fn() -> Res>,
}

impl<Res> Replies<Res> {
    pub(super) fn new(topic: Name, slot: Slot, at_most: Option<usize>) -> Self {
        Self { topic, slot, left: at_most.unwrap_or(usize::MAX), reply: PhantomData }
    }

    /// Waits for the next reply as it came, with the topic of the request.
    pub(super) async fn take(&mut self) -> Option<(Name, Envelope)> {
        if self.left == 0 {
            return None;
        }
        let reply = self.slot.next().await?;
        self.left -= 1;
        Some((self.topic.clone(), reply))
    }
}

impl<Res: Message + MessageName + Default> Replies<Res> {
    /// Waits for the next reply; `None` at the deadline or after as many as were asked for.
    ///
    /// # Cancel safety
    ///
    /// A dropped future takes no reply with it.
    pub async fn next(&mut self) -> Option<Result<Res, RequestError>> {
        let (topic, reply) = self.take().await?;
        Some(RequestError::read(&topic, &reply))
    }
}
