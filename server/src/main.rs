//! The binary `kymo`: flags in, a running server out.

mod allocator;

use kymo_server::config::flags::{self, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    allocator::hold_little();
    let ended = match flags::from_process() {
        Command::Serve(flags) => kymo_server::run::run(*flags),
        Command::Tsdb { command } => kymo_server::tsdb::run(&command),
    };
    match ended {
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
