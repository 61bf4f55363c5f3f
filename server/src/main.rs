//! The binary `kymo`: flags in, a running server out.

use kymo_server::config::flags;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match kymo_server::run::run(flags::from_process()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            #[allow(
                clippy::print_stderr,
                reason = "the last word of a process that could not start, log or no log"
            )]
            {
                eprintln!("kymo: {reason}");
            }
            ExitCode::FAILURE
        }
    }
}
