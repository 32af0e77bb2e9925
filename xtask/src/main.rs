//! Chores of the project: `tidy`, `docs`, `bench`. Run as `cargo run --package xtask -- CHORE`.
#![allow(clippy::print_stdout)] // Printing is what a chore does.

mod bench;
mod docs;
mod repository;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "usage: xtask tidy | docs [--check] | bench [--only FIGURE]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["tidy"] => tidy::run(),
        ["docs"] => docs::write(),
        ["docs", "--check"] => docs::check(),
        ["bench"] => bench::run(None),
        ["bench", "--only", figure] => bench::run(Some(figure)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {}: {error:#}", arguments.join(" "));
            ExitCode::FAILURE
        }
    }
}
