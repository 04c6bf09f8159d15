//! A request whose answer comes later, to a route of its own, with the state stored meanwhile.
//! Run it with `cargo run -p examples --bin conversation`.

use std::time::Duration;

use agentbus::{
    Agent, Client, Config, Context, FollowUp, HandlerError, Report, RequestError, Routes, Runtime,
    message::Code,
};
use examples::v1::{
    FindRequest, FindResponse, QuestionAnswered, QuestionAsked,
    news_service::FIND,
    question_service::{ANSWERED, ASKED},
};
use serde::{Deserialize, Serialize};

/// What the query agent has to remember of a question. It holds no task while it waits.
#[derive(Serialize, Deserialize)]
struct Pending {
    subject: String,
}

const WITH_NEWS: FollowUp<FindRequest, FindResponse, Pending> = FollowUp::new(FIND, "with-news");

struct Query;

impl Agent for Query {
    fn name(&self) -> &'static str {
        "query"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(ASKED, Self::asked).on_reply(WITH_NEWS, Self::with_news)
    }
}

impl Query {
    async fn asked(&self, question: QuestionAsked, ctx: &Context) -> Result<(), HandlerError> {
        let request = FindRequest { subject: question.subject.clone() };
        ctx.request_later(WITH_NEWS, &request, &Pending { subject: question.subject }).await?;
        Ok(())
    }

    /// Called exactly once for each request: for the reply, the error or the deadline.
    async fn with_news(
        &self,
        news: Result<FindResponse, RequestError>,
        Pending { subject }: Pending,
        ctx: &Context,
    ) -> Result<(), HandlerError> {
        let text = match news {
            Ok(news) => news.headline,
            Err(RequestError::Replied { error, .. }) => error.message,
            Err(error) => error.to_string(),
        };
        ctx.publish(ANSWERED, &QuestionAnswered { text: format!("{subject}: {text}") }).await?;
        Ok(())
    }
}

struct News;

impl Agent for News {
    fn name(&self) -> &'static str {
        "news"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(FIND, Self::find)
    }
}

impl News {
    async fn find(&self, request: FindRequest, _: &Context) -> Result<FindResponse, HandlerError> {
        match request.subject.as_str() {
            "zcash" => Ok(FindResponse { headline: "Halving is near".to_owned() }),
            "tomorrow" => std::future::pending().await, // it ends with the request's deadline
            _ => Err(HandlerError::reply(Code::NotFound, "no news is good news")),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let config = Config::load()?;
    let client = Client::connect(config.with_request_timeout(Duration::from_secs(2))).await?;
    let agents = Runtime::new(client.clone()).agent(Query).agent(News).start().await?;
    let mut answers = client.subscribe(ANSWERED).await?;

    for subject in ["zcash", "tulips", "tomorrow"] {
        client.publish(ASKED, &QuestionAsked { subject: subject.to_owned() }).await?;
        let Some(answer) = answers.next().await else { break };
        println!("{}", answer.ack().text);
    }

    agents.shutdown().await;
    Ok(())
}
