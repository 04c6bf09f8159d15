//! A Redis: whether it keeps what it was given.

use agentbus::{
    Config,
    broker::{
        Product,
        redis::{Condition, RedisOptions},
    },
    config::RedisUrl,
};

use super::{Check, Verdict};

/// The oldest version that can work.
const OLDEST: (u32, u32) = (6, 2);

const SILENT: &str = "the server does not tell, or this user may not ask (`INFO`, `CONFIG GET`)";

pub(super) async fn checks(config: &Config, url: &RedisUrl) -> Vec<Check> {
    let options = RedisOptions {
        exchange: config.exchange.clone().into(),
        connect_timeout: config.connect_timeout,
        ..RedisOptions::from(url)
    };
    let condition = Condition::examine(&options).await;
    let of = |check: fn(&Condition) -> Verdict| match &condition {
        Ok(condition) => check(condition),
        Err(error) => Verdict::cannot(error.to_string()),
    };
    vec![
        Check::new("version", of(|condition| version(condition.product.as_ref()))),
        Check::new("persistence", of(persistence)),
        Check::new("eviction", of(eviction)),
        Check::new("memory", of(memory)),
        Check::new("replicas", of(replicas)),
    ]
}

fn version(product: Option<&Product>) -> Verdict {
    let Some(product) = product else { return Verdict::cannot(SILENT) };
    let mut numbers = product.version.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < OLDEST => {
            let (major, minor) = OLDEST;
            Verdict::warning(format!("{product}: the bus needs {major}.{minor} or later"))
        }
        (Some(Ok(_)), Some(Ok(_))) => Verdict::ok(product.to_string()),
        _ => Verdict::cannot(format!("the server calls itself {product}")),
    }
}

fn persistence(condition: &Condition) -> Verdict {
    if condition.append_only == Some(false) {
        return Verdict::warning(
            "what was confirmed since the last snapshot is lost when Redis stops or crashes: \
             `appendonly` is `no`; set `appendonly yes` and `appendfsync always`",
        );
    }
    if condition.append_only == Some(true) && condition.append_works == Some(false) {
        return Verdict::warning(
            "Redis cannot write its file, and takes no messages meanwhile: is its disk full? Its log says why",
        );
    }
    match (condition.append_only, condition.append_fsync.as_deref()) {
        (Some(true), Some("always")) => {
            Verdict::ok("what is confirmed is on the disk (`appendfsync always`)")
        }
        (Some(true), Some("everysec")) => Verdict::warning(
            "what was confirmed in the last second is lost when the machine crashes: `appendfsync` is \
             `everysec`; `always` keeps everything",
        ),
        (Some(true), Some(other)) => Verdict::warning(format!(
            "what the system has not written yet, usually up to 30 s, is lost when the machine crashes: \
             `appendfsync` is `{other}`; `always` keeps everything"
        )),
        (Some(true), None) => Verdict::cannot(format!(
            "`appendonly` is `yes`, but how soon it is on the disk (`appendfsync`), {SILENT}"
        )),
        (..) => Verdict::cannot(SILENT),
    }
}

fn eviction(condition: &Condition) -> Verdict {
    let evicted = match condition.evicted {
        None | Some(0) => String::new(),
        Some(keys) => format!("; {keys} keys have gone so since the server started"),
    };
    match (condition.eviction.as_deref(), condition.max_memory) {
        (Some("noeviction"), _) => Verdict::ok("nothing is thrown away (`noeviction`)"),
        (Some(policy), Some(0)) => Verdict::ok(format!(
            "nothing is thrown away as long as `maxmemory` is 0; with another, `maxmemory-policy {policy}` would"
        )),
        (Some(policy), _) => Verdict::warning(format!(
            "when its memory is full, Redis throws messages away and tells nobody: `maxmemory-policy` is \
             `{policy}`; set `noeviction`{evicted}"
        )),
        (None, _) => Verdict::cannot(SILENT),
    }
}

fn memory(condition: &Condition) -> Verdict {
    let (Some(used), Some(most)) = (condition.used_memory, condition.max_memory) else {
        return Verdict::cannot(SILENT);
    };
    let mib = |bytes: u64| format!("{} MiB", bytes.div_ceil(1 << 20));
    if most == 0 {
        return Verdict::ok(format!(
            "{} used, and no `maxmemory`: a backlog may take all that the machine has",
            mib(used)
        ));
    }
    let text = format!("{} of {} used", mib(used), mib(most));
    // Divided first, so that nothing overflows.
    if used >= most / 10 * 8 {
        return Verdict::warning(format!(
            "{text}: when it is full, publishers wait and are then refused; raise `maxmemory`, or let consumers catch up"
        ));
    }
    Verdict::ok(text)
}

fn replicas(condition: &Condition) -> Verdict {
    if condition.is_replica == Some(true) {
        let host = &condition.host;
        return Verdict::warning(format!(
            "{host} is a replica, which takes no messages; name its master"
        ));
    }
    match (condition.replicas, condition.min_replicas) {
        (None, _) => Verdict::cannot(SILENT),
        (Some(there), Some(least)) if there < least => Verdict::warning(format!(
            "{there} follow, and `min-replicas-to-write` is {least}: Redis takes no messages"
        )),
        (Some(0), _) => Verdict::ok("none: what this server has on its disk is all there is"),
        (Some(there), Some(0)) => Verdict::warning(format!(
            "{there} follow, but none has to: what only the master had is lost when one takes its place; \
             set `min-replicas-to-write 1`"
        )),
        (Some(there), Some(least)) => {
            Verdict::ok(format!("{there} follow, and {least} must, so that messages are taken"))
        }
        (Some(there), None) => Verdict::cannot(format!(
            "{there} follow; whether any has to (`min-replicas-to-write`), {SILENT}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn warns(verdict: Verdict, of: &str) {
        let Verdict::Warning(text) = verdict else { panic!("no warning: {verdict:?}") };
        assert!(text.contains(of), "{text}");
    }

    fn with(change: impl FnOnce(&mut Condition)) -> Condition {
        let mut condition = Condition::default();
        change(&mut condition);
        condition
    }

    #[test]
    fn a_server_that_tells_nothing_cannot_be_checked() {
        let silent = Condition::default();
        for check in [persistence, eviction, memory, replicas] {
            assert!(matches!(check(&silent), Verdict::CannotBeChecked(_)));
        }
        assert!(matches!(version(None), Verdict::CannotBeChecked(_)));
    }

    #[test]
    fn versions_are_told_apart() {
        let of = |version: &str| {
            let version = version.to_owned();
            super::version(Some(&Product { name: "Redis".to_owned(), version }))
        };
        assert!(matches!(of("7.0.15"), Verdict::Ok(_)));
        assert!(matches!(of("6.2.0"), Verdict::Ok(_)));
        warns(of("6.0.16"), "6.2 or later");
        assert!(matches!(of("x"), Verdict::CannotBeChecked(_)));
    }

    #[test]
    fn what_may_be_lost_is_said() {
        let written = |fsync: Option<&str>| {
            persistence(&with(|condition| {
                condition.append_only = Some(true);
                condition.append_fsync = fsync.map(str::to_owned);
            }))
        };
        assert!(matches!(written(Some("always")), Verdict::Ok(_)));
        warns(written(Some("everysec")), "last second");
        warns(written(Some("no")), "30 s");
        assert!(matches!(written(None), Verdict::CannotBeChecked(_)));
        warns(persistence(&with(|it| it.append_only = Some(false))), "appendonly yes");
        let failing = with(|it| (it.append_only, it.append_works) = (Some(true), Some(false)));
        warns(persistence(&failing), "disk full");
    }

    #[test]
    fn a_policy_that_throws_messages_away_is_a_warning_where_there_is_a_bound() {
        let of = |policy: &str, most| {
            eviction(&with(|condition| {
                condition.eviction = Some(policy.to_owned());
                condition.max_memory = Some(most);
                condition.evicted = Some(7);
            }))
        };
        assert!(matches!(of("noeviction", 1), Verdict::Ok(_)));
        assert!(matches!(of("allkeys-lru", 0), Verdict::Ok(_)));
        warns(of("allkeys-lru", 1), "`allkeys-lru`");
        warns(of("volatile-ttl", 1), "7 keys");
    }

    #[test]
    fn memory_that_is_nearly_full_is_a_warning() {
        let of = |used: u64, most: u64| {
            memory(&with(|it| {
                (it.used_memory, it.max_memory) = (Some(used << 20), Some(most << 20));
            }))
        };
        assert!(matches!(of(79, 100), Verdict::Ok(_)));
        warns(of(80, 100), "80 MiB of 100 MiB");
        assert!(matches!(of(80, 0), Verdict::Ok(_)));
    }

    #[test]
    fn replicas_that_need_not_follow_are_a_warning() {
        let of =
            |there, least| replicas(&with(|it| (it.replicas, it.min_replicas) = (there, least)));
        assert!(matches!(of(Some(0), Some(0)), Verdict::Ok(_)));
        warns(of(Some(1), Some(0)), "min-replicas-to-write 1");
        assert!(matches!(of(Some(2), Some(1)), Verdict::Ok(_)));
        warns(of(Some(0), Some(1)), "takes no messages");
        assert!(matches!(of(Some(1), None), Verdict::CannotBeChecked(_)));
        warns(replicas(&with(|it| it.is_replica = Some(true))), "name its master");
    }
}
