//! One suite that holds every store to the same behaviour, and what is each one's own.

mod backend;
mod conversations;
mod deduplication;
#[path = "../support/rabbitmq/port.rs"]
#[allow(dead_code, unreachable_pub, missing_docs)]
mod port;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;

/// Makes a test of each case for each store.
macro_rules! cases {
    ($($case:ident,)*) => {
        mod memory {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case(crate::backend::Place::Memory).await;
                }
            )*
        }
        #[cfg(feature = "sqlite")]
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case(crate::sqlite::place().await).await;
                }
            )*
        }
        #[cfg(feature = "redis")]
        mod redis {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let Some(place) = crate::redis::place().await else { return };
                    super::$case(place).await;
                }
            )*
        }
    };
}
pub(crate) use cases;
