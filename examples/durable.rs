//! A question is asked, all agents are restarted, and the answer finds the state in a SQLite file.
//! Run it with `cargo run -p examples --features sqlite --bin durable`.

use std::{path::Path, sync::Arc};

use agentbus::{
    Agent, Client, Config, Context, FollowUp, HandlerError, Report, RequestError, Routes, Running,
    Runtime, agent::middleware::Deduplicate, store::sqlite::Sqlite,
};
use examples::v1::{
    FindRequest, FindResponse, QuestionAnswered, QuestionAsked,
    news_service::FIND,
    question_service::{ANSWERED, ASKED},
};

const WITH_NEWS: FollowUp<FindRequest, FindResponse, String> = FollowUp::new(FIND, "with-news");

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
        ctx.request_later(WITH_NEWS, &request, &question.subject).await?;
        Ok(())
    }

    async fn with_news(
        &self,
        news: Result<FindResponse, RequestError>,
        subject: String,
        ctx: &Context,
    ) -> Result<(), HandlerError> {
        let text = news.map_or_else(|error| error.to_string(), |news| news.headline);
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
    async fn find(&self, _: FindRequest, _: &Context) -> Result<FindResponse, HandlerError> {
        Ok(FindResponse { headline: "Halving is near".to_owned() })
    }
}

/// Starts the agent that asks, as a new process would: with the file opened anew.
async fn start(client: &Client, path: &Path) -> Result<Running, Report> {
    let file = Sqlite::open(path).await?;
    let runtime = Runtime::new(client.clone())
        .conversations(Arc::new(file.conversations()))
        .layer(Deduplicate::in_store(Arc::new(file.deduplication())));
    Ok(runtime.agent(Query).start().await?)
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let client = Client::connect(Config::load()?).await?;
    let path = std::env::temp_dir().join(format!("durable-{}.db", std::process::id()));
    let mut answers = client.subscribe(ANSWERED).await?;
    // It has a queue from now on, so that it can be asked while it is away.
    Runtime::new(client.clone()).agent(News).start().await?.stop().await;

    let first = start(&client, &path).await?;
    client.publish(ASKED, &QuestionAsked { subject: "zcash".to_owned() }).await?;
    first.stop().await;
    println!("asked; nobody is there now");

    let second = start(&client, &path).await?;
    let news = Runtime::new(client.clone()).agent(News).start().await?;
    if let Some(answer) = answers.next().await {
        println!("{}", answer.ack().text);
    }
    news.stop().await;
    second.shutdown().await;
    Ok(std::fs::remove_file(path)?)
}
