//! The program `souk`: parses the command line, asks the daemon, shows the answer.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]
#![allow(missing_docs, reason = "a program has no public API; its help is in args.rs")]

mod adverts;
mod api;
mod arbiter;
mod args;
mod backup;
mod board;
mod client;
mod credential;
mod demo;
mod devnet;
mod failure;
mod fiat;
mod market;
mod node;
mod pages;
mod reputation;
mod setup;
mod show;
mod wait;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use args::{Cli, Command};
use client::Client;
use failure::Failure;
use show::Show;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.json;
    start_log(&cli.command);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("souk: cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(obey(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            show::failure(&failure, json);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Log lines go to standard error, where they never mix with an answer. `RUST_LOG` overrides the default.
fn start_log(command: &Command) {
    let default = if matches!(command, Command::Run(_)) { "info" } else { "off" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let colour = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(std::io::stderr).init();
}

async fn obey(cli: Cli) -> Result<(), Failure> {
    let data_dir = data_dir(cli.data_dir)?;
    let client = Client::new(&data_dir);
    let show = Show::new(cli.json, cli.quiet);
    match cli.command {
        Command::Demo(options) => demo::run(options, &show).await,
        Command::Devnet(options) => devnet::run(options, &show).await,
        Command::Init(options) => setup::init(&data_dir, &options, &show),
        Command::Backup(options) => backup::backup(&client, &options, &show).await,
        Command::Restore(options) => setup::restore(&data_dir, &options, &show),
        Command::Run(options) if options.board_only => setup::run_board(&data_dir, &options, &show).await,
        Command::Run(options) => setup::run(&data_dir, &options).await,
        Command::Config(what) => setup::config(&data_dir, &what, &show),
        Command::Board(what) => board::obey(&client, &data_dir, what, &show).await,
        Command::Order(what) => adverts::orders(&client, what, &show).await,
        Command::Token(what) => api::tokens(&client, what, &show).await,
        Command::Openapi => api::document(&client, &show).await,
        Command::Credential(what) => credential::obey(&client, what, &show).await,
        Command::Fiat(what) => fiat::obey(&client, what, &show).await,
        Command::Completions { shell } => pages::completions(shell),
        Command::Man { out } => pages::man(&out, &show),
        Command::Wait(what) => wait::obey(&client, what, &show).await,
        Command::Arbiter(what) => arbiter::obey(&client, what, &show).await,
        Command::Disputes => arbiter::disputes(&client, &show).await,
        Command::Reputation(what) => reputation::obey(&client, what, &show).await,
        Command::Node(what) => node::obey(&client, what, &show).await,
        other => market::obey(&client, other, &show).await,
    }
}

fn data_dir(chosen: Option<PathBuf>) -> Result<PathBuf, Failure> {
    chosen
        .or_else(|| std::env::home_dir().map(|home| home.join(".souk")))
        .ok_or_else(|| Failure::usage("there is no home directory: say --data-dir DIR"))
}
