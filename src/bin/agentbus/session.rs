//! What every command works with.

use agentbus::{
    Client, Config,
    config::{BusUrl, Declare},
};

use crate::{
    cli::{Address, Global},
    contract::{Contract, ContractArgs, described::Described, source::Source},
    exit::Usage,
    output::{self, Output},
    registered,
    stop::Stop,
};

/// The name that messages are sent under.
const SENDER: &str = "agentbus-cli";

/// One run of the command.
pub(crate) struct Session {
    global: Global,
    /// Tells when the user has had enough.
    pub(crate) stop: Stop,
}

impl Session {
    pub(crate) fn new(global: Global, stop: Stop) -> Self {
        Self { global, stop }
    }

    /// Returns where results are written.
    pub(crate) fn output(&self) -> Output {
        Output::new(self.global.json)
    }

    /// Reads the configuration: the file, the environment, and `--bus` over both.
    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        self.config_of(self.global.bus.as_ref(), "--bus")
    }

    /// Reads the configuration with the bus that an option names, if it names one.
    fn config_of(&self, bus: Option<&Address>, option: &str) -> anyhow::Result<Config> {
        let bus = bus.map(|bus| bus.text().trim());
        let bus = bus.filter(|text| !text.is_empty()).map(str::parse::<BusUrl>).transpose();
        let bus =
            bus.map_err(|error| Usage(format!("`{option}` is not the address of a bus: {error}")))?;
        Ok(Config::load_with(self.global.config.as_deref(), bus)?)
    }

    /// Whether the command line names the bus.
    pub(crate) fn names_bus(&self) -> bool {
        self.global.bus.is_some()
    }

    /// Makes sure of what cannot be undone; see [`output::confirm`].
    pub(crate) async fn confirm(&self, question: String, yes: bool) -> anyhow::Result<()> {
        // Elsewhere, so that Ctrl-C is an answer, too.
        let asked = tokio::task::spawn_blocking(move || output::confirm(&question, yes));
        self.stop.or(asked).await??
    }

    /// Connects to the bus.
    ///
    /// An embedded bus is an error: it lies within another process, so that this one would see an
    /// empty one of its own.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        self.connect(self.config()?).await
    }

    /// Connects to a bus where nothing is to be made, not even an exchange.
    pub(crate) async fn observer(&self) -> anyhow::Result<Client> {
        let mut config = self.config()?;
        config.declare = Declare::Passive;
        self.connect(config).await
    }

    /// As [`client`](Self::client), to the bus that an option names.
    pub(crate) async fn client_of(&self, bus: &Address, option: &str) -> anyhow::Result<Client> {
        self.connect(self.config_of(Some(bus), option)?).await
    }

    /// As [`observer`](Self::observer), at the bus that an option names.
    pub(crate) async fn observer_of(&self, bus: &Address, option: &str) -> anyhow::Result<Client> {
        let mut config = self.config_of(Some(bus), option)?;
        config.declare = Declare::Passive;
        self.connect(config).await
    }

    async fn connect(&self, config: Config) -> anyhow::Result<Client> {
        if let BusUrl::Memory { .. } = config.bus {
            let text = "no bus is named, and the embedded bus lives within one process; name one \
                        by `--bus amqp://host/vhost` or `AGENTBUS_URL`";
            return Err(Usage(text.to_owned()).into());
        }
        let client = self.stop.or(Client::connect(config)).await??;
        Ok(client.named(SENDER))
    }

    /// Returns what the command line says of the contract.
    pub(crate) fn contract_args(&self) -> &ContractArgs {
        &self.global.contract
    }

    /// Asks a running agent for its contracts.
    pub(crate) async fn registered(&self, agent: &str) -> anyhow::Result<Vec<Source>> {
        let client = self.observer().await?;
        let sets = self.stop.or(registered::of_agent(&client, agent)).await?;
        client.close().await;
        let source =
            |descriptor_set| Source::Registered { agent: agent.to_owned(), descriptor_set };
        Ok(sets?.into_iter().map(source).collect())
    }

    /// Finds everything that the contract is to be read from; asks the agents that are to tell
    /// theirs.
    async fn sources(&self) -> anyhow::Result<Vec<Source>> {
        let mut sources = self.global.contract.sources()?;
        for agent in self.global.contract.agents() {
            sources.extend(self.registered(agent).await?);
        }
        Ok(sources)
    }

    /// Reads the contract with the places and comments of its parts; one has to be named.
    pub(crate) async fn described(&self) -> anyhow::Result<Described> {
        let sources = self.sources().await?;
        if sources.is_empty() {
            let text = "no contract is named: name it by `--proto FILE`, `--descriptor-set FILE` or \
                        `--from-agent NAME`";
            return Err(Usage(text.to_owned()).into());
        }
        Described::read_all(sources)
    }

    /// Reads the contract that bodies are written and read by.
    pub(crate) async fn contract(&self) -> anyhow::Result<Contract> {
        Contract::load(&self.sources().await?)
    }
}
