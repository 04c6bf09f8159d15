//! Calls a handler without a queue, for tests.

use std::sync::{Arc, atomic::AtomicBool};

use tokio_util::sync::CancellationToken;

use super::{
    Agent, Binding, Context, HandlerError,
    context::Duty,
    conversation::FollowUps,
    route::{Audience, Target},
};
use crate::{
    client::Client,
    contract::Name,
    message::{Envelope, fill_from_body},
    store::MemoryConversations,
};

/// Returns the one topic that a binding names.
///
/// # Errors
///
/// Returns why it does not name one.
pub(crate) fn topic_of<M, R>(binding: impl Binding<M, R>) -> Result<Name, String> {
    match binding.bound().pattern {
        Ok(pattern) if !pattern.has_wildcards() => Ok(pattern.name().clone()),
        Ok(pattern) => Err(format!("`{}` is no topic, since it has wildcards", pattern.as_str())),
        Err(error) => Err(error.to_string()),
    }
}

/// Calls the handler that `agent` has for the envelope's topic, and returns what it returned,
/// encoded.
///
/// # Errors
///
/// Returns why there is no handler to call.
pub(crate) async fn handle_directly<A: Agent>(
    agent: &A,
    client: &Client,
    mut envelope: Envelope,
) -> Result<Result<Envelope, HandlerError>, String> {
    let routes = agent.routes().compile().map_err(|error| error.to_string())?;
    let topic = envelope.topic.clone().ok_or("the message has no topic")?;
    let found = routes.find(Audience::One, &topic).or_else(|| routes.find(Audience::Each, &topic));
    let index = found.ok_or_else(|| format!("it has no route for `{topic}`"))?;
    let route = &routes.routes[index];
    if let Some(number) = route.metadata_field {
        fill_from_body(&mut envelope.metadata, &envelope.payload, number);
    }
    let name = Name::from(agent.name());
    let store = MemoryConversations::new(
        client.config().max_conversations,
        client.config().conversation_ttl,
    );
    let names = routes.follow_ups.keys().cloned().collect();
    let duty = Duty {
        client: client.named(name.clone()),
        follow_ups: Arc::new(FollowUps::new(name.clone(), Arc::new(store), name.clone(), names)),
        agent: name.clone(),
        instance: Name::from_static("direct"),
        stop: CancellationToken::new(),
        hurry: CancellationToken::new(),
        counters: Arc::default(),
    };
    let mut ctx = Context {
        envelope: envelope.into(),
        batch: Vec::new(),
        redelivered: false,
        duty: Arc::new(duty),
        audience: route.audience,
        replies: route.replies,
        begun: AtomicBool::new(true),
    };
    let reply = match &route.target {
        Target::Single(endpoint) => endpoint.call(agent, &ctx).await,
        Target::Batch { endpoint, .. } => match endpoint.decode(&ctx.envelope) {
            Ok(item) => {
                ctx.batch = vec![ctx.envelope.metadata.clone()];
                let handled = endpoint.call(agent, vec![item], &ctx).await;
                return Ok(handled.map(|()| Envelope::encode(&())));
            }
            Err(error) => Err(HandlerError::reject(error)),
        },
    };
    Ok(reply.map(|reply| Envelope::of_type(reply.message_type, reply.payload)))
}
