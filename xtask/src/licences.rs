//! Every crate that ends up in the program has a licence that fits MIT OR Apache-2.0.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Licences (SPDX) that a dependency may have.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MITNFA",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// One sentence for each crate of the lock file whose licence does not fit.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root)
        .output()
        .context("cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let misfits = packages.iter().filter_map(|package| {
        let (name, licence) = (package["name"].as_str()?, package["license"].as_str().unwrap_or("none stated"));
        (!fits(licence)).then(|| format!("{name}: licence {licence} is not on the list (xtask/src/licences.rs)"))
    });
    Ok(misfits.collect())
}

/// Every part joined by AND has an alternative that is allowed.
fn fits(expression: &str) -> bool {
    expression.split(" AND ").all(|part| {
        let alternatives = part.trim_matches(['(', ')']).replace('/', " OR ");
        alternatives.split(" OR ").any(|licence| ALLOWED.contains(&licence.trim_matches(['(', ')', ' '])))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dependency_has_a_licence_that_fits() {
        let misfits = check(&crate::root()).unwrap();
        assert!(misfits.is_empty(), "{}", misfits.join("\n"));
    }

    #[test]
    fn one_allowed_alternative_is_enough_and_every_part_counts() {
        assert!(fits("MIT/Apache-2.0") && fits("(MIT OR GPL-3.0) AND Unicode-3.0"));
        assert!(!fits("GPL-3.0-only") && !fits("MIT AND GPL-2.0") && !fits("none stated"));
    }
}
