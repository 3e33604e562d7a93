//! What holds on a board: the policy that was written, and over it what the operator decided since.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bitcoin::Network;
use units::Unix;

use crate::admission::{CurrentPolicy, Policy};
use crate::decisions::{Decision, Decisions, DecisionsError, FILE};
use crate::policy::OrderNetwork;

/// The policy that was set while the board ran, beside the log.
const POLICY_FILE: &str = "policy.toml";
/// Longest policy, in bytes.
const POLICY_MAX: usize = 8 << 20;

fn parse_policy(text: &str, path: &Path) -> Result<Policy, DecisionsError> {
    let bad = |message: String| DecisionsError::Parse { path: path.to_owned(), message };
    if text.len() > POLICY_MAX {
        return Err(bad(format!("a policy has at most {POLICY_MAX} bytes")));
    }
    toml::from_str(text).map_err(|e| bad(e.to_string().trim_end().to_owned()))
}

fn read_policy(path: &Path) -> Result<Option<Policy>, DecisionsError> {
    match fs::read_to_string(path) {
        Ok(text) => parse_policy(&text, path).map(Some),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DecisionsError::Io { path: path.to_owned(), source }),
    }
}

/// Writes a file whole and puts it in place at once: after a crash there is the old one or the new one.
pub(crate) fn put_in_place(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

#[derive(Debug)]
struct State {
    base: Policy,
    decisions: Decisions,
}

/// The policy as it was written and the decisions, kept together so that changing one does not lose the other.
#[derive(Debug)]
pub(crate) struct Standing {
    policy_path: PathBuf,
    path: PathBuf,
    network: Network,
    state: Mutex<State>,
}

impl Standing {
    /// Reads the decisions in `dir`, and the policy there if it was set while the board ran: it stands in place of `configured`.
    /// The board is one of `network`.
    pub(crate) fn open(dir: &Path, configured: Policy, network: Network) -> Result<Standing, DecisionsError> {
        let (policy_path, path) = (dir.join(POLICY_FILE), dir.join(FILE));
        let base = read_policy(&policy_path)?.unwrap_or(configured);
        let decisions = Decisions::load(&path)?;
        Ok(Standing { policy_path, path, network, state: Mutex::new(State { base, decisions }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The policy as it was written, without the decisions.
    pub(crate) fn base(&self) -> Policy {
        self.state().base.clone()
    }

    /// Has the policy in `text` hold from now on, and after a restart. One with a mistake, for which errors name `path`, is
    /// refused, and what held before goes on to hold.
    pub(crate) fn set(&self, text: &str, path: &Path, current: &CurrentPolicy) -> Result<(), DecisionsError> {
        let base = parse_policy(text, path)?;
        let mut state = self.state();
        put_in_place(&self.policy_path, text.as_bytes())
            .map_err(|source| DecisionsError::Io { path: self.policy_path.clone(), source })?;
        state.base = base;
        current.set(self.over(&state));
        Ok(())
    }

    /// Reads the policy file again; `configured` holds where there is none.
    pub(crate) fn reload(&self, configured: Policy, current: &CurrentPolicy) -> Result<(), DecisionsError> {
        let base = read_policy(&self.policy_path)?.unwrap_or(configured);
        let mut state = self.state();
        state.base = base;
        current.set(self.over(&state));
        Ok(())
    }

    /// What the board takes.
    pub(crate) fn policy(&self) -> Policy {
        self.over(&self.state())
    }

    /// The policy with the decisions over it, as it reads on this board.
    fn over(&self, state: &State) -> Policy {
        let policy = state.decisions.over(&state.base);
        let invoice_network = policy.invoice_network.map(|network| OrderNetwork::Named(network.on(self.network)));
        Policy { invoice_network, ..policy }
    }

    pub(crate) fn decisions(&self) -> Decisions {
        self.state().decisions.clone()
    }

    /// Keeps a decision on disk, then has it hold. When it cannot be kept it does not hold either.
    pub(crate) fn decide(&self, decision: Decision, at: Unix, current: &CurrentPolicy) -> Result<(), DecisionsError> {
        let mut state = self.state();
        let mut decisions = state.decisions.clone();
        decisions.decide(decision, &state.base, at)?;
        decisions.save(&self.path)?;
        state.decisions = decisions;
        current.set(self.over(&state));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_was_set_holds_at_once_and_after_a_restart_with_the_decisions_over_it() {
        let dir = tempfile::tempdir().unwrap();
        let current = CurrentPolicy::default();
        let standing = Standing::open(dir.path(), Policy::default(), Network::Regtest).unwrap();
        standing.decide(Decision::DenyKind { kind: 7 }, Unix(5), &current).unwrap();
        let text = "# by hand\nkinds = [\"1-9\"]\nper-author = { burst = 1, per-minute = 2 }\n";
        standing.set(text, Path::new("mine.toml"), &current).unwrap();
        let again = Standing::open(dir.path(), Policy::default(), Network::Regtest).unwrap();
        for policy in [&*current.get(), &again.policy()] {
            assert!(policy.takes_kind(1) && !policy.takes_kind(7) && !policy.takes_kind(10));
            assert_eq!(policy.per_author.map(|rate| rate.per_minute), Some(2));
        }
        assert_eq!(again.policy().invoice_network, Some(OrderNetwork::Named(crate::policy::Network(Network::Regtest))));
        assert!(standing.base().takes_kind(7), "what was written stays as it was written");
        assert_eq!(fs::read_to_string(dir.path().join(POLICY_FILE)).unwrap(), text);
    }

    #[test]
    fn a_policy_with_a_mistake_is_refused_by_file_line_and_key_and_the_old_one_holds() {
        let dir = tempfile::tempdir().unwrap();
        let current = CurrentPolicy::default();
        let standing = Standing::open(dir.path(), Policy::default(), Network::Regtest).unwrap();
        let before = current.get();
        for (text, needle) in
            [("\nkindz = [1]\n", "kindz"), ("\ntags = \"many\"\n", "tags"), ("\nkinds = [70000]\n", "70000")]
        {
            let why = standing.set(text, Path::new("mine.toml"), &current).unwrap_err().to_string();
            assert!(why.contains("mine.toml") && why.contains("line 2") && why.contains(needle), "{why}");
            fs::write(dir.path().join(POLICY_FILE), text).unwrap();
            let why = standing.reload(Policy::default(), &current).unwrap_err().to_string();
            assert!(why.contains(POLICY_FILE) && why.contains(needle), "{why}");
            assert!(Standing::open(dir.path(), Policy::default(), Network::Regtest).is_err());
            fs::remove_file(dir.path().join(POLICY_FILE)).unwrap();
        }
        assert_eq!(*before, *current.get());
        standing.reload(Policy { tags: 3, ..Policy::default() }, &current).unwrap();
        assert_eq!(current.get().tags, 3);
    }
}
