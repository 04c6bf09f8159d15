//! Agents that stand in for those that are not there.

use std::sync::Arc;

use prost::{Message, Name as MessageName};

use super::bus::TestBus;
use crate::{
    agent::{Agent, Context, HandlerError, Routes, Running},
    contract::{Name, Rpc},
    message::ErrorReply,
};

type Answer<Req, Res> = Arc<dyn Fn(Req) -> Result<Res, ErrorReply> + Send + Sync>;

/// Answers one rpc.
struct StandIn<Req, Res> {
    name: Name,
    rpc: Rpc<Req, Res>,
    answer: Answer<Req, Res>,
}

impl<Req, Res> Agent for StandIn<Req, Res>
where
    Req: Message + MessageName + Default + 'static,
    Res: Message + MessageName + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(self.rpc.clone(), Self::reply)
    }
}

impl<Req, Res> StandIn<Req, Res>
where
    Req: Send + 'static,
    Res: Send + 'static,
{
    async fn reply(&self, request: Req, _: &Context) -> Result<Res, HandlerError> {
        (self.answer)(request).map_err(HandlerError::Reply)
    }
}

impl TestBus {
    /// Answers the requests of an rpc, in place of the agent that would: with a reply, or with an
    /// error. The agent that does it is called `stand-in.{topic}`.
    ///
    /// ```
    /// # use agentbus::{Code, ErrorReply, Rpc, testing::TestBus};
    /// const LENGTH: Rpc<String, u64> = Rpc::new("text.length");
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let bus = TestBus::new();
    /// let scribe = bus.answer(LENGTH, |text| match text.as_str() {
    ///     "" => Err(ErrorReply::new(Code::InvalidArgument, "no text")),
    ///     text => Ok(text.len() as u64),
    /// });
    /// let scribe = scribe.await;
    /// assert_eq!(bus.client().request(LENGTH, &"four".to_owned()).await.unwrap(), 4);
    /// bus.replied(LENGTH).with(|length| *length == 4).once();
    /// scribe.stop().await;
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if it does not start, with the reason.
    #[track_caller]
    pub fn answer<Req, Res, F>(
        &self,
        rpc: Rpc<Req, Res>,
        answer: F,
    ) -> impl Future<Output = Running> + use<Req, Res, F>
    where
        F: Fn(Req) -> Result<Res, ErrorReply> + Send + Sync + 'static,
        Req: Message + MessageName + Default + 'static,
        Res: Message + MessageName + 'static,
    {
        let name = format!("stand-in.{}", rpc.name()).into();
        let agent = StandIn { name, rpc, answer: Arc::new(answer) };
        self.start(|runtime| runtime.agent(agent))
    }
}
