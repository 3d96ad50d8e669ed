//! The `driftline` binary: see `driftline --help`.

use std::process::ExitCode;

// Half of a request's time is waiting for memory, and this allocator keeps together what is made
// together: docs/benchmarks.md has the figures. Libraries that use the crate choose their own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    driftline::cli::main()
}
