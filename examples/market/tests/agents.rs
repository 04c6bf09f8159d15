//! The agents answer whoever asks them, and refuse what makes no sense.

use agentbus::{
    Client, RequestError, Running, Runtime,
    broker::memory::Memory,
    message::{Code, ErrorReply},
};
use market::{
    agents::{Analysis, Data, Query},
    prices::Prices,
    proto::{
        AnalysisRequest, AssetsRequest, CountedBack, Question, SeriesFailureKind, SeriesRequest,
        Span, analysis_agent, data_agent, query_agent, series_response::Outcome, span,
    },
};

async fn all() -> Running {
    let runtime = Runtime::new(Client::new(Memory::default()));
    let data = Data::new(Prices::new(Vec::new()));
    runtime.agent(Query).agent(data).agent(Analysis).start().await.expect("the agents start")
}

/// What the asker was told instead of an answer.
fn refusal<T: std::fmt::Debug>(answer: Result<T, RequestError>) -> ErrorReply {
    let error = answer.expect_err("a refusal");
    error.reply().unwrap_or_else(|| panic!("{error}")).clone()
}

#[tokio::test]
async fn the_data_agent_lists_what_there_is_and_says_what_is_missing() {
    let agents = all().await;
    let client = agents.client();
    let listed = client.request(data_agent::LIST, &AssetsRequest {}).await.expect("a list");
    assert_eq!(listed.assets, ["BTC", "ETH", "ZEC"]);

    let request = SeriesRequest { assets: vec!["DOGE".into(), "ZEC".into()], ..Default::default() };
    let response = client.request(data_agent::FETCH, &request).await.expect("an answer");
    let Some(Outcome::Failure(failure)) = response.outcome else { panic!("{response:?}") };
    assert_eq!(failure.kind(), SeriesFailureKind::MissingAsset);
    assert_eq!((failure.missing, failure.available), (vec!["DOGE".into()], listed.assets));
    agents.stop().await;
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_refused_at_once() {
    let agents = all().await;
    let client = agents.client();
    let kind = span::Kind::Last(CountedBack { count: 3, unit: 99 });
    let assets = vec!["ZEC".into()];
    let strange =
        SeriesRequest { assets, span: Some(Span { kind: Some(kind) }), ..Default::default() };
    for (refusal, field) in [
        (
            refusal(client.request(data_agent::FETCH, &SeriesRequest::default()).await),
            "`assets` is empty",
        ),
        (refusal(client.request(data_agent::FETCH, &strange).await), "`unit` has the value 99"),
        (
            refusal(client.request(analysis_agent::ANALYSE, &AnalysisRequest::default()).await),
            "`series` is empty",
        ),
    ] {
        assert_eq!(refusal.code, Code::InvalidArgument, "{refusal}");
        assert!(refusal.message.starts_with(field), "{refusal}");
    }
    agents.stop().await;
}

#[tokio::test]
async fn without_the_data_agent_the_asker_is_told_at_once() {
    let runtime = Runtime::new(Client::new(Memory::default()));
    let agents = runtime.agent(Query).start().await.expect("the agent starts");
    let question = Question { text: "ZEC".into() };
    let refusal = refusal(agents.client().request(query_agent::ASK, &question).await);
    assert_eq!(refusal.code, Code::Unavailable);
    assert!(refusal.message.starts_with("nobody answers `data.assets`"), "{refusal}");
    agents.stop().await;
}
