//! The scripts, each with what it shares with others in front.

use std::sync::LazyLock;

use redis::Script;

/// A script, and its digest, which are made once.
pub(super) type Lua = LazyLock<Script>;

macro_rules! script {
    ($($file:literal),+) => {
        Lua::new(|| Script::new(concat!($(include_str!(concat!("lua/", $file, ".lua"))),+)))
    };
}

pub(super) static PUBLISH: Lua = script!("queue", "publish");
pub(super) static HOLD: Lua = script!("queue", "hold");
pub(super) static TURN: Lua = script!("queue", "leases", "turn");
pub(super) static TICK: Lua = script!("queue", "delete_queue", "tick");
pub(super) static DELIVER: Lua = script!("queue", "deliver");
pub(super) static DECLARE: Lua = script!("queue", "declare");
pub(super) static BINDINGS: Lua = script!("queue", "bindings");
pub(super) static STATS: Lua = script!("queue", "leases", "stats");
pub(super) static PURGE: Lua = script!("queue", "purge");
pub(super) static DELETE: Lua = script!("queue", "delete_queue", "delete");
pub(super) static ASTRAY: Lua = script!("queue", "astray");
pub(super) static RESCUE: Lua = script!("queue", "rescue");
