//! What is measured: the systems, the workloads, and how much of each.

use std::{fmt, str::FromStr};

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// agentbus on RabbitMQ.
    Agentbus,
    /// lapin, with the same bytes, window and queue as ours, and `multiple` acks.
    Lapin,
    /// The same with one ack a message.
    LapinEachAck,
    /// The first with only what the broker needs to keep a message.
    LapinMinimal,
    /// agentbus on the embedded bus.
    Embedded,
    /// A bounded channel of encoded messages, decoded at its end; with a `oneshot` for replies.
    Channel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    RabbitMq,
    Memory,
    Channel,
}

impl System {
    pub const ALL: [Self; 6] = [
        Self::Agentbus,
        Self::Lapin,
        Self::LapinEachAck,
        Self::LapinMinimal,
        Self::Embedded,
        Self::Channel,
    ];

    pub fn engine(self) -> Engine {
        match self {
            Self::Agentbus | Self::Lapin | Self::LapinEachAck | Self::LapinMinimal => {
                Engine::RabbitMq
            }
            Self::Embedded => Engine::Memory,
            Self::Channel => Engine::Channel,
        }
    }

    pub fn is_ours(self) -> bool {
        matches!(self, Self::Agentbus | Self::Embedded)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Agentbus => "agentbus",
            Self::Lapin => "lapin",
            Self::LapinEachAck => "lapin-each-ack",
            Self::LapinMinimal => "lapin-minimal",
            Self::Embedded => "embedded",
            Self::Channel => "channel",
        }
    }
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Publishing, each message confirmed.
    Publish,
    /// Handling what waits in a queue.
    Handle,
    /// Both at once.
    Pipe,
    /// Asking, so many at a time.
    Request { in_flight: usize },
    /// Each message to so many agents.
    Fanout { agents: usize },
    /// Messages in turn to so many agents.
    Agents { agents: usize },
}

/// What is done, with how many messages of which size.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    pub name: &'static str,
    pub kind: Kind,
    /// Bytes of a message's body.
    pub body: usize,
    /// Messages on a server, and in one process.
    counts: (usize, usize),
    queue: QueueKind,
    /// Only measured when it is asked for by name.
    pub long: bool,
}

/// Which queues are used on RabbitMQ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueKind {
    Quorum,
    Classic,
}

const BODY: usize = 256;

const fn workload(name: &'static str, kind: Kind, counts: (usize, usize)) -> Workload {
    Workload { name, kind, body: BODY, counts, queue: QueueKind::Quorum, long: false }
}

const fn body(name: &'static str, body: usize, counts: (usize, usize)) -> Workload {
    Workload { body, ..workload(name, Kind::Pipe, counts) }
}

pub const WORKLOADS: [Workload; 15] = [
    workload("publish", Kind::Publish, (40_000, 400_000)),
    workload("handle", Kind::Handle, (40_000, 400_000)),
    workload("pipe", Kind::Pipe, (40_000, 400_000)),
    workload("request-1", Kind::Request { in_flight: 1 }, (3_000, 50_000)),
    workload("request-64", Kind::Request { in_flight: 64 }, (20_000, 200_000)),
    workload("fanout-10", Kind::Fanout { agents: 10 }, (4_000, 40_000)),
    body("body-1k", 1 << 10, (30_000, 200_000)),
    body("body-64k", 1 << 16, (2_000, 20_000)),
    body("body-1m", 1 << 20, (150, 1_000)),
    workload("agents-1", Kind::Agents { agents: 1 }, (30_000, 300_000)),
    workload("agents-10", Kind::Agents { agents: 10 }, (30_000, 300_000)),
    workload("agents-100", Kind::Agents { agents: 100 }, (30_000, 300_000)),
    Workload {
        long: true,
        ..workload("agents-1000", Kind::Agents { agents: 1000 }, (30_000, 300_000))
    },
    Workload { queue: QueueKind::Classic, ..workload("handle-classic", Kind::Handle, (40_000, 0)) },
    Workload { long: true, ..workload("backlog", Kind::Handle, (1_000_000, 900_000)) },
];

impl Workload {
    /// Returns which systems can do it; the second and those after it are what ours is compared to.
    pub fn contests(&self) -> Vec<Vec<System>> {
        use System::{Agentbus, Channel, Embedded, Lapin, LapinEachAck, LapinMinimal};
        let on_rabbitmq = match self.kind {
            _ if self.queue == QueueKind::Classic => vec![Lapin, LapinEachAck],
            Kind::Publish => vec![Agentbus, Lapin, LapinMinimal],
            Kind::Handle => vec![Agentbus, Lapin, LapinEachAck],
            Kind::Pipe => vec![Agentbus, Lapin, LapinEachAck, LapinMinimal],
            Kind::Request { .. } | Kind::Fanout { .. } | Kind::Agents { .. } => {
                vec![Agentbus, Lapin]
            }
        };
        let in_process = match self.kind {
            // The embedded bus has no backlog that is not this process's memory.
            _ if self.queue == QueueKind::Classic => vec![],
            Kind::Publish | Kind::Handle => vec![Embedded],
            _ => vec![Embedded, Channel],
        };
        [on_rabbitmq, in_process].into_iter().filter(|systems| !systems.is_empty()).collect()
    }
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub system: System,
    pub workload: Workload,
    /// How many messages.
    pub count: usize,
}

impl Run {
    /// `scale` is a hundred for as much as is usual.
    pub fn new(system: System, workload: Workload, scale: usize) -> Self {
        let (on_server, in_process) = workload.counts;
        let count = if system.engine() == Engine::RabbitMq { on_server } else { in_process };
        let granule = match workload.kind {
            Kind::Agents { agents } => agents,
            Kind::Request { in_flight } => in_flight,
            _ => 1,
        };
        let count = (count * scale / 100).max(granule).next_multiple_of(granule);
        Self { system, workload, count }
    }

    pub fn queue(&self) -> QueueKind {
        self.workload.queue
    }
}

/// The words by which a process is told what to measure.
impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.system.name(), self.workload.name, self.count)
    }
}

impl FromStr for Run {
    type Err = String;

    fn from_str(words: &str) -> Result<Self, String> {
        let words: Vec<_> = words.split(' ').collect();
        let [system, workload, count] = words[..] else {
            return Err(format!("`{words:?}` are not a system, a workload and a number"));
        };
        let system = System::ALL.into_iter().find(|known| known.name() == system);
        let workload = WORKLOADS.into_iter().find(|known| known.name == workload);
        Ok(Self {
            system: system.ok_or("no such system")?,
            workload: workload.ok_or("no such workload")?,
            count: count.parse().map_err(|error| format!("`{count}`: {error}"))?,
        })
    }
}
