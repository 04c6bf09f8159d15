//! One suite that holds every backend to the same behaviour.
//!
//! Each case runs against each backend: `cargo test --test conformance memory::` runs one of
//! them. A backend whose engine is not there is skipped, with the reason on standard error.

mod backend;
mod bench;
mod memory;
mod observed;
mod rabbitmq;
#[cfg(feature = "redis")]
mod redis;

/// Makes a test of each case for each backend.
macro_rules! cases {
    ($($case:ident,)*) => {
        mod memory {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    crate::backend::run(crate::memory::start().await, super::$case).await;
                }
            )*
        }
        mod observed {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    crate::backend::run(crate::observed::start().await, super::$case).await;
                }
            )*
        }
        mod rabbitmq {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    crate::backend::run(crate::rabbitmq::start().await, super::$case).await;
                }
            )*
        }
        #[cfg(feature = "redis")]
        mod redis {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    crate::backend::run(crate::redis::start().await, super::$case).await;
                }
            )*
        }
    };
}

mod bodies;
mod close;
mod consume;
mod dead_letters;
mod delays;
mod patterns;
mod priorities;
mod publish;
mod queues;
mod replies;
mod schedules;
mod settle;
