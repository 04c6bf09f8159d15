//! The broker's nodes that inboxes are known to live on.
//!
//! An inbox's address names a node by a number. RabbitMQ 3.10 closes the connection of whoever
//! replies to a number that is no node's, and nothing but the broker knows which are. So the first
//! reply to each number is tried out on a connection of its own, with a key that reaches nobody.

use std::collections::HashMap;

use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::ShortString,
};
use tokio::sync::Mutex;

use super::{
    ConnectionPool,
    fault::{Fault, within},
    pool::Role,
    reply_address::InboxAddress,
};

/// How many numbers are remembered. A cluster has few; more are forged.
const MOST: usize = 1024;

/// What is known of each number.
#[derive(Debug, Default)]
pub(super) struct ReplyNodes {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Connection on which this was learned: another may be to another cluster.
    connection: u64,
    nodes: HashMap<String, bool>,
}

impl ReplyNodes {
    /// Tells whether a reply to `address` does the connection no harm.
    ///
    /// # Errors
    ///
    /// Returns why that cannot be found out.
    pub(super) async fn vouch(
        &self,
        address: &InboxAddress,
        connection: u64,
        pool: &ConnectionPool,
    ) -> Result<bool, Fault> {
        // Held while trying, so that a flood of forged addresses opens one connection at a time.
        let mut known = self.known.lock().await;
        if known.connection != connection {
            *known = Known { connection, nodes: HashMap::new() };
        }
        if let Some(node) = known.nodes.get(address.node()) {
            return Ok(*node);
        }
        let good = try_out(address, pool).await?;
        if known.nodes.len() >= MOST {
            known.nodes.retain(|_, good| *good);
        }
        known.nodes.insert(address.node().to_owned(), good);
        Ok(good)
    }
}

async fn try_out(address: &InboxAddress, pool: &ConnectionPool) -> Result<bool, Fault> {
    let limit = pool.operation_timeout();
    let connection = pool.get(Role::Publish, limit).await;
    let (connection, _) = connection.map_err(|error| Fault::Disconnected(error.to_string()))?;
    let channel = within(limit, connection.create_channel()).await?;
    within(limit, channel.confirm_select(ConfirmSelectOptions::default())).await?;
    let published = async {
        let options = BasicPublishOptions::default();
        let properties = BasicProperties::default();
        let key = ShortString::from(address.to_nobody());
        channel.basic_publish(ShortString::from(""), key, options, &[], properties).await?.await
    };
    match within(limit, published).await {
        Ok(_) => {
            drop(within(limit, connection.close(200, ShortString::from("done"))).await);
            Ok(true)
        }
        Err(fault) if fault.code() == Some(541) => Ok(false),
        Err(fault) => Err(fault),
    }
}
