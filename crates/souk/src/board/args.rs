//! The command line of `souk board`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Subcommand)]
pub(crate) enum Board {
    /// Numbers: connections, events by fate, the store
    #[command(after_help = "Example: souk board stats --json")]
    Stats,
    /// Who is connected
    #[command(after_help = "Example: souk board clients")]
    Clients,
    /// What clients are subscribed to
    #[command(after_help = "Example: souk board subscriptions 12")]
    Subscriptions {
        /// Only those of this client (its number) or address
        #[arg(default_value = "all")]
        of: String,
    },
    /// End connections
    #[command(after_help = "Example: souk board disconnect 203.0.113.7")]
    Disconnect {
        /// The number of a client, an address, or "all"
        whom: String,
    },
    /// Send clients a message for people (NOTICE of NIP-01)
    #[command(after_help = "Example: souk board notice \"down for ten minutes at noon\"")]
    Notice {
        /// What to say
        text: String,
        /// The number of a client or an address; everybody when left out
        #[arg(long, default_value = "all")]
        to: String,
    },
    /// Shut somebody or something out, for good
    #[command(subcommand)]
    Ban(Ban),
    /// Let somebody in again
    #[command(subcommand)]
    Unban(Unban),
    /// Whom and what you shut out, and why
    #[command(after_help = "Example: souk board bans")]
    Bans,
    /// What the board takes
    #[command(subcommand)]
    Policy(Policy),
    /// Write events as JSONL, one a line, newest first; without a running board its files are read
    Export(Export),
    /// Take events in from JSONL, one a line; what is here already is passed over
    Import(Import),
    /// Bring the board and another relay into agreement (NIP-77): each gets what only the other has
    Sync(Sync),
}

#[derive(Args)]
#[command(after_help = "Example: souk board sync wss://relay.example.com --kinds 30402 --direction down")]
pub(crate) struct Sync {
    /// The other relay, ws:// or wss://
    pub url: String,
    #[command(flatten)]
    pub selection: Selection,
    /// Which way events go
    #[arg(long, value_enum, default_value = "both")]
    pub direction: Direction,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Direction {
    /// From the other relay to the board
    Down,
    /// From the board to the other relay
    Up,
    /// Both ways
    Both,
}

#[derive(Subcommand)]
pub(crate) enum Policy {
    /// Print it; with the result in a file, `set` brings it back
    #[command(after_help = "Example: souk board policy show > policy.toml")]
    Show,
    /// Have the policy in this file hold from now on, and after a restart; one with a mistake changes nothing
    #[command(after_help = "Example: souk board policy set policy.toml")]
    Set {
        /// TOML, as `show` prints it; what is left out has its default ("-" for standard input)
        file: PathBuf,
    },
    /// Read what was set, or else [board.policy] of the configuration, again from disk, as SIGHUP does
    #[command(after_help = "Example: souk board policy reload")]
    Reload,
}

#[derive(Subcommand)]
pub(crate) enum Ban {
    /// Take nothing by this author any more, and end connections that authenticated as it
    #[command(after_help = "Example: souk board ban author 9f3c… --reason \"spam\"")]
    Author {
        /// Public key, hex
        key: String,
        /// Why, for the record
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Take an event down, whether it is here already or not; the log keeps it so, there is no way back
    #[command(after_help = "Example: souk board ban event 4f9c… --reason \"a forbidden good\"")]
    Event {
        /// Its id, hex
        id: String,
        /// Why, for the record
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Let nobody in from this address, and end connections from there
    #[command(after_help = "Example: souk board ban address 203.0.113.7")]
    Address {
        /// IPv4 or IPv6 address
        address: IpAddr,
        /// Why, for the record
        #[arg(long, default_value = "")]
        reason: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum Unban {
    /// Take events by this author again
    #[command(after_help = "Example: souk board unban author 9f3c…")]
    Author {
        /// Public key, hex
        key: String,
    },
    /// Let people in from this address again
    #[command(after_help = "Example: souk board unban address 203.0.113.7")]
    Address {
        /// IPv4 or IPv6 address
        address: IpAddr,
    },
}

/// Which events.
#[derive(Args)]
pub(crate) struct Selection {
    /// Only what matches this filter (NIP-01, JSON); repeat for more
    #[arg(long = "filter", value_name = "JSON")]
    pub filters: Vec<String>,
    /// Only these kinds, comma-separated
    #[arg(long, value_delimiter = ',')]
    pub kinds: Vec<u16>,
    /// Not older than this, unix seconds
    #[arg(long, value_name = "TIME")]
    pub since: Option<u64>,
    /// Not newer than this, unix seconds
    #[arg(long, value_name = "TIME")]
    pub until: Option<u64>,
}

#[derive(Args)]
#[command(after_help = "Example: souk board export --kinds 30402,300 > market.jsonl")]
pub(crate) struct Export {
    #[command(flatten)]
    pub selection: Selection,
    /// Write to this file, which appears when it is complete; standard output when left out
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Args)]
#[command(after_help = "Example: strfry export | souk board import")]
pub(crate) struct Import {
    #[command(flatten)]
    pub selection: Selection,
    /// Read from this file; standard input when left out
    pub input: Option<PathBuf>,
}
