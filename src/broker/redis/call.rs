//! One call of a script.

use redis::{Cmd, Script, ToRedisArgs};

/// A script with its keys and arguments, to be sent once or more often.
///
/// ```ignore
/// let call = Call::new(&PUBLISH, &[&options.key("epoch")]).arg(epoch).arg(&body[..]);
/// let answer: (i64, String) = link.call(limit, &call).await?;
/// ```
pub(super) struct Call<'a> {
    script: &'a Script,
    command: Cmd,
}

impl<'a> Call<'a> {
    /// Begins a call; all keys must have the hash tag of the bus.
    pub(super) fn new<K: AsRef<str>>(script: &'a Script, keys: &[K]) -> Self {
        let mut command = redis::cmd("EVALSHA");
        command.arg(script.get_hash()).arg(keys.len());
        for key in keys {
            command.arg(key.as_ref());
        }
        Self { script, command }
    }

    /// Adds an argument.
    pub(super) fn arg(mut self, argument: impl ToRedisArgs) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds an argument to a call that is kept.
    pub(super) fn push(&mut self, argument: impl ToRedisArgs) -> &mut Self {
        self.command.arg(argument);
        self
    }

    pub(super) fn script(&self) -> &Script {
        self.script
    }

    pub(super) fn command(&self) -> &Cmd {
        &self.command
    }
}
