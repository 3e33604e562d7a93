//! The stage: a chain, four daemons, coins and channels.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ::devnet::Devnet;
use daemon::config::{self, Config};
use daemon::{Daemon, Running};
use keys::Seed;
use node::{ChannelState, Node, NodeError, NodeInfo, OpenChannel, PeerAddress};
use tokio::time::{Instant, sleep};
use units::{Height, Msat, Sat};

use crate::failure::Failure;
use crate::show::Show;

/// How often the chain is looked at: blocks come when the story wants them.
const POLL_MS: u64 = 50;
/// Nothing in the story takes longer than this.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often something awaited is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Coins for each trader.
const COINS: Sat = Sat(5_000_000);
/// Size of each trader's channel, and the part of it that starts on the board's side.
const CHANNEL: Sat = Sat(4_000_000);
const PUSHED: Msat = Msat(1_500_000_000);
/// Blocks that make a channel usable.
const CONFIRMATIONS: u32 = 6;

/// One participant.
pub(super) struct Actor {
    pub name: &'static str,
    daemon: Daemon,
}

impl Actor {
    /// What the actor can do.
    pub(super) fn desk(&self) -> &Arc<Running> {
        self.daemon.running()
    }

    /// The actor's Lightning node.
    pub(super) fn node(&self) -> Result<&Arc<dyn Node>, Failure> {
        self.desk().node().ok_or_else(|| Failure::fault(format!("{} has no node", self.name)))
    }
}

/// Everybody, and the chain they stand on.
pub(super) struct Stage {
    pub chain: Devnet,
    pub board: Actor,
    pub seller: Actor,
    pub buyer: Actor,
    pub arbiter: Actor,
}

impl Stage {
    /// Starts everything in `dir`: daemons, coins, and a channel from each trader to the board, which forwards between them.
    pub(super) async fn build(dir: &Path, show: &Show) -> Result<Stage, Failure> {
        say(show, None, "A regtest chain, with real blocks and Bitcoin's own script checks")?;
        let chain = Devnet::start(::devnet::Config::default()).await.map_err(|e| Failure::fault(e.to_string()))?;
        let password = dir.join("rpc-password");
        std::fs::write(&password, chain.rpc_password())?;
        say(
            show,
            Some(chain.height()),
            "A board, a seller, a buyer and an arbiter, each with a Lightning node of its own",
        )?;
        let board = start("board", dir, board_config(&chain, &password)).await?;
        let trader = trader_config(&chain, &password, board.desk().board_url());
        let (seller, buyer, arbiter) = tokio::try_join!(
            start("seller", dir, trader.clone()),
            start("buyer", dir, trader.clone()),
            start("arbiter", dir, arbiter_config(trader.clone())),
        )?;
        let stage = Stage { chain, board, seller, buyer, arbiter };
        stage.fund(show).await?;
        stage.connect(show).await?;
        Ok(stage)
    }

    /// All participants.
    pub(super) fn actors(&self) -> [&Actor; 4] {
        [&self.board, &self.seller, &self.buyer, &self.arbiter]
    }

    /// Their names, which are also the names of their data directories.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.actors().into_iter().map(|actor| actor.name)
    }

    /// Mines, and waits until every node has seen the last block.
    pub(super) async fn mine(&self, blocks: u32) -> Result<(), Failure> {
        self.chain.mine(blocks).await.map_err(|e| Failure::fault(e.to_string()))?;
        let tip = self.chain.height();
        for actor in self.actors() {
            until(actor.name, "sees the new blocks", async || Ok(info(actor).await?.height >= tip)).await?;
        }
        Ok(())
    }

    async fn fund(&self, show: &Show) -> Result<(), Failure> {
        for actor in [&self.board, &self.seller, &self.buyer] {
            let text = actor.node()?.new_address().await.map_err(|e| node_failure(actor, &e))?;
            let address = bitcoin::Address::from_str(&text)
                .map_err(|e| Failure::fault(e.to_string()))?
                .require_network(bitcoin::Network::Regtest)
                .map_err(|e| Failure::fault(e.to_string()))?;
            self.chain.fund(&address, COINS).await.map_err(|e| Failure::fault(e.to_string()))?;
        }
        self.mine(1).await?;
        for actor in [&self.board, &self.seller, &self.buyer] {
            until(actor.name, "has its coins", async || Ok(balances(actor).await?.onchain >= COINS)).await?;
        }
        say(show, Some(self.chain.height()), &format!("Board, seller and buyer have {COINS} sat each"))
    }

    async fn connect(&self, show: &Show) -> Result<(), Failure> {
        let hub = info(&self.board).await?;
        let address =
            hub.addresses.first().cloned().ok_or_else(|| Failure::fault("the board's node listens nowhere"))?;
        for actor in [&self.seller, &self.buyer] {
            let node = actor.node()?;
            let peer = PeerAddress { node_id: hub.node_id.clone(), address: address.clone() };
            node.connect_peer(peer).await.map_err(|e| node_failure(actor, &e))?;
            let request = OpenChannel { peer: hub.node_id.clone(), capacity: CHANNEL, push: PUSHED, announced: false };
            node.open_channel(request).await.map_err(|e| node_failure(actor, &e))?;
        }
        let funded = async || {
            let waiting = self.chain.mempool().await.map_err(|e| Failure::fault(e.to_string()))?;
            Ok(waiting.len() >= 2)
        };
        until("the chain", "has both funding transactions", funded).await?;
        self.mine(CONFIRMATIONS).await?;
        for (actor, channels) in [(&self.seller, 1), (&self.buyer, 1), (&self.board, 2)] {
            until(actor.name, "can use its channels", async || Ok(usable(actor).await? == channels)).await?;
        }
        let text = "Seller and buyer each have a channel to the board's node, which forwards between them";
        say(show, Some(self.chain.height()), text)
    }

    /// Stops everything in order.
    pub(super) async fn close(self) {
        for actor in [self.seller, self.buyer, self.arbiter, self.board] {
            actor.daemon.shutdown().await;
        }
        self.chain.shutdown().await;
    }
}

/// A step of the story, with the height at which it happens.
pub(super) fn say(show: &Show, height: Option<Height>, text: &str) -> Result<(), Failure> {
    if show.json {
        return Ok(());
    }
    let height = height.map_or(String::new(), |height| height.to_string());
    show.line(&format!("{height:>6}  {text}"))
}

/// Waits until `is_so`; fails, naming who and what, when it takes too long.
pub(super) async fn until(
    who: &str,
    what: &str,
    mut is_so: impl AsyncFnMut() -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let began = Instant::now();
    while !is_so().await? {
        if began.elapsed() > PATIENCE {
            return Err(Failure::fault(format!("waited {} s in vain: {who} {what}", PATIENCE.as_secs())));
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

pub(super) async fn balances(actor: &Actor) -> Result<node::Balances, Failure> {
    actor.node()?.balances().await.map_err(|e| node_failure(actor, &e))
}

pub(super) fn node_failure(actor: &Actor, error: &NodeError) -> Failure {
    Failure::fault(format!("{}'s node: {error}", actor.name))
}

async fn info(actor: &Actor) -> Result<NodeInfo, Failure> {
    actor.node()?.info().await.map_err(|e| node_failure(actor, &e))
}

async fn usable(actor: &Actor) -> Result<usize, Failure> {
    let channels = actor.node()?.list_channels().await.map_err(|e| node_failure(actor, &e))?;
    Ok(channels.iter().filter(|channel| channel.usable && channel.state == ChannelState::Open).count())
}

async fn start(name: &'static str, dir: &Path, config: Config) -> Result<Actor, Failure> {
    let mut entropy = [0; 32];
    getrandom::fill(&mut entropy).map_err(|e| Failure::fault(e.to_string()))?;
    let starting = Daemon::start(&config, &dir.join(name), Seed::generate(&entropy)).await;
    let daemon = starting.map_err(|e| Failure::fault(format!("{name}: {e}")))?;
    Ok(Actor { name, daemon })
}

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn trader_config(chain: &Devnet, password: &Path, board: Option<String>) -> Config {
    Config {
        network: config::Network::Regtest,
        seed: config::Seed::default(),
        chain: config::Chain {
            source: config::ChainSource::Bitcoind,
            url: chain.rpc_url(),
            user: chain.rpc_user().to_owned(),
            password: config::SecretRef(format!("file:{}", password.display())),
            poll_ms: POLL_MS,
        },
        node: config::Node { listen: vec![loopback()], ..config::Node::default() },
        board: config::Board::default(),
        trader: config::Trader { boards: board.into_iter().collect(), ..config::Trader::default() },
        arbiter: config::Arbiter::default(),
        notify: config::Notify::default(),
        api: config::ApiSection::default(),
        markets: config::Markets::default(),
        fiat: daemon::FiatConfig::default(),
    }
}

fn board_config(chain: &Devnet, password: &Path) -> Config {
    let mut config = trader_config(chain, password, None);
    config.board = config::Board { enabled: true, listen: loopback(), ..config::Board::default() };
    config.trader.enabled = false;
    config
}

fn arbiter_config(mut config: Config) -> Config {
    config.trader.enabled = false;
    config.arbiter = config::Arbiter {
        enabled: true,
        policy: "Rules by what both sides can show.".into(),
        ..config::Arbiter::default()
    };
    config
}
