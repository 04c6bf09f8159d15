//! How long handlers may run, against how long the broker lets them.

use std::time::Duration;

use agentbus::Config;

use super::{Check, Verdict};

/// RabbitMQ's `consumer_timeout`, where nobody has set it.
const DEFAULT: Duration = Duration::from_mins(30);

pub(super) fn check(config: &Config, told: Option<Duration>) -> Check {
    Check::new("consumer time-out", verdict(config.handler_timeout, told))
}

fn verdict(handler: Option<Duration>, told: Option<Duration>) -> Verdict {
    let broker = told.unwrap_or(DEFAULT);
    match (handler, told) {
        (Some(handler), _) if handler >= broker => Verdict::warning(format!(
            "`handler_timeout` is {handler:?}, but after {broker:?} the broker takes the message \
             back, and hands it out again; set a shorter one"
        )),
        (Some(handler), Some(_)) => {
            Verdict::ok(format!("`handler_timeout` is {handler:?}, the broker's {broker:?}"))
        }
        (None, Some(_)) => Verdict::warning(format!(
            "no `handler_timeout` is set, and a handler that runs for {broker:?} on a message without a \
             deadline loses it: the broker hands it out again; set a shorter one"
        )),
        (handler, None) => {
            let handler = handler.map_or("not set".to_owned(), |handler| format!("{handler:?}"));
            Verdict::cannot(format!(
                "RabbitMQ does not tell its `consumer_timeout`; give it by `--consumer-timeout`, \
                 {DEFAULT:?} unless it was set; `handler_timeout` is {handler}"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_must_end_before_the_broker_loses_patience() {
        let minutes = |count| Some(Duration::from_mins(count));
        assert!(matches!(verdict(minutes(30), None), Verdict::Warning(_)));
        assert!(matches!(verdict(minutes(5), None), Verdict::CannotBeChecked(_)));
        assert!(matches!(verdict(None, None), Verdict::CannotBeChecked(_)));
        assert!(matches!(verdict(minutes(5), minutes(6)), Verdict::Ok(_)));
        assert!(matches!(verdict(minutes(6), minutes(5)), Verdict::Warning(_)));
        assert!(matches!(verdict(None, minutes(5)), Verdict::Warning(_)));
    }
}
