//! The command line, parsed and not yet acted upon.

use std::net::SocketAddr;
use std::path::PathBuf;

pub(crate) use crate::arbiter::Arbiter;
pub(crate) use crate::board::args::Board;
pub(crate) use crate::credential::Credential;
pub(crate) use crate::fiat::Fiat;
use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use daemon::api::access::Scope;
use daemon::api::types::{OUTCOMES, STATES};

/// A peer-to-peer market on Nostr, paid and escrowed over Lightning. Nobody in the middle holds the money.
#[derive(Parser)]
#[command(version, propagate_version = true, max_term_width = 110)]
#[command(after_help = "Example: `souk demo` shows two strangers trading, on a chain of its own, in under a minute.")]
pub(crate) struct Cli {
    /// Where configuration, keys and state are
    #[arg(long, global = true, env = "SOUK_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Answer in JSON, for programs
    #[arg(long, global = true)]
    pub json: bool,
    /// Where a command gives an id, a key or an address: print that alone, for scripts
    #[arg(long, short, global = true, conflicts_with = "json")]
    pub quiet: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Watch strangers trade over Lightning, on a chain made for the occasion
    Demo(Demo),
    /// Run a regtest chain with bitcoind's RPC and an Esplora server, for trying things out
    Devnet(Devnet),
    /// Make a data directory: configuration and encrypted seed
    Init(Init),
    /// Write one encrypted file that brings this machine back: seed, configuration, trades, coins in channels
    Backup(Backup),
    /// Bring trades, keys and secrets back on an empty machine, from seed words and boards, or from a backup
    Restore(Restore),
    /// Run the daemon with the roles that the configuration switches on
    Run(Run),
    /// What the daemon is and how it stands
    #[command(after_help = "Example: souk status --json")]
    Status,
    /// Look at the configuration
    #[command(subcommand)]
    Config(Config),
    /// List something for sale
    Sell(Sell),
    /// What is for sale on the boards, and on the relays of other markets
    #[command(after_help = "Example: souk list --source mostro")]
    List {
        /// Only listings whose name, description or category has this text
        search: Option<String>,
        /// Your own listings instead, with stock and bids
        #[arg(long, conflicts_with = "search")]
        mine: bool,
        /// Only of this market
        #[arg(long, value_parser = crate::adverts::SOURCES, conflicts_with = "mine")]
        source: Option<String>,
    },
    /// Look for listings on the boards
    Search(Search),
    /// Change a listing of yours; trades that run stay bound to the version they took
    Edit(Edit),
    /// Say how many pieces of a listing of yours there are, those of running trades included
    #[command(after_help = "Example: souk restock 4f9c… 12")]
    Restock {
        /// The listing, or the first characters of its id
        listing: String,
        /// How many
        stock: u32,
    },
    /// Take a listing of yours off the boards; trades that run go on
    #[command(after_help = "Example: souk withdraw 4f9c… --reason \"sold elsewhere\"")]
    Withdraw {
        /// The listing, or the first characters of its id
        listing: String,
        /// Told to everybody
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Bid on a listing; the bid is binding: when it is accepted, souk checks the invoices and locks the money
    Bid(Bid),
    /// Name another price; a buyer agrees by naming the price that the seller asks
    #[command(after_help = "Example: souk counter 5b1e… 45000")]
    Counter {
        /// The trade, or the first characters of its id
        trade: String,
        /// The price in sat, shipping included
        amount: u64,
    },
    /// Turn a bid down (seller)
    #[command(after_help = "Example: souk reject 5b1e… --reason \"sold elsewhere\"")]
    Reject {
        /// The trade, or the first characters of its id
        trade: String,
        /// Told to the buyer
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Lock the money of a bid that was accepted, when the bid said --ask-before-paying (buyer)
    #[command(after_help = "Example: souk show 5b1e… && souk pay 5b1e…")]
    Pay {
        /// The trade, or the first characters of its id
        trade: String,
    },
    /// Lock the same money again, for longer, because the goods outlive the lock (buyer; the seller has to accept)
    #[command(after_help = "Example: souk relock 5b1e…    then the seller: souk accept 5b1e…")]
    Relock {
        /// The trade, or the first characters of its id
        trade: String,
    },
    /// Talk about a trade, sealed; without words, show what was said
    #[command(after_help = "Example: souk chat 5b1e… \"Is it the blue one?\"")]
    Chat {
        /// The trade, or the first characters of its id
        trade: String,
        /// What to say
        text: Option<String>,
        /// Say it to the arbiter
        #[arg(long)]
        to_arbiter: bool,
    },
    /// Your trades
    #[command(after_help = "Example: souk trades --all")]
    Trades {
        /// Also those that have ended
        #[arg(long)]
        all: bool,
    },
    /// One trade: state, legs, deadlines, what to do now
    #[command(after_help = "Example: souk show 5b1e…")]
    Show {
        /// The trade, or the first characters of its id
        trade: String,
    },
    /// Follow a trade until it ends, or all trades: state, deadlines, warnings
    #[command(after_help = "Example: souk watch 5b1e…")]
    Watch {
        /// The trade, or the first characters of its id; all of them when left out
        trade: Option<String>,
    },
    /// Wait until something is so, for scripts; fails when it takes too long
    Wait(Wait),
    /// Accept a bid, or another lock that the buyer asks for (seller)
    #[command(after_help = "Example: souk accept 5b1e… --shipping-days 3")]
    Accept {
        /// The trade, or the first characters of its id
        trade: String,
        /// How many days shipping takes; what the listing says when left out
        #[arg(long, value_parser = clap::value_parser!(u16).range(0..=90))]
        shipping_days: Option<u16>,
        /// Further terms, told to the buyer
        #[arg(long)]
        terms: Option<String>,
    },
    /// Say that the goods are under way (seller)
    #[command(after_help = "Example: souk ship 5b1e… --tracking RR123456785")]
    Ship {
        /// The trade, or the first characters of its id
        trade: String,
        /// What to tell the buyer; on trader.transport "public" everybody can read it
        #[arg(long, default_value = "")]
        note: String,
        /// Proof of dispatch, such as a tracking number; never public
        #[arg(long)]
        tracking: Option<String>,
    },
    /// Say that the goods have arrived, which releases the price (buyer)
    Confirm(Confirm),
    /// Ask the arbiter to rule
    #[command(after_help = "Example: souk dispute 5b1e… --reason \"a sleeve is torn\"")]
    Dispute {
        /// The trade, or the first characters of its id
        trade: String,
        /// In a few words
        #[arg(long)]
        reason: String,
        /// The whole story
        #[arg(long, default_value = "")]
        details: String,
    },
    /// Disputes that wait for your ruling, with what each side disclosed and how long there is (arbiter)
    #[command(
        after_help = "Example: souk disputes && souk rule 5b1e… --payee-tranches 1 --resolution \"it arrived whole\""
    )]
    Disputes,
    /// Decide a dispute (arbiter)
    Rule(Rule),
    /// Arbiters that can be had, and what you did as one
    #[command(subcommand)]
    Arbiter(Arbiter),
    /// Call a trade off before money is locked, or agree to call it off after
    #[command(after_help = "Example: souk cancel 5b1e… --reason \"found another\"")]
    Cancel {
        /// The trade, or the first characters of its id
        trade: String,
        /// Told to the other side
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Give the money back (seller)
    #[command(after_help = "Example: souk refund 5b1e… --reason \"lost in the post\"")]
    Refund {
        /// The trade, or the first characters of its id
        trade: String,
        /// Told to the buyer
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Rate the other side, the arbiter or a board, after the end, for everybody to read
    #[command(
        after_help = "Example: souk rate 5b1e… 5 --comment \"as described\"    or: souk rate 5b1e… 4 --arbiter\n\nThe rating \
        shows the pledges of both sides: keys, the rounded price, the block, never the listing."
    )]
    Rate {
        /// The trade, or the first characters of its id
        trade: String,
        /// 1 (bad) to 5 (good)
        #[arg(value_parser = clap::value_parser!(u8).range(1..=5))]
        rating: u8,
        /// In words
        #[arg(long)]
        comment: Option<String>,
        /// Rate the arbiter instead
        #[arg(long, conflicts_with = "board")]
        arbiter: bool,
        /// Rate a board instead
        #[arg(long, value_name = "URL")]
        board: Option<String>,
    },
    /// What ratings say about a user, an arbiter or a board, and what you are to make of it
    #[command(after_help = "Example: souk reputation 9f3c…    or: souk reputation wss://board.example")]
    Reputation(Reputation),
    /// Market orders: strings that any wallet pays (CivKit)
    #[command(subcommand)]
    Order(Order),
    /// Tokens for programs that use the daemon's API over TCP
    #[command(subcommand)]
    Token(Token),
    /// Print the OpenAPI document of the daemon's API
    #[command(after_help = "Example: souk openapi > souk.json")]
    Openapi,
    /// Bitcoin against money of a country (fiat)
    #[command(subcommand)]
    Fiat(Fiat),
    /// Credentials that boards want with events: what they ask, buying them, what there is
    #[command(subcommand)]
    Credential(Credential),
    /// Print what a shell needs to complete commands, options and values
    #[command(after_help = "Example: souk completions bash > ~/.local/share/bash-completion/completions/souk")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write a manual page for each command
    #[command(after_help = "Example: souk man --out ~/.local/share/man/man1 && man souk-sell")]
    Man {
        /// Where to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// The Lightning node
    #[command(subcommand)]
    Node(Node),
    /// The board, from its operator's side
    #[command(subcommand)]
    Board(Board),
}

#[derive(Subcommand)]
pub(crate) enum Token {
    /// Make one; it is shown once
    #[command(after_help = "Example: souk token new --scope read --name \"price board\" --days 30")]
    New {
        /// What it allows: read, trade, funds or admin, each also what those before it allow
        #[arg(long)]
        scope: Scope,
        /// For whom or what it is
        #[arg(long, default_value = "")]
        name: String,
        /// After how many days it ends by itself; never when left out
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: Option<u32>,
    },
    /// Those that are good
    #[command(after_help = "Example: souk token list")]
    List,
    /// End one
    #[command(after_help = "Example: souk token revoke 9f3c01ab")]
    Revoke {
        /// Its id
        id: String,
    },
}

#[derive(Args)]
#[command(after_help = "Example: souk demo --stay")]
pub(crate) struct Demo {
    /// Keep everything running afterwards, until Ctrl-C
    #[arg(long)]
    pub stay: bool,
    /// Keep the data directories afterwards and say where they are
    #[arg(long)]
    pub keep: bool,
}

#[derive(Args)]
#[command(after_help = "Example: souk devnet --block-time 30")]
pub(crate) struct Devnet {
    /// Where bitcoind's RPC listens (user "souk", password "souk")
    #[arg(long, default_value = "127.0.0.1:18443")]
    pub rpc: SocketAddr,
    /// Where the Esplora server listens
    #[arg(long, default_value = "127.0.0.1:3002")]
    pub esplora: SocketAddr,
    /// Mine a block every so many seconds; without it a block is mined when a transaction waits
    #[arg(long, value_name = "SECONDS")]
    pub block_time: Option<u64>,
    /// Keep the chain in this directory
    #[arg(long, value_name = "DIR")]
    pub keep_in: Option<PathBuf>,
    #[command(subcommand)]
    pub ask: Option<DevnetAsk>,
}

/// What is asked of a chain that runs, at `--rpc`.
#[derive(Subcommand)]
pub(crate) enum DevnetAsk {
    /// Coins for an address, in a transaction that the next block takes
    #[command(after_help = "Example: souk devnet fund $(souk -q node address) 5000000")]
    Fund {
        /// Where to
        address: String,
        /// How much, in sat
        amount: u64,
    },
    /// Mine blocks now
    #[command(after_help = "Example: souk devnet mine 6")]
    Mine {
        /// How many
        #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
        blocks: u32,
    },
}

fn states() -> PossibleValuesParser {
    let ends = OUTCOMES.into_iter().filter(|outcome| !STATES.contains(outcome));
    STATES.into_iter().chain(ends).collect::<Vec<_>>().into()
}

#[derive(Args)]
#[command(after_help = "Example: souk wait trade 5b1e… shipped && souk confirm 5b1e…")]
pub(crate) struct Wait {
    #[command(subcommand)]
    pub until: Until,
    /// How long at most, in seconds
    #[arg(long, global = true, env = "SOUK_WAIT_TIMEOUT", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    pub timeout: u64,
}

#[derive(Subcommand)]
pub(crate) enum Until {
    /// The daemon answers
    #[command(after_help = "Example: souk run & souk wait daemon")]
    Daemon,
    /// A trade is known here and is in one of these states; fails at once when it has ended in another
    #[command(after_help = "Example: souk wait trade 5b1e… held --timeout 600")]
    Trade {
        /// The trade, or the first characters of its id
        trade: String,
        /// States, or ways to end
        #[arg(required = true, value_parser = states())]
        states: Vec<String>,
    },
    /// So many words have been said about a trade
    #[command(after_help = "Example: souk wait chat 5b1e… 1 && souk chat 5b1e…")]
    Chat {
        /// The trade, or the first characters of its id
        trade: String,
        /// How many
        count: usize,
    },
    /// So many sat are there and confirmed on chain
    #[command(after_help = "Example: souk wait coins 1000000 --timeout 3600")]
    Coins {
        /// How many
        amount: u64,
    },
    /// The boards have so many ratings of a key or a board
    #[command(after_help = "Example: souk wait ratings 9f3c… 1 && souk reputation 9f3c…")]
    Ratings {
        /// A public key, or the address of a board
        of: String,
        /// How many
        count: usize,
    },
    /// So many channels can carry payments
    #[command(after_help = "Example: souk wait channels 1 && souk node channels")]
    Channels {
        /// How many
        count: usize,
    },
}

#[derive(Args)]
#[command(after_help = "Example: souk run --board-only --data-dir board --listen 127.0.0.1:7447")]
pub(crate) struct Run {
    /// Only a board: no seed, no passphrase, no Lightning node; of the configuration, if there is one, only [board] is read
    #[arg(long)]
    pub board_only: bool,
    /// Where the board listens, whatever the configuration says; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", requires = "board_only")]
    pub listen: Option<SocketAddr>,
    /// Another machine had this seed and is off for good: go on here, with what the boards know of its trades
    #[arg(long, conflicts_with = "board_only")]
    pub take_over: bool,
}

#[derive(Args)]
#[command(after_help = "Example: souk init --network regtest")]
pub(crate) struct Init {
    /// Which Bitcoin network
    #[arg(long, value_enum, default_value = "bitcoin")]
    pub network: Network,
    /// Use these words: file with 12 or 24 of BIP-39 ("-" for standard input). For a seed that has traded, see `souk restore`
    #[arg(long, value_name = "FILE")]
    pub words: Option<PathBuf>,
}

#[derive(Args)]
#[command(
    after_help = "Example: souk backup --out /media/stick/souk-monday.backup\n\nWhile the daemon runs. A backup of last week is still good: boards \
        bring newer trades, and channels are only ever closed by it through the peer, never by what it remembers."
)]
pub(crate) struct Backup {
    /// The file to write; one that is there is not overwritten
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

#[derive(Args)]
#[command(
    after_help = "Examples: souk restore --words - --board wss://board.example    souk restore --backup souk.backup    then: souk run\n\n\
        Never while the old machine still runs: two daemons on one seed contradict each other. Channels of an embedded node do not come \
        back; from a backup their coins do. See the guide."
)]
pub(crate) struct Restore {
    /// Which Bitcoin network
    #[arg(long, value_enum, default_value = "bitcoin", conflicts_with = "backup")]
    pub network: Network,
    /// File that `souk backup` wrote; its seed is opened by its passphrase, or by --words
    #[arg(long, value_name = "FILE")]
    pub backup: Option<PathBuf>,
    /// File with the 12 or 24 BIP-39 words ("-" for standard input)
    #[arg(long, value_name = "FILE", required_unless_present = "backup")]
    pub words: Option<PathBuf>,
    /// A board that the lost machine used, ws:// or wss://; repeat for more. With --backup: instead of those in its configuration
    #[arg(long = "board", value_name = "URL", required_unless_present = "backup")]
    pub boards: Vec<String>,
    /// Height of the first block that can hold coins of the wallet; the chain is read from there
    #[arg(long, value_name = "HEIGHT", default_value_t = 0, conflicts_with = "backup")]
    pub birthday: u32,
    /// The old machine is off, or gone: do not ask
    #[arg(long)]
    pub yes: bool,
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Reputation {
    /// A public key, or the address of a board; yourself when left out
    pub of: Option<String>,
    #[command(subcommand)]
    pub labels: Option<Labels>,
}

#[derive(Subcommand)]
pub(crate) enum Labels {
    /// Write ratings as labels (NIP-32), one a line, each with the rating and its pledges
    #[command(after_help = "Example: souk reputation export > ratings.jsonl")]
    Export {
        /// A public key, or the address of a board; yourself when left out
        of: Option<String>,
    },
    /// Take ratings in that no board of yours has; they count when their pledges do
    #[command(after_help = "Example: souk reputation import ratings.jsonl    or: … | souk reputation import")]
    Import {
        /// File with labels or ratings, one a line; standard input when left out
        file: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Network {
    Bitcoin,
    Testnet,
    Signet,
    Regtest,
}

#[derive(Subcommand)]
pub(crate) enum Config {
    /// Read the configuration and say what is wrong with it
    #[command(after_help = "Example: souk config check && souk run")]
    Check,
    /// Print the documented default configuration
    #[command(after_help = "Example: souk config sample > souk.toml")]
    Sample,
    /// Change one value in the file; the rest of it stays as it is, and a change that is not allowed is not written
    #[command(after_help = "Example: souk config set trader.boards '[\"wss://board.example.org\"]'")]
    Set {
        /// Which, such as trader.boards
        key: String,
        /// The value as TOML; what is no TOML is taken as text
        value: String,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Mode {
    /// No arbiter: protects the buyer, the seller relies on the buyer
    Direct,
    /// An arbiter is named, bonds are optional
    Arbitrated,
    /// An arbiter is named, both sides lock a bond
    Bonded,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum OnSilence {
    /// The price goes back to the buyer
    Refund,
    /// The arbiter releases the price to the seller
    Release,
}

#[derive(Args)]
#[command(after_help = "Example: souk sell \"Wool socks\" --price 50000 --mode bonded --arbiter KEY --payee-bond 5000")]
pub(crate) struct Sell {
    /// What it is, 1 to 100 characters
    pub name: String,
    /// Asking price in sat, shipping included
    #[arg(long)]
    pub price: u64,
    /// More about it, up to 2000 characters
    #[arg(long, default_value = "")]
    pub description: String,
    /// Category, up to 50 characters
    #[arg(long)]
    pub category: Option<String>,
    /// Estimated days under way, 1 to 90
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=90))]
    pub shipping_days: Option<u16>,
    /// How many pieces there are
    #[arg(long, default_value_t = 1)]
    pub stock: u32,
    /// Who protects whom
    #[arg(long, value_enum, default_value = "direct")]
    pub mode: Mode,
    /// An arbiter you accept (public key, hex); repeat for more
    #[arg(long = "arbiter", value_name = "KEY")]
    pub arbiters: Vec<String>,
    /// The arbiter also learns the price secrets, so that it can release or split the price
    #[arg(long)]
    pub arbiter_release: bool,
    /// Least bond of the buyer, in sat
    #[arg(long, default_value_t = 0)]
    pub min_payer_bond: u64,
    /// Your own bond, in sat
    #[arg(long, default_value_t = 0)]
    pub payee_bond: u64,
    /// Blocks that the money may be locked, 144 to 2016
    #[arg(long, default_value_t = 720)]
    pub lock_blocks: u16,
    /// Parts that an arbiter can split the price into, 1 to 4
    #[arg(long, default_value_t = 1)]
    pub tranches: u8,
    /// What happens when the buyer stays silent
    #[arg(long, value_enum, default_value = "refund")]
    pub on_silence: OnSilence,
}

#[derive(Args)]
#[command(after_help = "Example: souk search lamp --max-price 60000 --mode bonded")]
pub(crate) struct Search {
    /// Words that name, description or category must all have
    pub words: Vec<String>,
    /// In this category
    #[arg(long)]
    pub category: Option<String>,
    /// Not cheaper than this, in sat
    #[arg(long)]
    pub min_price: Option<u64>,
    /// Not dearer than this, in sat
    #[arg(long)]
    pub max_price: Option<u64>,
    /// Escrow of this mode
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// By this seller (public key, hex)
    #[arg(long, value_name = "KEY")]
    pub seller: Option<String>,
    /// Of this market
    #[arg(long, value_parser = crate::adverts::SOURCES)]
    pub source: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum Order {
    /// Publish an invoice or an offer; whoever copies it pays it with any wallet
    #[command(after_help = "Example: souk order publish $(souk node invoice 25000 --description \"a lamp\")")]
    Publish {
        /// A BOLT11 invoice (lnbc…) or a BOLT12 offer (lno1…) that names an amount
        order: String,
        /// Only on this board, which need not be configured; all configured ones when left out
        #[arg(long, value_name = "URL")]
        board: Option<String>,
    },
    /// Show open orders, and new ones as they come
    #[command(after_help = "Example: souk order watch --board wss://board.example")]
    Watch {
        /// Only on this board, which need not be configured; all configured ones when left out
        #[arg(long, value_name = "URL")]
        board: Option<String>,
        /// Do not wait for new ones
        #[arg(long)]
        once: bool,
    },
}

#[derive(Args)]
#[command(after_help = "Example: souk edit 4f9c… --price 45000 --description \"one sleeve is mended\"")]
pub(crate) struct Edit {
    /// The listing, or the first characters of its id
    pub listing: String,
    /// What it is, 1 to 100 characters
    #[arg(long)]
    pub name: Option<String>,
    /// Asking price in sat, shipping included
    #[arg(long)]
    pub price: Option<u64>,
    /// More about it, up to 2000 characters
    #[arg(long)]
    pub description: Option<String>,
    /// Category, up to 50 characters
    #[arg(long)]
    pub category: Option<String>,
    /// Estimated days under way, 1 to 90
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=90))]
    pub shipping_days: Option<u16>,
}

#[derive(Args)]
#[command(after_help = "Example: souk bid 4f9c… --amount 45000 --message \"would you take that?\"")]
pub(crate) struct Bid {
    /// The listing's id
    pub listing: String,
    /// How many pieces
    #[arg(long, default_value_t = 1)]
    pub quantity: u32,
    /// Price offered in sat for all pieces; the asking price when left out
    #[arg(long)]
    pub amount: Option<u64>,
    /// Which of the listing's arbiters; the first when left out
    #[arg(long, value_name = "KEY")]
    pub arbiter: Option<String>,
    /// The most in sat that you pay the arbiter for serving, when the seller has accepted
    #[arg(long, value_name = "SAT", default_value_t = 0)]
    pub max_arbiter_fee: u64,
    /// Your bond in sat; what the listing asks when left out
    #[arg(long)]
    pub bond: Option<u64>,
    /// Told to the seller; on trader.transport "public" everybody can read it
    #[arg(long)]
    pub message: Option<String>,
    /// How many hours the seller may take to answer, 1 to 168; 24 when left out
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=168))]
    pub wait_hours: Option<u16>,
    /// Do not lock the money before `souk pay` says so
    #[arg(long)]
    pub ask_before_paying: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Arrived {
    /// All is well: releases the price
    Received,
    /// Opens a dispute
    PartiallyReceived,
    /// Opens a dispute
    NotReceived,
    /// Opens a dispute
    Damaged,
}

#[derive(Args)]
#[command(after_help = "Example: souk confirm 5b1e… --rating 5")]
pub(crate) struct Confirm {
    /// The trade, or the first characters of its id
    pub trade: String,
    /// How it arrived
    #[arg(long, value_enum, default_value = "received")]
    pub status: Arrived,
    /// Required unless received
    #[arg(long)]
    pub reason: Option<String>,
    /// 1 (bad) to 5 (good)
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=5))]
    pub rating: Option<u8>,
    /// In words
    #[arg(long)]
    pub feedback: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Bond {
    /// Back to the one who locked it
    Return,
    /// To the other side
    Forfeit,
}

#[derive(Args)]
#[command(after_help = "Example: souk rule 5b1e… --payee-tranches 1 --resolution \"the photographs show it whole\"")]
pub(crate) struct Rule {
    /// The trade, or the first characters of its id
    pub trade: String,
    /// How many tranches of the price the seller gets; the others go back
    #[arg(long)]
    pub payee_tranches: u8,
    /// The buyer's bond
    #[arg(long, value_enum, default_value = "return")]
    pub payer_bond: Bond,
    /// The seller's bond
    #[arg(long, value_enum, default_value = "return")]
    pub payee_bond: Bond,
    /// The reasons
    #[arg(long)]
    pub resolution: String,
}

#[derive(Subcommand)]
pub(crate) enum Node {
    /// Identity, height, peers
    #[command(after_help = "Example: souk node info")]
    Info,
    /// Connect to a peer, and again whenever the connection is lost
    #[command(after_help = "Example: souk node connect 02f1…@203.0.113.7:9735")]
    Connect {
        /// NODE_ID@HOST:PORT
        peer: String,
    },
    /// Open a channel to a connected peer
    #[command(after_help = "Example: souk node open 02f1… 1000000")]
    Open {
        /// The peer's node id
        node_id: String,
        /// Size in sat
        capacity: u64,
        /// Give the peer so many sat at once
        #[arg(long, default_value_t = 0)]
        push: u64,
        /// Announce the channel to the network
        #[arg(long)]
        announced: bool,
    },
    /// Close a channel
    #[command(after_help = "Example: souk node close 7c40…")]
    Close {
        /// The channel's id
        channel: String,
        /// Without the peer's signature; the money comes back after a delay
        #[arg(long)]
        force: bool,
    },
    /// All channels
    #[command(after_help = "Example: souk node channels")]
    Channels,
    /// On-chain and Lightning balances
    #[command(after_help = "Example: souk node balance")]
    Balance,
    /// A fresh on-chain address
    #[command(after_help = "Example: souk node address")]
    Address,
    /// Send on chain
    #[command(after_help = "Example: souk node send bcrt1q… 50000 --fee-rate 2")]
    Send {
        /// Where to
        address: String,
        /// How much, in sat
        amount: u64,
        /// Fee rate in sat/vB; the estimate when left out
        #[arg(long)]
        fee_rate: Option<u32>,
    },
    /// Make an invoice
    #[command(after_help = "Example: souk node invoice 25000 --description \"a lamp\"")]
    Invoice {
        /// Amount in sat; the payer chooses when left out
        amount: Option<u64>,
        /// What it is for
        #[arg(long, default_value = "")]
        description: String,
        /// Seconds until it expires
        #[arg(long, default_value_t = 3600)]
        expiry: u32,
    },
    /// Make a reusable BOLT12 offer
    #[command(after_help = "Example: souk node offer 25000 --description \"a lamp\"")]
    Offer {
        /// Amount in sat; the payer chooses when left out
        amount: Option<u64>,
        /// What it is for
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Pay an invoice or an offer
    #[command(after_help = "Example: souk node pay lnbc250u1… --max-fee 50")]
    Pay {
        /// lnbc… or lno…
        payable: String,
        /// Amount in sat, for one that has none
        #[arg(long)]
        amount: Option<u64>,
        /// Most that routing may cost, in sat; 1 % and at least 10 sat when left out
        #[arg(long)]
        max_fee: Option<u64>,
    },
    /// Payments, newest first
    #[command(after_help = "Example: souk node payments --json")]
    Payments,
}
