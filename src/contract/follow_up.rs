//! Follow-ups: what happens once a request is answered, by name.

use std::{fmt, marker::PhantomData};

use super::{Name, Rpc};

/// A request whose answer comes to a route of the asking agent, with the state it stored.
///
/// The name identifies the route across restarts, so that it stays the same while the code around
/// it changes. `State` is any serde type; it is stored as JSON.
///
/// ```
/// # use agentbus::{FollowUp, Rpc};
/// # #[derive(serde::Serialize, serde::Deserialize)] struct Pending;
/// const NEWS: Rpc<(), ()> = Rpc::new("news.request");
/// const WITH_NEWS: FollowUp<(), (), Pending> = FollowUp::new(NEWS, "with-news");
/// ```
pub struct FollowUp<Req, Res, State> {
    rpc: Rpc<Req, Res>,
    name: Name,
    state: PhantomData<fn() -> State>,
}

impl<Req, Res, State> FollowUp<Req, Res, State> {
    /// Names what follows the answer to `rpc`.
    ///
    /// # Panics
    ///
    /// Panics, at compile time in a `const`, if `name` is empty.
    #[must_use]
    #[track_caller]
    pub const fn new(rpc: Rpc<Req, Res>, name: &'static str) -> Self {
        assert!(!name.is_empty(), "a follow-up has a name");
        Self { rpc, name: Name::from_static(name), state: PhantomData }
    }

    /// Returns the request.
    #[must_use]
    pub fn rpc(&self) -> &Rpc<Req, Res> {
        &self.rpc
    }

    /// Returns the follow-up's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }
}

impl<Req, Res, State> Clone for FollowUp<Req, Res, State> {
    fn clone(&self) -> Self {
        Self { rpc: self.rpc.clone(), name: self.name.clone(), state: PhantomData }
    }
}

impl<Req, Res, State> fmt::Debug for FollowUp<Req, Res, State> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FollowUp").field("name", &self.name).field("rpc", &self.rpc).finish()
    }
}
