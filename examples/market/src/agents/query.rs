//! The agent that answers questions.

use std::time::Instant;

use agentbus::{Agent, Context, HandlerError, RequestError, Routes, Rpc, message::Code};
use prost::{Message, Name};

use crate::{
    analysis::{Task, WINDOW},
    answer::{Results, Timing},
    prices::Selection,
    proto::{
        AnalysisRequest, Answer, AssetsRequest, Question, SeriesRequest, analysis_agent,
        answer::Outcome, data_agent, query_agent, series_response,
    },
    question::{self, Metric},
    report,
    wire::Malformed,
};

/// The longest question that is read, in bytes.
const LONGEST: usize = 1000;

/// Answers questions: reads them, asks the data agent for prices and the analysis agent for numbers.
#[derive(Debug)]
pub struct Query;

impl Agent for Query {
    fn name(&self) -> &'static str {
        "query"
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(query_agent::ASK, Self::ask)
    }
}

impl Query {
    async fn ask(&self, asked: Question, ctx: &Context) -> Result<Answer, HandlerError> {
        if asked.text.len() > LONGEST {
            let problem = format!("is longer than {LONGEST} bytes: ask a shorter question");
            return Err(Malformed::new("text", problem).refuse());
        }
        let begun = Instant::now();
        let mut others = Others { ctx, timings: Vec::new() };
        let (sentence, outcome) = answer(&asked.text, &mut others).await?;
        let total = Timing {
            agent: self.name().into(),
            topic: query_agent::ASK.name().to_string(),
            took: begun.elapsed(),
        };
        Ok(Answer {
            question: asked.text,
            conversation_id: ctx.conversation_id().map(ToString::to_string).unwrap_or_default(),
            sentence,
            outcome: Some(outcome),
            timings: [total].into_iter().chain(others.timings).map(Into::into).collect(),
        })
    }
}

/// Answers `text`: with a sentence, and with what it rests on.
async fn answer(text: &str, others: &mut Others<'_>) -> Result<(String, Outcome), HandlerError> {
    let available = others.ask("data", data_agent::LIST, &AssetsRequest {}).await?.assets;
    let question = match question::parse(text, &available) {
        Ok(question) => question,
        Err(back) => return Ok((back.question.clone(), Outcome::Clarification(back.into()))),
    };

    let looks_back = question.metrics.contains(&Metric::Anomalies);
    let request = SeriesRequest {
        assets: question.assets,
        span: Some(question.span.into()),
        // Twice the window, as days may be missing.
        lead_in_days: if looks_back { u32::try_from(2 * WINDOW)? } else { 0 },
    };
    let selection: Selection = match others.ask("data", data_agent::FETCH, &request).await?.outcome
    {
        Some(series_response::Outcome::Series(series)) => series.try_into()?,
        Some(series_response::Outcome::Failure(failure)) => {
            return Ok((failure.message.clone(), Outcome::Failure(failure)));
        }
        None => return Err(Malformed::new("outcome", "is not set").into()),
    };

    let task = Task::new(selection.range.days, question.metrics);
    let request = AnalysisRequest::new(selection.series, &task);
    let response = others.ask("analysis", analysis_agent::ANALYSE, &request).await?;
    let (assets, pairs) = response.read()?;
    let results = Results {
        metrics: task.metrics,
        range: selection.range,
        assets,
        pairs,
        provenance: selection.provenance,
    };
    Ok((report::sentence(&results), Outcome::Results(results.into())))
}

/// The agents that are asked for one answer, and how long they took.
struct Others<'a> {
    ctx: &'a Context,
    timings: Vec<Timing>,
}

impl Others<'_> {
    async fn ask<Req, Res>(
        &mut self,
        agent: &str,
        rpc: Rpc<Req, Res>,
        request: &Req,
    ) -> Result<Res, HandlerError>
    where
        Req: Message + Name,
        Res: Message + Name + Default,
    {
        let topic = rpc.name().to_string();
        let begun = Instant::now();
        let response = self.ctx.request(rpc, request).await.map_err(pass_on)?;
        self.timings.push(Timing { agent: agent.into(), topic, took: begun.elapsed() });
        Ok(response)
    }
}

/// Tells the asker at once what trying again does not cure.
fn pass_on(error: RequestError) -> HandlerError {
    match error {
        RequestError::Replied { error, .. } => HandlerError::Reply(error),
        RequestError::NobodyListens { .. } => {
            HandlerError::reply(Code::Unavailable, error.to_string())
        }
        error => error.into(),
    }
}
