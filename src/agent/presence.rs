//! Tells who is there: answers those who ask, and announces starts and stops.

use std::{sync::Arc, time::Duration};

use futures::future::{join, join_all};
use prost::{Message, Name as MessageName};
use tokio::time::{sleep, timeout};

use super::{card::Card, health::HealthBoard, launch::instance, worker::Lifecycle};
use crate::{
    broker::{
        Deliveries, Delivery, Destination, PublishError, QueueError, QueueRole, QueueSpec, Stage,
    },
    client::{AGENT_STARTED, AGENT_STOPPED, Client, DISCOVER},
    contract::{Name, Pattern, Topic},
    message::{Code, Envelope, ErrorReply, Metadata, Timestamp},
    proto::v1::{
        AgentCard, AgentContract, AgentStarted, AgentStopped, DiscoverRequest, DiscoverResponse,
        StopReason,
    },
};

/// How many questions wait at most; the oldest makes room.
const QUESTIONS: u64 = 1000;

/// How many bytes of questions wait at most.
const QUESTION_BYTES: u64 = 1 << 20;

/// How many questions are fetched ahead. They are answered one after the other.
const PREFETCH: u16 = 16;

/// How long a stop waits for its announcement.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long to wait before a queue that cannot be had is tried again; twice as long each time.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// How long that wait becomes.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// The agents of one runtime, as seen by others.
///
/// Nothing here is waited for by an agent's start, and a stop waits for a second at most. What
/// fails is logged and tried again, or left.
pub(super) struct Presence {
    client: Client,
    cards: Vec<Card>,
    board: Arc<HealthBoard>,
    lifecycle: Lifecycle,
    queue: QueueSpec,
}

impl Presence {
    pub(super) fn new(
        client: Client,
        cards: Vec<Card>,
        board: Arc<HealthBoard>,
        lifecycle: Lifecycle,
    ) -> Self {
        let config = client.config();
        let name = format!("{}agentbus.discover.{}", config.queue_prefix, instance());
        // Whoever asks must not be told that a queue is full, and what waits for an answer that
        // nobody gives is worth nothing.
        let role = QueueRole::Watch {
            max_length: QUESTIONS,
            max_bytes: QUESTION_BYTES,
            expires: config.replica_queue_expiry,
            dropped: None,
        };
        let queue = QueueSpec::new(name, role).bind(DISCOVER.topic().into());
        Self { client, cards, board, lifecycle, queue }
    }

    /// Announces the agents and answers for them until they stop, then announces that.
    pub(super) async fn run(self) {
        let Lifecycle { stop, abandon, .. } = self.lifecycle.clone();
        let board = self.board.clone();
        let mut life = Box::pin(self.live());
        tokio::select! {
            () = &mut life => return,
            () = stop.cancelled() => {}
        }
        if abandon.is_cancelled() || !is_connected(&board) {
            return;
        }
        if timeout(FAREWELL, &mut life).await.is_err() {
            // Nobody waits for a slow bus; it has as long as the client lives.
            tokio::spawn(life);
        }
    }

    async fn live(self) {
        join(self.answer_all(), self.announce_start()).await;
        if !self.lifecycle.abandon.is_cancelled() && is_connected(&self.board) {
            self.farewell().await;
        }
    }

    async fn announce_start(&self) {
        for card in &self.cards {
            let started = AgentStarted { agent: Some(card.write(&self.board.health())) };
            let announced = self.announce(AGENT_STARTED, &started);
            self.lifecycle.stop.run_until_cancelled(announced).await;
        }
    }

    async fn farewell(self) {
        let reason = self.lifecycle.why.get().copied().unwrap_or(StopReason::Dropped);
        let health = self.board.health();
        // All at once, so that closing the bus waits for them.
        join_all(self.cards.iter().map(async |card| {
            let card = AgentCard { routes: Vec::new(), ..card.write(&health) };
            let stopped = AgentStopped { agent: Some(card), reason: reason.into() };
            self.announce(AGENT_STOPPED, &stopped).await;
        }))
        .await;
        let queue = &self.queue.name;
        if let Err(error) = self.client.broker().delete(queue).await {
            tracing::debug!(%queue, %error, "a queue stays until it expires");
        }
    }

    async fn announce<M: Message + MessageName>(&self, topic: Topic<M>, event: &M) {
        match self.client.publish(topic, event).await {
            Ok(_) => {}
            Err(PublishError::Unroutable { to, .. }) => tracing::debug!(to, "nobody listens"),
            Err(error) => tracing::debug!(%error, "could not announce an agent"),
        }
    }

    /// Answers until the agents stop, for as long as the bus is there.
    async fn answer_all(&self) {
        let stop = &self.lifecycle.stop;
        let mut wait = SHORTEST_WAIT;
        // What is half declared could not be deleted, so that is not interrupted.
        while !stop.is_cancelled() {
            match self.consume().await {
                Ok(mut deliveries) => {
                    wait = SHORTEST_WAIT;
                    while let Some(Some(delivery)) =
                        stop.run_until_cancelled(deliveries.next()).await
                    {
                        self.answer(delivery).await;
                    }
                }
                Err(reason) => {
                    tracing::warn!(queue = %self.queue.name, reason, "agents cannot be discovered at present");
                }
            }
            if self.client.broker().health().borrow().stage == Stage::Closed {
                return;
            }
            stop.run_until_cancelled(sleep(wait)).await;
            wait = LONGEST_WAIT.min(wait * 2);
        }
    }

    async fn consume(&self) -> Result<Deliveries, String> {
        let broker = self.client.broker();
        broker.declare(&self.queue).await.map_err(|error| error.to_string())?;
        let text = |error: QueueError| error.to_string();
        broker.consume(&self.queue.name, PREFETCH).await.map_err(text)
    }

    /// Answers one question, unless nobody waits for it any more or none of the agents is meant.
    async fn answer(&self, delivery: Delivery) {
        let question = delivery.envelope();
        let Metadata { deadline, reply_to, .. } = &question.metadata;
        let late = deadline.is_some_and(Timestamp::has_passed);
        if let Some(reply_to) = reply_to.as_ref().filter(|_| !late)
            && let Some(answer) = self.answer_to(question)
        {
            let answer = addressed(answer, &question.metadata);
            let to = Destination::Reply(reply_to);
            if let Err(error) = self.client.broker().publish(to, answer).await {
                tracing::debug!(%error, "could not answer who asked for agents");
            }
        }
        delivery.ack();
    }

    fn answer_to(&self, question: &Envelope) -> Option<Envelope> {
        let wrong =
            |reason: String| Some(ErrorReply::new(Code::InvalidArgument, reason).into_envelope());
        let request: DiscoverRequest = match question.decode() {
            Ok(request) => request,
            Err(error) => return wrong(error.to_string()),
        };
        let pattern = match request.agent.as_str() {
            "" => None,
            text => match Pattern::parse(text) {
                Ok(pattern) => Some(pattern),
                Err(error) => return wrong(error.to_string()),
            },
        };
        let meant = |card: &&Card| pattern.as_ref().is_none_or(|it| it.matches(card.name()));
        let cards: Vec<_> = self.cards.iter().filter(meant).collect();
        if cards.is_empty() {
            return None;
        }
        let health = self.board.health();
        let mut response = DiscoverResponse {
            agents: cards.iter().map(|card| card.write(&health)).collect(),
            contracts: Vec::new(),
        };
        if request.include_descriptor_sets {
            for contract in cards.iter().flat_map(|card| card.contracts()) {
                if response.contracts.iter().all(|known| known.hash != contract.hash()) {
                    response.contracts.push(AgentContract {
                        hash: contract.hash().to_owned(),
                        descriptor_set: contract.descriptor_set().to_vec(),
                    });
                }
            }
        }
        fit(&mut response, self.client.config().max_message_bytes);
        Some(Envelope::encode(&response))
    }
}

fn is_connected(board: &HealthBoard) -> bool {
    board.health().stage >= Stage::Connected
}

/// Makes a reply the answer to a request.
fn addressed(mut reply: Envelope, request: &Metadata) -> Envelope {
    let metadata = &mut reply.metadata;
    metadata.correlation_id = request.correlation_id.clone().or_else(|| request.message_id.clone());
    metadata.conversation_id =
        request.conversation_id.clone().or_else(|| request.message_id.clone());
    metadata.causation_id.clone_from(&request.message_id);
    metadata.traceparent.clone_from(&request.traceparent);
    metadata.tracestate.clone_from(&request.tracestate);
    metadata.sender = Some(Name::from_static("agentbus"));
    reply
}

/// Leaves out what makes an answer too large: contracts first, then routes, then agents.
fn fit(response: &mut DiscoverResponse, limit: usize) {
    while response.encoded_len() > limit {
        let contracts = response.contracts.iter_mut();
        let largest = contracts.max_by_key(|contract| contract.descriptor_set.len());
        if let Some(contract) = largest.filter(|contract| !contract.descriptor_set.is_empty()) {
            contract.descriptor_set = Vec::new();
            continue;
        }
        let longest = response.agents.iter_mut().max_by_key(|card| card.routes.len());
        match longest {
            Some(card) if !card.routes.is_empty() => {
                let omitted = u32::try_from(card.routes.len()).unwrap_or(u32::MAX);
                card.routes_omitted = card.routes_omitted.saturating_add(omitted);
                card.routes = Vec::new();
            }
            // Which contracts there are is on the cards, too.
            _ if !response.contracts.is_empty() => response.contracts.clear(),
            Some(_) => drop(response.agents.pop()),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::AgentRoute;

    #[test]
    fn what_is_too_large_goes_contracts_first() {
        let route = || AgentRoute { topic: "a.topic".repeat(10), ..AgentRoute::default() };
        let card = |routes| AgentCard {
            name: "agent".to_owned(),
            routes: std::iter::repeat_with(route).take(routes).collect(),
            ..AgentCard::default()
        };
        let contract = |hash: &str, bytes| AgentContract {
            hash: hash.to_owned(),
            descriptor_set: vec![1; bytes],
        };
        let whole = DiscoverResponse {
            agents: vec![card(1), card(10)],
            contracts: vec![contract("a", 100), contract("b", 3000)],
        };
        let fitted = |limit| {
            let mut response = whole.clone();
            fit(&mut response, limit);
            assert!(response.encoded_len() <= limit);
            let contracts: Vec<_> =
                response.contracts.iter().map(|it| it.descriptor_set.len()).collect();
            let routes: Vec<_> = response.agents.iter().map(|card| card.routes.len()).collect();
            (contracts, routes)
        };
        assert_eq!(fitted(1 << 20), (vec![100, 3000], vec![1, 10]));
        assert_eq!(fitted(1500), (vec![100, 0], vec![1, 10]));
        assert_eq!(fitted(900), (vec![0, 0], vec![1, 10]));
        assert_eq!(fitted(200), (vec![0, 0], vec![1, 0]));
        assert_eq!(fitted(35), (vec![0, 0], vec![0, 0]));
        assert_eq!(fitted(25), (vec![], vec![0, 0]));
        assert_eq!(fitted(15), (vec![], vec![0]));
        assert_eq!(fitted(0), (vec![], vec![]));
    }
}
