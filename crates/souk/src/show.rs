//! Answers on the terminal: tables and words for people, JSON for programs.

use std::io::{IsTerminal, Write};

use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use serde::Serialize;
use serde_json::json;

use crate::failure::Failure;

/// How answers are shown.
pub(crate) struct Show {
    pub json: bool,
    quiet: bool,
    terminal: bool,
}

impl Show {
    pub(crate) fn new(json: bool, quiet: bool) -> Show {
        Show { json, quiet, terminal: std::io::stdout().is_terminal() }
    }

    /// An answer that names one thing: that alone for `--quiet`, else like any other.
    pub(crate) fn named<T: Serialize>(
        &self,
        value: &T,
        name: impl std::fmt::Display,
        words: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        if self.quiet { self.line(&name.to_string()) } else { self.answer(value, words) }
    }

    /// The answer as JSON, or in the words of `words`.
    pub(crate) fn answer<T: Serialize>(&self, value: &T, words: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        let text = if self.json {
            serde_json::to_string_pretty(value).map_err(|e| Failure::fault(e.to_string()))?
        } else {
            printable(&words(value))
        };
        self.line(&text)
    }

    /// One line (or several) on standard output. A reader that hung up ends the program quietly.
    pub(crate) fn line(&self, text: &str) -> Result<(), Failure> {
        match writeln!(std::io::stdout(), "{text}") {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
            other => Ok(other?),
        }
    }

    /// How long work goes, on standard error and on a terminal only.
    pub(crate) fn progress(&self, text: &str) {
        if !self.json && !self.quiet && std::io::stderr().is_terminal() {
            eprintln!("{}", printable(text));
        }
    }

    /// `text` as a QR code, on a terminal only.
    pub(crate) fn qr(&self, text: &str) -> Result<(), Failure> {
        if self.json || self.quiet || !self.terminal {
            return Ok(());
        }
        // Upper case makes a smaller code, and bech32 reads the same in it.
        let Ok(code) = qrcode::QrCode::new(text.to_uppercase()) else { return Ok(()) };
        self.line(&code.render::<qrcode::render::unicode::Dense1x2>().build())
    }
}

/// What strangers wrote steers no terminal: it goes without control characters and marks of direction.
fn printable(text: &str) -> String {
    markets::text::whole(text)
}

/// A table with a head.
pub(crate) fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header(head.to_vec());
    for row in rows {
        // What strangers wrote stays in its cell.
        table.add_row(row.into_iter().map(|cell| markets::text::line(&cell, usize::MAX)));
    }
    table.to_string()
}

/// The error, on standard error, in words or as JSON.
pub(crate) fn failure(failure: &Failure, json: bool) {
    if json {
        let body = json!({"error": {"kind": failure.kind, "rule": failure.rule, "message": failure.message}});
        eprintln!("{body}");
    } else {
        eprintln!("souk: {}", failure.message);
    }
}

/// The first characters of an id: enough for a person, and accepted back by every command.
pub(crate) fn short(id: impl std::fmt::Display) -> String {
    id.to_string().chars().take(12).collect()
}
