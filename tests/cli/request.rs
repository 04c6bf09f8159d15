//! `agentbus request`.

use agentbus::{Agent, Code, Context, ErrorReply, HandlerError, Routes, Running, Runtime};

use crate::{
    program::{PROTO, on, run},
    support::{
        bus::Bus,
        messages::{ASK, Answer, Question},
    },
};

/// Answers, or says why not.
struct Oracle(&'static str);

impl Agent for Oracle {
    fn name(&self) -> &str {
        self.0
    }

    fn routes(&self) -> Routes<Self> {
        Routes::new().on(ASK, Self::ask)
    }
}

impl Oracle {
    async fn ask(&self, question: Question, _: &Context) -> Result<Answer, HandlerError> {
        match question.text.as_str() {
            "" => Err(HandlerError::Reply(
                ErrorReply::new(Code::InvalidArgument, "ask\u{1b} something")
                    .with_detail("field", "text"),
            )),
            "nothing" => std::future::pending().await,
            text => Ok(Answer { text: format!("{text}? {}", self.0) }),
        }
    }
}

async fn started(bus: &Bus, names: &[&'static str]) -> Running {
    let mut runtime = Runtime::new(bus.client());
    for name in names {
        bus.queue(name);
        bus.queue(&format!("{name}.dlq"));
        runtime = runtime.agent(Oracle(name));
    }
    runtime.start().await.unwrap()
}

fn ask<'a>(data: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["request", "test.ask", "--proto", PROTO, "--data", data], more].concat()
}

#[tokio::test]
async fn the_reply_is_printed_as_json() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let running = started(&bus, &["oracle"]).await;
    let said = run(on(&bus.config, &ask(r#"{"text": "why"}"#, &["--json"]))).await.with_code(0);
    assert_eq!(said.out, "{\"text\":\"why? oracle\"}\n");
    let said = run(on(&bus.config, &ask(r#"{"text": "why"}"#, &["--headers"]))).await.with_code(0);
    assert!(said.out.contains("test.v1.Answer") && said.out.contains("correlation id"));
    running.stop().await;
}

#[tokio::test]
async fn an_error_in_place_of_the_reply_ends_with_5() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let running = started(&bus, &["oracle"]).await;
    let said = run(on(&bus.config, &ask("{}", &[]))).await.with_code(5);
    assert!(said.err.contains("INVALID_ARGUMENT") && said.err.contains("field: text"), "{said:?}");
    assert!(said.out.is_empty() && !said.err.contains('\u{1b}'), "{said:?}");
    let said = run(on(&bus.config, &ask("{}", &["--json"]))).await.with_code(5);
    assert_eq!(said.json()[0]["error"]["code"], "INVALID_ARGUMENT");
    running.stop().await;
}

#[tokio::test]
async fn silence_and_absence_are_told_apart() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let said = run(on(&bus.config, &ask("{}", &[]))).await.with_code(3);
    assert!(said.err.contains("nobody answers `test.ask`"), "{}", said.err);
    let running = started(&bus, &["oracle"]).await;
    let silent = ask(r#"{"text": "nothing"}"#, &["--timeout", "500ms"]);
    let said = run(on(&bus.config, &silent)).await.with_code(4);
    assert!(said.err.contains("no reply on `test.ask` within 500ms"), "{}", said.err);
    drop(running);
}

#[tokio::test]
async fn many_agents_answer_one_request() {
    let Some(bus) = Bus::rabbitmq().await else { return };
    let running = started(&bus, &["delphi", "dodona"]).await;
    let many = ask(r#"{"text": "why"}"#, &["--json", "--many", "2"]);
    let said = run(on(&bus.config, &many)).await.with_code(0);
    let mut replies: Vec<_> = said.out.lines().collect();
    replies.sort_unstable();
    assert_eq!(replies, ["{\"text\":\"why? delphi\"}", "{\"text\":\"why? dodona\"}"]);
    running.stop().await;
}
