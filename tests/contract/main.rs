//! `agentbus contract` and `agentbus proto`, as they are run: the compiled program, without a bus.

mod changes;
mod docs;
mod export;
mod program;
mod show;
