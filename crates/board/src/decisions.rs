//! What the operator decides while the board runs: whom to shut out, which kinds to take, what the board is called.
//!
//! It is kept in `decisions.toml` beside the log, apart from the policy, which the operator writes by hand: the board takes what
//! the policy takes and these decisions do not forbid. The file is written whole and put in place at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};
use units::{Unix, hex32};

use crate::policy::{KindRange, Policy};
use crate::standing::put_in_place;

/// Name of the file.
pub(crate) const FILE: &str = "decisions.toml";
/// First lines of the file.
const PREAMBLE: &str =
    "# Written by the board: change it with `souk board ban` and `souk board unban`, or over NIP-86.\n\n";
/// Most that are shut out at the same time.
const BANS_MAX: usize = 100_000;
/// Longest reason, name or description, in bytes.
const TEXT_MAX: usize = 1000;

/// Why something or somebody is shut out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Ban {
    /// For people.
    #[serde(default)]
    pub reason: String,
    /// When it was decided.
    pub at: Unix,
}

/// Everything that was decided and still holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Decisions {
    /// What the board is called, in place of what the configuration says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is for, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Address of its picture, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icon: Option<String>,
    /// Kinds that are taken besides those of the policy.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub kinds_allowed: BTreeSet<u16>,
    /// Kinds that are not taken, whatever the policy says.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub kinds_denied: BTreeSet<u16>,
    /// Authors that are shut out, hex.
    pub authors: BTreeMap<String, Ban>,
    /// Addresses that are shut out.
    pub addresses: BTreeMap<IpAddr, Ban>,
    /// Events that were taken down, hex. What counts is the takedown in the log; this is the list of them.
    pub events: BTreeMap<String, Ban>,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "decision", rename_all = "snake_case", deny_unknown_fields)]
pub enum Decision {
    /// Take nothing by this author any more.
    BanAuthor {
        /// The author.
        #[serde(with = "hex_key")]
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
        author: [u8; 32],
        /// Why.
        #[serde(default)]
        reason: String,
    },
    /// Take events by this author again.
    UnbanAuthor {
        /// The author.
        #[serde(with = "hex_key")]
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
        author: [u8; 32],
    },
    /// Let nobody in from there.
    BanAddress {
        /// Where.
        address: IpAddr,
        /// Why.
        #[serde(default)]
        reason: String,
    },
    /// Let people in from there again.
    UnbanAddress {
        /// Where.
        address: IpAddr,
    },
    /// Take this event down. There is no way back: the log has it for good.
    BanEvent {
        /// The event.
        #[serde(with = "hex_key")]
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
        id: [u8; 32],
        /// Why.
        #[serde(default)]
        reason: String,
    },
    /// Take this kind.
    AllowKind {
        /// The kind.
        kind: u16,
    },
    /// Do not take this kind.
    DenyKind {
        /// The kind.
        kind: u16,
    },
    /// Call the board so.
    Name {
        /// Its name.
        text: String,
    },
    /// Describe the board so.
    Description {
        /// What it is for.
        text: String,
    },
    /// Show this picture.
    Icon {
        /// Its address.
        text: String,
    },
}

/// A key or id as hex.
mod hex_key {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(key: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&units::hex32(key))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        wire::parse_hex(&text, "hex").map_err(|_| D::Error::custom(format!("{text:?} is not 64 lowercase hex digits")))
    }
}

/// A decision that was not taken.
#[derive(Debug, thiserror::Error)]
pub enum DecisionsError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{path}: {message}")]
    Parse {
        /// Which.
        path: PathBuf,
        /// Line, key and what is allowed.
        message: String,
    },
    /// There are too many.
    #[error("{BANS_MAX} are shut out already; lift some bans first")]
    Full,
    /// A text is too long.
    #[error("the text is longer than {TEXT_MAX} bytes")]
    TooLong,
    /// What is to be lifted does not exist.
    #[error("{0} is not shut out")]
    NotBanned(String),
    /// The policy, which is written by hand, says otherwise.
    #[error("the policy itself says so about {0}: change the policy")]
    InPolicy(String),
}

impl Decisions {
    fn parse(text: &str, path: &Path) -> Result<Decisions, DecisionsError> {
        let bad = |message: String| DecisionsError::Parse { path: path.to_owned(), message };
        let decisions: Decisions = toml::from_str(text).map_err(|e| bad(e.to_string().trim_end().to_owned()))?;
        for key in decisions.authors.keys().chain(decisions.events.keys()) {
            wire::parse_hex::<32>(key, "key").map_err(|why| bad(format!("{key:?}: {why}")))?;
        }
        Ok(decisions)
    }

    pub(crate) fn load(path: &Path) -> Result<Decisions, DecisionsError> {
        match fs::read_to_string(path) {
            Ok(text) => Decisions::parse(&text, path),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(Decisions::default()),
            Err(source) => Err(DecisionsError::Io { path: path.to_owned(), source }),
        }
    }

    pub(crate) fn save(&self, path: &Path) -> Result<(), DecisionsError> {
        let body = toml::to_string(self)
            .map_err(|e| DecisionsError::Parse { path: path.to_owned(), message: e.to_string() })?;
        put_in_place(path, format!("{PREAMBLE}{body}").as_bytes())
            .map_err(|source| DecisionsError::Io { path: path.to_owned(), source })
    }

    /// What the board takes by `base` and these decisions.
    pub(crate) fn over(&self, base: &Policy) -> Policy {
        let mut policy = base.clone();
        policy.banned_authors.extend(self.authors.keys().filter_map(|key| wire::parse_hex(key, "key").ok()));
        policy.banned_addresses.extend(self.addresses.keys().copied());
        if !policy.kinds.is_empty() {
            policy.kinds.extend(self.kinds_allowed.iter().map(|kind| KindRange::from(*kind)));
        }
        policy.kinds_denied.extend(self.kinds_denied.iter().map(|kind| KindRange::from(*kind)));
        policy
    }

    fn bans(&self) -> usize {
        self.authors.len() + self.addresses.len() + self.events.len()
    }

    /// Makes one decision.
    pub(crate) fn decide(&mut self, decision: Decision, base: &Policy, at: Unix) -> Result<(), DecisionsError> {
        let short = |text: String| if text.len() > TEXT_MAX { Err(DecisionsError::TooLong) } else { Ok(text) };
        let ban = |reason| short(reason).map(|reason| Ban { reason, at });
        let unban = |lifted: Option<Ban>, what: String, in_policy: bool| match lifted {
            _ if in_policy => Err(DecisionsError::InPolicy(what)),
            None => Err(DecisionsError::NotBanned(what)),
            Some(_) => Ok(()),
        };
        match decision {
            Decision::BanAuthor { author, reason } => drop(self.authors.insert(hex32(&author), ban(reason)?)),
            Decision::BanAddress { address, reason } => {
                drop(self.addresses.insert(address.to_canonical(), ban(reason)?));
            }
            Decision::BanEvent { id, reason } => drop(self.events.insert(hex32(&id), ban(reason)?)),
            Decision::UnbanAuthor { author } => {
                let key = hex32(&author);
                unban(self.authors.remove(&key), key, base.banned_authors.contains(&author))?;
            }
            Decision::UnbanAddress { address } => {
                let address = address.to_canonical();
                let in_policy = base.banned_addresses.contains(&address);
                unban(self.addresses.remove(&address), address.to_string(), in_policy)?;
            }
            Decision::AllowKind { kind } => {
                if base.kinds_denied.iter().any(|range| range.contains(kind)) {
                    return Err(DecisionsError::InPolicy(format!("kind {kind}")));
                }
                self.kinds_denied.remove(&kind);
                self.kinds_allowed.insert(kind);
            }
            Decision::DenyKind { kind } => {
                self.kinds_allowed.remove(&kind);
                self.kinds_denied.insert(kind);
            }
            Decision::Name { text } => self.name = Some(short(text)?),
            Decision::Description { text } => self.description = Some(short(text)?),
            Decision::Icon { text } => self.icon = Some(short(text)?),
        }
        if self.bans() > BANS_MAX { Err(DecisionsError::Full) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::CurrentPolicy;
    use crate::standing::Standing;

    const AT: Unix = Unix(1_700_000_000);
    const NETWORK: bitcoin::Network = bitcoin::Network::Bitcoin;

    #[test]
    fn decisions_hold_over_the_policy_and_come_back_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let base = Policy { kinds: vec![(1..=1).into()], ..Policy::default() };
        let current = CurrentPolicy::new(base.clone());
        let standing = Standing::open(dir.path(), base.clone(), NETWORK).unwrap();
        let address: IpAddr = "192.0.2.7".parse().unwrap();
        for decision in [
            Decision::BanAuthor { author: [7; 32], reason: "spam, \"again\"\n".into() },
            Decision::BanAddress { address, reason: String::new() },
            Decision::AllowKind { kind: 300 },
            Decision::DenyKind { kind: 4 },
            Decision::Name { text: "Corner shop".into() },
        ] {
            standing.decide(decision, AT, &current).unwrap();
        }
        let again = Standing::open(dir.path(), base, NETWORK).unwrap();
        assert_eq!(again.decisions(), standing.decisions());
        assert_eq!((&again.policy(), again.decisions().name.as_deref()), (&*current.get(), Some("Corner shop")));
        let policy = current.get();
        assert!(policy.banned_authors.contains(&[7; 32]) && policy.banned_addresses.contains(&address));
        assert!(policy.kinds.iter().any(|range| range.contains(300)));
        standing.decide(Decision::UnbanAuthor { author: [7; 32] }, AT, &current).unwrap();
        assert!(!current.get().banned_authors.contains(&[7; 32]));
        let twice = standing.decide(Decision::UnbanAuthor { author: [7; 32] }, AT, &current);
        assert!(matches!(twice, Err(DecisionsError::NotBanned(_))));
    }

    #[test]
    fn what_the_policy_itself_says_is_not_lifted_by_a_decision() {
        let dir = tempfile::tempdir().unwrap();
        let mut base = Policy::default();
        base.banned_authors.insert([9; 32]);
        let current = CurrentPolicy::new(base.clone());
        let standing = Standing::open(dir.path(), base, NETWORK).unwrap();
        for decision in [Decision::UnbanAuthor { author: [9; 32] }, Decision::AllowKind { kind: 22_242 }] {
            assert!(matches!(standing.decide(decision, AT, &current), Err(DecisionsError::InPolicy(_))));
        }
    }

    #[test]
    fn a_decision_that_cannot_be_kept_does_not_hold() {
        let dir = tempfile::tempdir().unwrap();
        let current = CurrentPolicy::default();
        let standing = Standing::open(dir.path(), Policy::default(), NETWORK).unwrap();
        drop(dir);
        let lost = standing.decide(Decision::BanAuthor { author: [7; 32], reason: String::new() }, AT, &current);
        assert!(matches!(lost, Err(DecisionsError::Io { .. })));
        assert!(current.get().banned_authors.is_empty() && standing.decisions().authors.is_empty());
    }

    #[test]
    fn a_damaged_file_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "\n[authors.zz]\nreason = \"x\"\nat = 5\n").unwrap();
        let why = Standing::open(dir.path(), Policy::default(), NETWORK).unwrap_err().to_string();
        assert!(why.contains(FILE) && why.contains("zz"), "{why}");
        fs::write(dir.path().join(FILE), "naem = \"x\"\n").unwrap();
        let why = Standing::open(dir.path(), Policy::default(), NETWORK).unwrap_err().to_string();
        assert!(why.contains("line 1") && why.contains("naem"), "{why}");
    }
}
