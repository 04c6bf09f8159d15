//! The checked table of an agent's routes.

use std::collections::HashMap;

use super::route::{Audience, FollowUpRoute, Route, Target};
use crate::{
    contract::{Name, Pattern, PatternTable, is_reserved},
    retry::RetryPolicy,
};

/// A checked table.
pub(super) struct RouteTable<A> {
    pub(super) routes: Vec<Route<A>>,
    pub(super) follow_ups: HashMap<Name, FollowUpRoute<A>>,
    pub(super) retired: Vec<Pattern>,
    pub(super) reply_fields: Vec<u32>,
    /// By audience; values are indices into `routes`.
    pub(super) tables: [PatternTable<usize>; 2],
}

impl<A> RouteTable<A> {
    /// Gives routes without a policy of their own the one their contract states, unless the agent has
    /// one, and returns what all others go by.
    pub(super) fn settle_retries(
        &mut self,
        agent: Option<RetryPolicy>,
        runtime: RetryPolicy,
        jitter: bool,
    ) -> RetryPolicy {
        if agent.is_none() {
            for route in &mut self.routes {
                route.retry = route.retry.take().or_else(|| route.contract_retry.take());
            }
        }
        let retry = agent.unwrap_or(runtime);
        if jitter {
            return retry;
        }
        self.without_jitter();
        retry.without_jitter()
    }

    /// Leaves the jitter out of the routes' own policies.
    fn without_jitter(&mut self) {
        let follow_ups = self.follow_ups.values_mut().map(|route| &mut route.retry);
        for retry in self.routes.iter_mut().map(|route| &mut route.retry).chain(follow_ups) {
            *retry = retry.take().map(RetryPolicy::without_jitter);
        }
    }

    /// Finds the first route added that matches. A reserved topic is for routes that name it only.
    pub(super) fn find(&self, audience: Audience, topic: &str) -> Option<usize> {
        let mut first = None;
        let reserved = is_reserved(topic);
        self.tables[audience as usize].for_each_match(topic, |&index| {
            if !reserved || is_reserved(self.routes[index].pattern.as_str()) {
                first = Some(first.map_or(index, |first: usize| first.min(index)));
            }
        });
        first
    }

    /// Tells whether a topic is reserved and came along only because of a wildcard.
    pub(super) fn passes_over(&self, audience: Audience, topic: &str) -> bool {
        is_reserved(topic)
            && self.find(audience, topic).is_none()
            && self.tables[audience as usize].is_match(topic)
    }

    /// Goes through the patterns for one audience.
    pub(super) fn patterns(&self, audience: Audience) -> impl Iterator<Item = &Pattern> {
        let routes = self.routes.iter().filter(move |route| route.audience == audience);
        routes.map(|route| &route.pattern)
    }

    /// Tells how many messages the largest batch takes.
    pub(super) fn largest_batch(&self) -> usize {
        let batch = |route: &Route<A>| match route.target {
            Target::Batch { max, .. } => max,
            Target::Single(_) => 1,
        };
        self.routes.iter().map(batch).max().unwrap_or(1)
    }
}
