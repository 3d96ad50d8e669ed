//! The `driftline` binary: see `driftline --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    driftline::cli::main()
}
