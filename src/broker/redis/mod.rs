//! Redis, from 6.0 on.
#![allow(dead_code)] // what the backend is built upon comes first

mod call;
mod dial;
mod fault;
mod find;
mod health;
mod link;
mod options;
mod session;
#[cfg(test)]
mod support;
#[cfg(feature = "tls")]
mod tls;
mod transport;
mod wake_up;

pub use self::{
    dial::ConnectError,
    options::{Deployment, Host, RedisOptions},
};
