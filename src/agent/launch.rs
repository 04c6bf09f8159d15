//! Brings one agent up: declares its queues, calls its `on_start`, consumes.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::mpsc;

use super::{
    Agent, Middleware, StartError,
    card::Card,
    context::Duty,
    conversation::FollowUps,
    counts::Counters,
    fate::work_queue,
    health::HealthBoard,
    notices::Notices,
    route::{Audience, Target},
    route_table::RouteTable,
    start::check_name,
    worker::{Lifecycle, Source, Worker},
};
use crate::{
    broker::{QueueRole, QueueSpec},
    client::{Client, dead_letter_queue, dead_letter_spec},
    contract::{Name, Pattern},
    message::{Id, Priorities},
    retry::RetryPolicy,
    store::{Conversations, Scope},
};

/// Declares one agent's queues; the agent's type is erased here.
pub(super) type Prepare =
    Box<dyn FnOnce(Shared) -> BoxFuture<'static, Result<Prepared, StartError>> + Send>;

/// What all agents of a runtime share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) chain: Arc<[Arc<dyn Middleware>]>,
    pub(super) retry: RetryPolicy,
    pub(super) jitter: bool,
    pub(super) notices: Arc<Notices>,
    pub(super) conversations: Arc<dyn Conversations>,
    pub(super) lifecycle: Lifecycle,
    pub(super) board: Arc<HealthBoard>,
}

/// An agent whose queues are bound, and that has not handled anything yet.
pub(super) struct Prepared {
    pub(super) name: Name,
    pub(super) counters: Arc<Counters>,
    pub(super) card: Card,
    pub(super) begin: BoxFuture<'static, Result<OnStop, StartError>>,
}

pub(super) type OnStop = BoxFuture<'static, ()>;

pub(super) async fn prepare<A: Agent>(agent: A, shared: Shared) -> Result<Prepared, StartError> {
    let Shared { client, chain, retry, jitter, notices, conversations, lifecycle, board } = shared;
    let name = Name::from(agent.name());
    let queue = work_queue(&client, &name);
    check_name(&queue)?;
    let mut routes = agent
        .routes()
        .compile()
        .map_err(|source| StartError::Routes { agent: name.clone(), source })?;
    let retry = routes.settle_retries(agent.retry(), retry, jitter);
    let instance = instance();
    let replica = Name::from(format!("{queue}.{instance}"));

    let process_local = conversations.scope() == Scope::Process;
    let answers_here = !routes.follow_ups.is_empty() && process_local;
    let has_each = routes.patterns(Audience::Each).next().is_some();
    let own = (answers_here || has_each).then_some(&replica);
    let queues = queues(&client, &queue, &routes, own, agent.priorities());
    for spec in &queues {
        let undeclared = |source| StartError::Declare { agent: name.clone(), source };
        client.broker().declare(spec).await.map_err(undeclared)?;
    }

    let reply_to = if process_local { replica.clone() } else { queue.clone() };
    let names = routes.follow_ups.keys().cloned().collect();
    let follow_ups = FollowUps::new(name.clone(), conversations, reply_to, names);
    let counters = Arc::new(Counters::default());
    let card = Card::new(&name, &instance, &queue, &routes, Arc::clone(&counters));

    let largest = u16::try_from(routes.largest_batch()).unwrap_or(u16::MAX);
    let prefetch = client.config().prefetch.max(largest);
    let mut sources = vec![Source { queue: queue.clone(), audience: Audience::One }];
    let own = own.cloned();
    if let Some(replica) = &own {
        sources.push(Source { queue: replica.clone(), audience: Audience::Each });
    }
    for source in &sources {
        board.queue_of(&name, &source.queue);
    }

    let mut batches = Vec::new();
    let mut collectors = Vec::new();
    for (index, route) in routes.routes.iter().enumerate() {
        batches.push(match &route.target {
            Target::Single(_) => None,
            Target::Batch { endpoint, max, within } => {
                let (sender, items) = mpsc::channel(*max);
                collectors.push((index, Arc::clone(endpoint), items, *max, *within));
                Some(sender)
            }
        });
    }
    let (client, follow_ups) = (client.named(name.clone()), Arc::new(follow_ups));
    let duty = Arc::new(Duty {
        client: client.clone(),
        follow_ups: Arc::clone(&follow_ups),
        agent: name.clone(),
        instance: instance.clone(),
        stop: lifecycle.stop.clone(),
        hurry: lifecycle.hurry.clone(),
        counters: Arc::clone(&counters),
    });
    let worker = Arc::new(Worker {
        client,
        name: name.clone(),
        follow_ups,
        counters: Arc::clone(&counters),
        duty,
        agent,
        instance,
        routes,
        chain,
        retry,
        notices,
        queues,
        prefetch,
        batches,
        lifecycle,
        board,
    });
    let begin = async move {
        let started = worker.agent.on_start(&worker.client).await;
        started.map_err(|source| StartError::OnStart { agent: worker.name.clone(), source })?;
        // Only now, so that a replica that takes its time to start holds no messages meanwhile.
        let mut consumers = Vec::new();
        for source in sources {
            let deliveries = worker.client.broker().consume(&source.queue, prefetch).await;
            let unconsumed = |source| StartError::Consume { agent: worker.name.clone(), source };
            consumers.push((deliveries.map_err(unconsumed)?, source));
        }
        let tasks = &worker.lifecycle.tasks;
        for (route, endpoint, items, max, within) in collectors {
            tasks.spawn(Arc::clone(&worker).run_batches(route, endpoint, items, max, within));
        }
        for (deliveries, source) in consumers {
            tasks.spawn(Arc::clone(&worker).consume(deliveries, source));
        }
        if !worker.routes.follow_ups.is_empty() && !worker.follow_ups.by_message() {
            tasks.spawn(Arc::clone(&worker).watch_deadlines());
        }
        Ok(Box::pin(async move { worker.end(own).await }) as OnStop)
    };
    Ok(Prepared { name, counters, card, begin: Box::pin(begin) })
}

/// Describes an agent's queues: dead letters first, since the others refer to them.
fn queues<A>(
    client: &Client,
    queue: &Name,
    routes: &RouteTable<A>,
    replica: Option<&Name>,
    priorities: Option<Priorities>,
) -> Vec<QueueSpec> {
    let config = client.config();
    let dead_letters = dead_letter_queue(queue);
    let max_length = config.max_queue_length;
    let role = QueueRole::Work { dead_letters: dead_letters.clone(), max_length };
    let mut work =
        QueueSpec::new(queue.clone(), role).priorities(priorities.unwrap_or(config.priorities));
    work.bindings = routes.patterns(Audience::One).cloned().collect();
    let bound = |pattern: &&Pattern| !work.bindings.contains(*pattern);
    work.retired = routes.retired.iter().filter(bound).cloned().collect();
    let mut specs = vec![dead_letter_spec(queue, config), work];
    if let Some(replica) = replica {
        let expires = config.replica_queue_expiry;
        let role = QueueRole::Replica { dead_letters, max_length, expires };
        let mut spec = QueueSpec::new(replica.clone(), role);
        spec.bindings = routes.patterns(Audience::Each).cloned().collect();
        specs.push(spec);
    }
    specs
}

/// Names this replica: eight hexadecimal digits, of which a few thousand replicas hardly collide.
pub(super) fn instance() -> Name {
    let id = Id::new().to_string();
    id[id.len() - 8..].into()
}
