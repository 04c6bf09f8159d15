//! Queues: declared, counted, purged and deleted.

use std::sync::Arc;

use redis::Value;

use super::{
    aside,
    bus::Bus,
    fault::Fault,
    link::Again,
    scripts::{DECLARE, DELETE, PURGE, STATS},
    turn::millis,
};
use crate::{
    broker::{
        QueueError, QueueRole, QueueSpec, QueueStats, TopologyError,
        limits::{Limits, arguments, compare},
    },
    contract::Name,
    message::Priorities,
};

/// What became of a declaration.
enum Declared {
    /// It was made; so much is kept aside.
    Made(u64),
    /// It was there.
    There(u64),
    /// It is there, and is something else.
    Other(String),
    /// It is not there, and is not to be made.
    Missing,
}

impl Bus {
    /// Declares a queue, and remembers it.
    pub(super) async fn declare(self: &Arc<Self>, spec: &QueueSpec) -> Result<(), TopologyError> {
        if self.is_closed() {
            return Err(TopologyError::Closed { queue: spec.name.clone() });
        }
        spec.check_name()?;
        let kept_aside = match self.declare_once(spec, self.options.passive).await? {
            Declared::Made(count) | Declared::There(count) => count,
            Declared::Other(theirs) => return Err(mismatch(spec, &theirs)),
            Declared::Missing => return Err(TopologyError::Missing { name: spec.name.clone() }),
        };
        {
            let mut declared = self.declared();
            let known = declared.entry(spec.name.clone()).or_insert_with(|| spec.clone());
            known.bindings.extend(spec.bindings.iter().cloned());
            known.bindings.retain(|pattern| !spec.retired.contains(pattern));
            known.bindings.sort_unstable();
            known.bindings.dedup();
        }
        if kept_aside > 0 {
            aside::bring_back(self, spec).await;
        }
        Ok(())
    }

    /// Makes a queue of this process's own, which is there for nobody else to make.
    pub(super) async fn make(&self, spec: &QueueSpec) -> Result<(), TopologyError> {
        if let Declared::Other(theirs) = self.declare_once(spec, false).await? {
            return Err(mismatch(spec, &theirs));
        }
        self.declared().insert(spec.name.clone(), spec.clone());
        Ok(())
    }

    /// Declares what was declared before, after it may have been lost.
    pub(super) async fn declare_again(
        self: &Arc<Self>,
        spec: &QueueSpec,
    ) -> Result<(), TopologyError> {
        let is_ours = self.inboxes().contains_key(&spec.name);
        match self.declare_once(spec, self.options.passive && !is_ours).await? {
            Declared::Made(_) => {
                // The replies in it are lost.
                if let Some(losses) = self.inboxes().get(&spec.name) {
                    losses.send_modify(|losses| *losses += 1);
                }
                Ok(())
            }
            Declared::There(_) => Ok(()),
            Declared::Other(theirs) => Err(mismatch(spec, &theirs)),
            Declared::Missing => Err(TopologyError::Missing { name: spec.name.clone() }),
        }
    }

    /// Makes a queue, or, where that is `passive`, looks whether it is there; changes its bindings.
    async fn declare_once(
        &self,
        spec: &QueueSpec,
        passive: bool,
    ) -> Result<Declared, TopologyError> {
        let (fields, arguments) = if passive {
            Default::default()
        } else {
            (fields(spec), arguments(&spec.role, spec.order()))
        };
        let text: Vec<String> =
            arguments.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut call = self.keys.call(&DECLARE);
        call.push(spec.name.as_str()).push(text.join("\n")).push(2 * fields.len());
        for (field, value) in fields {
            call.push(field).push(value);
        }
        call.push(spec.bindings.len());
        for pattern in spec.bindings.iter().chain(&spec.retired) {
            call.push(pattern.as_str());
        }
        let answer = self.link.call_until(self.patience(), Again::Harmless, &call).await;
        let (result, rest): (String, Value) =
            answer.map_err(|fault| topology_error(&spec.name, &fault))?;
        let count = || redis::from_redis_value::<u64>(rest.clone()).unwrap_or_default();
        Ok(match result.as_str() {
            "made" => Declared::Made(count()),
            "there" => Declared::There(count()),
            "missing" => Declared::Missing,
            _ => Declared::Other(redis::from_redis_value(rest).unwrap_or_default()),
        })
    }

    pub(super) async fn stats(&self, queue: &str) -> Result<QueueStats, QueueError> {
        let call = self.keys.call(&STATS).arg(queue);
        let counts: Option<(u64, u64, u32)> = self.ask(queue, &call).await?;
        let (ready, unsettled, consumers) = counts.ok_or_else(|| not_found(queue))?;
        Ok(QueueStats { ready, unsettled: Some(unsettled), consumers })
    }

    pub(super) async fn purge(&self, queue: &str) -> Result<u64, QueueError> {
        let purged: i64 = self.ask(queue, &self.keys.call(&PURGE).arg(queue)).await?;
        u64::try_from(purged).map_err(|_| not_found(queue))
    }

    pub(super) async fn delete(&self, queue: &str) -> Result<(), QueueError> {
        let known = self.declared().remove(queue);
        match self.ask::<i64>(queue, &self.keys.call(&DELETE).arg(queue)).await {
            Ok(_) => {
                let reader = self.readers().get(queue).cloned();
                if let Some(reader) = reader {
                    reader.end();
                }
                Ok(())
            }
            Err(error) => {
                self.declared().extend(known.map(|spec| (spec.name.clone(), spec)));
                Err(error)
            }
        }
    }

    /// Deletes a queue of this process while the bus is being closed.
    pub(super) async fn forget(&self, queue: &str) {
        let call = self.keys.call(&DELETE).arg(queue);
        if let Err(error) = self.link.call::<i64>(self.patience(), &call).await {
            tracing::debug!(queue, %error, "a queue of this process is left to expire");
        }
    }

    async fn ask<T: redis::FromRedisValue>(
        &self,
        queue: &str,
        call: &super::call::Call<'_>,
    ) -> Result<T, QueueError> {
        if self.is_closed() {
            return Err(QueueError::Closed);
        }
        let answer = self.link.call_until(self.patience(), Again::Harmless, call).await;
        answer.map_err(|fault| match fault {
            Fault::Closed => QueueError::Closed,
            Fault::Denied(reason) => QueueError::Denied { queue: queue.to_owned(), reason },
            fault => QueueError::Unavailable { reason: fault.to_string(), source: None },
        })
    }
}

fn not_found(queue: &str) -> QueueError {
    QueueError::NotFound { queue: queue.to_owned() }
}

fn topology_error(queue: &Name, fault: &Fault) -> TopologyError {
    let (queue, reason) = (queue.clone(), fault.to_string());
    match fault {
        Fault::Closed => TopologyError::Closed { queue },
        Fault::Denied(_) => TopologyError::Denied { queue, reason },
        _ => TopologyError::Unavailable { queue, reason, source: None },
    }
}

fn mismatch(spec: &QueueSpec, theirs: &str) -> TopologyError {
    let theirs: Vec<_> = theirs
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let ours = arguments(&spec.role, spec.order());
    let compared = compare(&spec.name, &ours, &theirs);
    compared.err().unwrap_or_else(|| TopologyError::Mismatch {
        queue: spec.name.clone(),
        argument: "arguments".to_owned(),
        ours: format!("{ours:?}"),
        theirs: format!("{theirs:?}"),
    })
}

/// What the scripts need to know of a queue, under the names `lua/queue.lua` and `lua/turn.lua` use.
fn fields(spec: &QueueSpec) -> Vec<(&'static str, String)> {
    let limits = Limits::of(&spec.role);
    let order = match spec.order() {
        Priorities::Off => 0,
        Priorities::Strict => 1,
        Priorities::Lanes => 2,
    };
    let mut fields = vec![("x", limits.max_length.to_string()), ("o", order.to_string())];
    if limits.max_bytes != u64::MAX || limits.drops_oldest || limits.ttl.is_some() {
        fields.push(("k", "1".to_owned()));
        fields.push(("y", limits.max_bytes.to_string()));
    }
    if limits.drops_oldest {
        fields.push(("d", "1".to_owned()));
    }
    fields.extend(limits.dropped.map(|dropped| ("D", dropped.to_string())));
    fields.extend(limits.ttl.map(|ttl| ("t", millis(ttl).to_string())));
    fields.extend(limits.expires.map(|expires| ("e", millis(expires).to_string())));
    if !matches!(spec.role, QueueRole::DeadLetters(_)) {
        fields.push(("f", limits.releases.to_string()));
    }
    fields.extend(limits.dead_letters.map(|dead_letters| ("q", dead_letters.to_string())));
    fields
}
