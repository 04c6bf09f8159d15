//! The cards of those who are there, as they come.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::AgentCard;
use crate::{client::Replies, contract::Name, proto::v1::DiscoverResponse};

/// The cards of those who are there, as they come; made by
/// [`Client::discover`](crate::Client::discover).
///
/// Dropping it ends the search.
#[derive(Debug)]
pub struct Discovered {
    /// None where nobody listens.
    replies: Option<Replies<DiscoverResponse>>,
    cards: VecDeque<AgentCard>,
    left: usize,
}

impl Discovered {
    pub(super) fn new(replies: Option<Replies<DiscoverResponse>>, at_most: usize) -> Self {
        Self { replies, cards: VecDeque::new(), left: at_most }
    }

    /// Waits for the next card; `None` when the time is up, or as many have come as were asked for.
    ///
    /// # Cancel safety
    ///
    /// A dropped future takes no card with it.
    pub async fn next(&mut self) -> Option<AgentCard> {
        if self.left == 0 {
            return None;
        }
        while self.cards.is_empty() {
            match self.replies.as_mut()?.next().await? {
                Ok(response) => self.cards.extend(cards(response)),
                Err(error) => tracing::debug!(%error, "passed over an answer to a discovery"),
            }
        }
        self.left -= 1;
        self.cards.pop_front()
    }

    /// Waits for all of them, and returns them by name and instance.
    ///
    /// # Cancel safety
    ///
    /// A dropped future takes the cards with it that had come.
    pub async fn all(mut self) -> Vec<AgentCard> {
        let mut cards = Vec::new();
        while let Some(card) = self.next().await {
            cards.push(card);
        }
        cards.sort_by(|a, b| (&a.name, &a.instance).cmp(&(&b.name, &b.instance)));
        cards
    }
}

/// Reads the cards of one process, each with its contracts where they came along.
fn cards(response: DiscoverResponse) -> impl Iterator<Item = AgentCard> {
    let contracts = response.contracts.into_iter();
    let sets: HashMap<Name, Bytes> = contracts
        .filter(|contract| !contract.descriptor_set.is_empty())
        .map(|contract| (contract.hash.into(), contract.descriptor_set.into()))
        .collect();
    response.agents.into_iter().map(move |card| {
        let mut card = AgentCard::from(card);
        for contract in &mut card.contracts {
            contract.descriptor_set = sets.get(&contract.hash).cloned();
        }
        card
    })
}
