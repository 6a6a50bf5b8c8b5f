//! The program: arguments, terminal, exit codes.
//!
//! This crate alone prints, exits, and reads arguments and environment. stdout is for what could
//! be piped to another program, stderr for people.

pub mod args;
pub mod commands;
pub mod counted;
pub mod environment;
pub mod failure;
pub mod machine;
pub mod progress;
pub mod signals;
pub mod terminal;

use clap::Parser as _;

use args::Args;
use failure::{Failure, exit_code};
use terminal::Terminal;

/// Runs the program on the arguments of this process and gives its exit code.
pub fn main() -> u8 {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(message) => {
            // Help and version are no failure, and go to stdout.
            let is_asked_for = !message.use_stderr();
            return match message.print() {
                Ok(()) if is_asked_for => exit_code::DONE,
                _ => exit_code::RECIPE,
            };
        }
    };
    let mut terminal = Terminal::new();
    let done = signals::survive_size_limit().map_err(Failure::Io);
    match done.and_then(|()| commands::run(&args.command, &mut terminal)) {
        // Where the reader of our output has gone, nobody is left to tell.
        Ok(()) | Err(Failure::Pipe) => exit_code::DONE,
        Err(failure) => {
            terminal.print(&failure.render());
            failure.exit_code()
        }
    }
}
