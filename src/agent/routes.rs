//! The route table: which topics an agent listens to and what handles each.

use std::{collections::HashMap, fmt, time::Duration};

use prost::{Message, Name as MessageName};
use serde::de::DeserializeOwned;

use super::{
    binding::{Binding, Bound, OneWay},
    endpoint::{batch_endpoint, endpoint, follow_up_endpoint},
    handler::{FollowUpHandler, Handler},
    invalid_routes::InvalidRoutes,
    route::{Audience, FollowUpRoute, Route, Signature, Target},
    route_table::RouteTable,
};
use crate::{
    contract::{FollowUp, Name, Pattern, PatternTable, full_name},
    message::FromEnvelope,
    retry::RetryPolicy,
};

/// The topics an agent `A` listens to, each with its handler.
///
/// Of several routes that match a message, the first one added handles it. A wrong table (a
/// malformed pattern, one that is routed twice, a topic behind a pattern that takes its messages)
/// is reported when the runtime starts.
///
/// A handler that does not fit its topic does not compile:
///
/// ```compile_fail
/// # use agentbus::{Context, HandlerError, Routes, Rpc};
/// const LENGTH: Rpc<String, u64> = Rpc::new("text.length");
/// struct Scribe;
/// impl Scribe {
///     async fn length(&self, _: bool, _: &Context) -> Result<u64, HandlerError> { Ok(0) }
/// }
/// let routes = Routes::<Scribe>::new().on(LENGTH, Scribe::length);
/// ```
pub struct Routes<A> {
    pub(super) list: Vec<Route<A>>,
    pub(super) follow_ups: HashMap<Name, FollowUpRoute<A>>,
    pub(super) retired: Vec<Pattern>,
    /// What the next setting is about.
    last: Option<Last>,
    /// Fields in which answers may carry their metadata.
    reply_fields: Vec<u32>,
    fault: Option<InvalidRoutes>,
}

/// The route added last.
enum Last {
    Topic(usize),
    FollowUp(Name),
}

impl<A: Send + Sync + 'static> Routes<A> {
    /// Makes an empty table.
    #[must_use]
    pub fn new() -> Self {
        Self {
            list: Vec::new(),
            follow_ups: HashMap::new(),
            retired: Vec::new(),
            last: None,
            reply_fields: Vec::new(),
            fault: None,
        }
    }

    /// Routes messages to a handler: of all replicas of the agent, one gets each message.
    ///
    /// With an [`Rpc`](crate::Rpc), what the handler returns is the reply. Topics and patterns
    /// never reply, whatever the sender asks for. A handler on a pattern decides by its signature
    /// what it takes; `Envelope` takes anything, undecoded.
    ///
    /// A replica handles as many messages at the same time as the configuration's `prefetch`
    /// allows, so handlers may see them in another order than they were published in.
    #[must_use]
    pub fn on<M, R, H>(self, binding: impl Binding<M, R>, handler: H) -> Self
    where
        M: FromEnvelope,
        R: Message + MessageName + 'static,
        H: Handler<A, M, R>,
    {
        let types = (M::message_type(), full_name::<R>());
        self.add(binding.bound(), Audience::One, types, |_| Ok(Target::Single(endpoint(handler))))
    }

    /// Routes messages to a handler in every replica: each gets a copy.
    ///
    /// A replica gets what is published while it runs; its copies wait for it for a minute.
    ///
    /// ```compile_fail
    /// # use agentbus::{Context, HandlerError, Routes, Rpc};
    /// # struct Scribe;
    /// # impl Scribe { async fn length(&self, _: String, _: &Context) -> Result<(), HandlerError> { Ok(()) } }
    /// const LENGTH: Rpc<String, u64> = Rpc::new("text.length");
    /// let routes = Routes::<Scribe>::new().on_each(LENGTH, Scribe::length); // every replica would answer
    /// ```
    #[must_use]
    pub fn on_each<M, H>(self, binding: impl OneWay<M>, handler: H) -> Self
    where
        M: FromEnvelope,
        H: Handler<A, M, ()>,
    {
        let types = (M::message_type(), "");
        self.add(binding.bound(), Audience::Each, types, |_| Ok(Target::Single(endpoint(handler))))
    }

    /// Routes messages to a handler in batches: of `max` messages, or of what came `within` that
    /// time of the first.
    ///
    /// A batch ends as a whole: when the handler fails, each of its messages is retried or
    /// dead-lettered. One that does not decode is dead-lettered alone. Batches of one route are
    /// handled one after the other; within a batch, and from one to the next, messages may be in
    /// another order than they were published in.
    #[must_use]
    pub fn on_batch<M, H>(
        self,
        binding: impl OneWay<M>,
        max: usize,
        within: Duration,
        handler: H,
    ) -> Self
    where
        M: FromEnvelope,
        H: Handler<A, Vec<M>, ()>,
    {
        let types = (M::message_type(), "");
        self.add(binding.bound(), Audience::One, types, |pattern| match max {
            1..=65535 => Ok(Target::Batch { endpoint: batch_endpoint(handler), max, within }),
            _ => Err(InvalidRoutes::Batch { pattern: pattern.clone(), max }),
        })
    }

    /// Routes the answers of a follow-up to a handler; see
    /// [`Context::request_later`](super::Context::request_later).
    #[must_use]
    pub fn on_reply<Req, Res, State, H>(
        mut self,
        follow_up: FollowUp<Req, Res, State>,
        handler: H,
    ) -> Self
    where
        Res: Message + MessageName + Default + 'static,
        State: DeserializeOwned + Send + 'static,
        H: FollowUpHandler<A, Res, State>,
    {
        let name = follow_up.name().clone();
        if let Some(number) = follow_up.rpc().reply_metadata_field()
            && !self.reply_fields.contains(&number)
        {
            self.reply_fields.push(number);
        }
        let endpoint = follow_up_endpoint(follow_up.rpc().name().clone(), handler);
        self.last = Some(Last::FollowUp(name.clone()));
        let route = FollowUpRoute {
            endpoint,
            topic: follow_up.rpc().name().clone(),
            signature: Signature {
                request: None,
                reply: full_name::<Res>(),
                contract: follow_up.rpc().contract(),
            },
            retry: None,
        };
        if self.follow_ups.insert(name.clone(), route).is_some() {
            self.fault.get_or_insert(InvalidRoutes::FollowUpTwice { name });
        }
        self
    }

    /// Sets the retry policy of the route added last, in place of the agent's, the contract's and the
    /// runtime's.
    ///
    /// ```
    /// # use agentbus::{Context, HandlerError, Routes, Topic, retry::RetryPolicy};
    /// # const PAID: Topic<u64> = Topic::new("order.paid");
    /// # const VIEWED: Topic<u64> = Topic::new("order.viewed");
    /// # struct Shop;
    /// # impl Shop {
    /// #     async fn paid(&self, _: u64, _: &Context) -> Result<(), HandlerError> { Ok(()) }
    /// #     async fn viewed(&self, _: u64, _: &Context) -> Result<(), HandlerError> { Ok(()) }
    /// # }
    /// let routes = Routes::<Shop>::new()
    ///     .on(PAID, Shop::paid)
    ///     .retry(RetryPolicy::attempts(20))
    ///     .on(VIEWED, Shop::viewed)
    ///     .retry(RetryPolicy::none());
    /// ```
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        let slot = match &self.last {
            Some(Last::Topic(index)) => self.list.get_mut(*index).map(|route| &mut route.retry),
            Some(Last::FollowUp(name)) => {
                self.follow_ups.get_mut(name).map(|route| &mut route.retry)
            }
            None => None,
        };
        match slot {
            Some(slot) => *slot = Some(policy),
            None => drop(self.fault.get_or_insert(InvalidRoutes::Misplaced { setting: "retry" })),
        }
        self
    }

    /// Keeps messages of the route added last that expire: they become dead letters, kind
    /// `expired`. Without it they are dropped and counted.
    ///
    /// A sender says when a message expires, by
    /// [`expires_after`](crate::PublishOptions::expires_after). That is not a request's deadline:
    /// what comes after its deadline is always dropped, since nobody waits for it.
    #[must_use]
    pub fn keep_expired(mut self) -> Self {
        match self.last {
            Some(Last::Topic(index)) if index < self.list.len() => {
                self.list[index].keep_expired = true;
            }
            _ => {
                let setting = "keep_expired";
                self.fault.get_or_insert(InvalidRoutes::Misplaced { setting });
            }
        }
        self
    }

    /// Unbinds a topic or pattern that an earlier version of the agent listened to.
    ///
    /// What is in the queue already is still delivered, and becomes a dead letter unless a route
    /// matches it.
    #[must_use]
    pub fn retired(mut self, pattern: &'static str) -> Self {
        match Pattern::parse(pattern) {
            Ok(pattern) => self.retired.push(pattern),
            Err(error) => {
                self.fault.get_or_insert(error.into());
            }
        }
        self
    }

    /// Goes through the patterns, in the order they were added.
    pub fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.list.iter().map(|route| &route.pattern)
    }

    fn add(
        mut self,
        bound: Bound,
        audience: Audience,
        (request, reply): (Option<&'static str>, &'static str),
        target: impl FnOnce(&Pattern) -> Result<Target<A>, InvalidRoutes>,
    ) -> Self {
        let added = bound.pattern.map_err(InvalidRoutes::from).and_then(|pattern| {
            let known = |route: &Route<A>| route.pattern == pattern && route.audience == audience;
            if self.list.iter().any(known) {
                return Err(InvalidRoutes::Twice { pattern });
            }
            Ok(Route {
                target: target(&pattern)?,
                pattern,
                audience,
                replies: bound.replies,
                metadata_field: bound.metadata_field,
                reply_metadata_field: bound.reply_metadata_field,
                retry: None,
                contract_retry: bound.retry,
                keep_expired: false,
                signature: Signature {
                    request,
                    reply: if bound.replies { reply } else { "" },
                    contract: bound.contract,
                },
            })
        });
        self.last = Some(Last::Topic(self.list.len()));
        match added {
            Ok(route) => self.list.push(route),
            Err(fault) => {
                self.fault.get_or_insert(fault);
            }
        }
        self
    }

    /// Checks the table and arranges it for look-ups.
    pub(super) fn compile(self) -> Result<RouteTable<A>, InvalidRoutes> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let mut tables = [PatternTable::new(), PatternTable::new()];
        for (index, route) in self.list.iter().enumerate() {
            tables[route.audience as usize].insert(route.pattern.as_str(), index);
        }
        let table = RouteTable {
            routes: self.list,
            follow_ups: self.follow_ups,
            retired: self.retired,
            reply_fields: self.reply_fields,
            tables,
        };
        for (index, route) in table.routes.iter().enumerate() {
            let first = table.find(route.audience, route.pattern.as_str());
            if let Some(earlier) =
                first.filter(|first| *first < index && !route.pattern.has_wildcards())
            {
                let earlier = table.routes[earlier].pattern.clone();
                return Err(InvalidRoutes::Shadowed { pattern: route.pattern.clone(), earlier });
            }
        }
        Ok(table)
    }
}

impl<A: Send + Sync + 'static> Default for Routes<A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A> fmt::Debug for Routes<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list.iter().map(|route| &route.pattern)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Context, HandlerError},
        *,
    };
    use crate::{contract::Topic, message::Envelope};

    struct Scribe;

    impl Scribe {
        async fn any(&self, _: Envelope, _: &Context) -> Result<(), HandlerError> {
            Ok(())
        }
    }

    #[test]
    fn the_first_route_added_wins() {
        let table = Routes::<Scribe>::new()
            .on("price.moved", Scribe::any)
            .on("price.#", Scribe::any)
            .compile()
            .unwrap();
        assert_eq!(table.find(Audience::One, "price.moved"), Some(0));
        assert_eq!(table.find(Audience::Each, "price.moved"), None);
        assert_eq!(table.find(Audience::One, "data.request"), None);
    }

    #[test]
    fn a_wrong_table_is_reported() {
        let twice = Routes::<Scribe>::new().on("a.#", Scribe::any).on("a.#", Scribe::any);
        assert!(matches!(twice.compile().err(), Some(InvalidRoutes::Twice { .. })));
        let shadowed =
            Routes::<Scribe>::new().on("price.#", Scribe::any).on("price.moved", Scribe::any);
        assert!(matches!(shadowed.compile().err(), Some(InvalidRoutes::Shadowed { .. })));
        let malformed = Routes::<Scribe>::new().on("a..b", Scribe::any);
        assert!(matches!(malformed.compile().err(), Some(InvalidRoutes::Pattern(_))));
        let one_and_each =
            Routes::<Scribe>::new().on("a.#", Scribe::any).on_each("a.#", Scribe::any);
        assert!(one_and_each.compile().is_ok());
    }

    #[test]
    fn a_setting_is_about_the_route_before_it() {
        let policy = || RetryPolicy::attempts(7);
        let routes = Routes::<Scribe>::new().on("a", Scribe::any).on("b", Scribe::any);
        let table = routes.retry(policy()).keep_expired().on("c", Scribe::any).compile().unwrap();
        let attempts = |route: &Route<_>| route.retry.as_ref().map(|policy| policy.attempts);
        assert_eq!(table.routes.iter().map(attempts).collect::<Vec<_>>(), [None, Some(7), None]);
        let kept: Vec<_> = table.routes.iter().map(|route| route.keep_expired).collect();
        assert_eq!(kept, [false, true, false]);
        let before = [
            Routes::<Scribe>::new().retry(policy()).on("a", Scribe::any),
            Routes::new().keep_expired().on("a", Scribe::any),
        ];
        for routes in before {
            assert!(matches!(routes.compile().err(), Some(InvalidRoutes::Misplaced { .. })));
        }
    }

    #[test]
    fn a_batch_holds_at_least_one_message() {
        async fn bulk(_: &Scribe, _: Vec<String>, _: &Context) -> Result<(), HandlerError> {
            Ok(())
        }
        const SAID: Topic<String> = Topic::new("text.said");
        let empty = Routes::<Scribe>::new().on_batch(SAID, 0, Duration::from_secs(1), bulk);
        assert!(matches!(empty.compile().err(), Some(InvalidRoutes::Batch { max: 0, .. })));
    }
}
