//! The commands, a file each.

mod align;
mod asking;
mod cache;
mod chat;
mod compare;
mod data;
mod doctor;
mod download;
mod eval;
mod foresee;
mod fuse;
mod generate;
mod judging;
mod labelled;
mod output;
mod pairs;
mod plan;
mod quickstart;
mod serve;
mod sweep;
mod sweep_margins;
mod sweep_plan;

use train::recipe::Purpose;

use crate::{
    args::{Command, Data, Judge},
    failure::Failure,
    terminal::Terminal,
};

/// Runs one command.
///
/// # Errors
///
/// Whatever the command fails with.
pub fn run(command: &Command, terminal: &mut Terminal) -> Result<(), Failure> {
    match command {
        Command::Finetune(args) => align::run(args, Purpose::Finetune, terminal),
        Command::Align(args) => align::run(args, Purpose::Align, terminal),
        Command::Eval(args) => eval::run(args, terminal),
        Command::Plan(args) => foresee::run(args, terminal),
        Command::Sweep(args) => sweep::run(args, terminal),
        Command::Judge(Judge::Compare(args)) => judging::compare::run(args, terminal),
        Command::Judge(Judge::Factuality(args)) => judging::factuality::run(args, terminal),
        Command::Compare(args) => compare::run(args, terminal),
        Command::Data(Data::Check(args)) => data::check(args, terminal),
        Command::Data(Data::Sample(args)) => data::sample(args, terminal),
        Command::Download(args) => download::run(args, terminal),
        Command::Data(Data::Pairs(args)) => pairs::run(args, terminal),
        Command::Data(Data::Judge(args)) => labelled::judge::run(args, terminal),
        Command::Data(Data::Corrupt(args)) => labelled::corrupt::run(args, terminal),
        Command::Data(Data::Balance(args)) => labelled::balance::run(args, terminal),
        Command::Generate(args) => generate::run(args, terminal),
        Command::Chat(args) => chat::run(args, terminal),
        Command::Serve(args) => serve::run(args, terminal),
        Command::Fuse(args) => fuse::run(args, terminal),
        Command::Quickstart(args) => quickstart::run(args, terminal),
        Command::Cache(args) => cache::run(*args, terminal),
        Command::Doctor => doctor::run(terminal),
    }
}

/// A size as people read it.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while 1024.0 <= value && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_have_one_decimal() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (16 << 30, "16.0 GiB"),
            (5 << 50, "5120.0 TiB"),
        ] {
            assert_eq!(super::size(bytes), text);
        }
    }
}
