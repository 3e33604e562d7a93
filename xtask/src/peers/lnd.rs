//! LND, built from the Go module proxy, against our embedded node.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::cargo;

const LND: &str = "v0.21.2-beta";
/// The first minor version that is surely as new as LND's own `go.mod` asks for.
const GO: (u32, u32) = (1, 26);
/// LND replaces three modules, which `go install module@version` refuses to follow: it is built from a module of ours.
const LND_MODULE: &str = "module peers

go 1.25.10

require github.com/lightningnetwork/lnd v0.21.2-beta

replace github.com/ulikunitz/xz => github.com/ulikunitz/xz v0.5.11

replace github.com/gogo/protobuf => github.com/gogo/protobuf v1.3.2

replace google.golang.org/protobuf => github.com/lightninglabs/protobuf-go-hex-display v1.33.0-hex-display
";
const LND_PROGRAMS: [&str; 2] =
    ["github.com/lightningnetwork/lnd/cmd/lnd", "github.com/lightningnetwork/lnd/cmd/lncli"];
/// The RPC services that the stories use beside the main one.
const LND_TAGS: &str = "invoicesrpc routerrpc walletrpc";

/// A peer that this machine has, or why it has not.
enum Found {
    /// The folder with its programs.
    Here(PathBuf),
    /// Why it is skipped.
    Missing(String),
}

/// Runs the stories. Gives why they are skipped, if they are.
pub(super) fn run(root: &Path) -> Result<Option<String>> {
    let programs = match programs(root)? {
        Found::Here(programs) => programs,
        Found::Missing(why) => return Ok(Some(format!("{LND}: {why}"))),
    };
    println!("lnd {LND}: {}", programs.display());
    // The whole workspace, so that the features of the dependencies are those that were built already.
    let tests = ["test", "--locked", "--workspace", "--features", "node-ldk/peers", "--test", "peers"];
    let status = cargo().args(tests).env("SOUK_LND", programs).current_dir(root).status();
    if !status.context("starting cargo")?.success() {
        bail!("a story with LND failed");
    }
    Ok(None)
}

/// LND and lncli, kept by version in `target/peers`.
fn programs(root: &Path) -> Result<Found> {
    let folder = root.join("target/peers").join(format!("lnd-{LND}"));
    let programs = folder.join("bin");
    if LND_PROGRAMS.iter().all(|path| programs.join(name_of(path)).is_file()) {
        return Ok(Found::Here(programs));
    }
    match go_version() {
        Some(version) if version >= GO => {}
        Some((major, minor)) => {
            return Ok(Found::Missing(format!("go {major}.{minor} is too old, {}.{} is needed", GO.0, GO.1)));
        }
        None => return Ok(Found::Missing("go is not installed".into())),
    }
    println!("building lnd {LND} from the Go module proxy; this takes a few minutes");
    fs::create_dir_all(&programs).context("target/peers")?;
    fs::write(folder.join("go.mod"), LND_MODULE)?;
    for path in LND_PROGRAMS {
        // Built beside its place and moved there, so that a build that was broken off is not taken for a program.
        let half = folder.join(name_of(path));
        let mut build = Command::new("go");
        build.args(["build", "-mod=mod", "-trimpath", "-ldflags=-s -w", "-tags", LND_TAGS, "-o"]);
        if !build.arg(&half).arg(path).current_dir(&folder).status().context("starting go")?.success() {
            return Ok(Found::Missing("it cannot be built; see above".into()));
        }
        fs::rename(&half, programs.join(name_of(path)))?;
    }
    Ok(Found::Here(programs))
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Major and minor version of Go, if there is one.
fn go_version() -> Option<(u32, u32)> {
    let output = Command::new("go").args(["env", "GOVERSION"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut numbers = text.trim().strip_prefix("go")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_names_the_version_that_is_kept() {
        assert!(LND_MODULE.contains(&format!("require github.com/lightningnetwork/lnd {LND}\n")));
        assert_eq!(LND_PROGRAMS.map(name_of), ["lnd", "lncli"]);
    }
}
