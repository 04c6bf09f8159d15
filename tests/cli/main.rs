//! The command line, as it is run: the compiled program on a real RabbitMQ.

mod agents;
mod dead_letters;
mod doctor;
mod management;
mod moving;
mod program;
mod publish;
mod queues;
mod request;
#[path = "../support/mod.rs"]
mod support;
mod tail;
mod usage;
