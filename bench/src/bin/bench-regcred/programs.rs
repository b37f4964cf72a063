//! Builds what is measured, as it is released.

use regcred_bench::{Result, subject::Programs};
use regcred_tests::binaries::workspace_binary;

/// The operator (`REGCRED_BINARY`, or a release build of this checkout) and the bare writer.
pub(crate) fn build() -> Result<Programs> {
    let regcred = match std::env::var_os("REGCRED_BINARY") {
        Some(path) => path.into(),
        None => workspace_binary("regcred", "regcred", &["--release"])?,
    };
    Ok(Programs { regcred, bare_writer: workspace_binary("regcred-bench", "bare-writer", &["--release"])? })
}
