//! The binary: chooses what to do and hands over.

use std::process::ExitCode;

use sindri::provider::Provider;
use tfplugin::{ServeOptions, serve};

/// Where the provider is found in the registries.
const ADDRESS: &str = "sindri/sindri";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_ref().and_then(|arg| arg.to_str()) {
        None => provide(false),
        Some("-debug" | "--debug") => provide(true),
        Some("enter") => exit_code(sindri::process::enter::main(args)),
        Some("supervise") => exit_code(sindri::process::supervise::main(args)),
        Some(other) => sindri::by_hand::run(other, args),
    }
}

fn provide(debug: bool) -> ExitCode {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    serve(Provider::default(), &ServeOptions { address: ADDRESS.to_owned(), version, debug })
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}
