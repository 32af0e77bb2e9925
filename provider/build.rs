//! Has a release bring libgcc's unwinder along: see docs/adr/0018.

use std::env::var;
use std::path::PathBuf;
use std::process::Command;

/// The standard library asks for `gcc_s`, and a linker takes a script (ld(1), "implicit linker script") for a library.
const INSTEAD: &str = "INPUT ( -lgcc_eh -lgcc )\n";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let is_for = |name, value| var(name).is_ok_and(|it| it == value);
    let is_gnu = is_for("CARGO_CFG_TARGET_OS", "linux") && is_for("CARGO_CFG_TARGET_ENV", "gnu");
    if is_gnu && is_for("PROFILE", "release") && var("HOST")? == var("TARGET")? && has_unwinder() {
        let folder = PathBuf::from(var("OUT_DIR")?);
        std::fs::write(folder.join("libgcc_s.so"), INSTEAD)?;
        println!("cargo::rustc-link-search=native={}", folder.display());
    }
    Ok(())
}

/// Whether the compiler that links has it as a library of its own: by name alone it is not there.
fn has_unwinder() -> bool {
    let asked = Command::new("cc").arg("-print-file-name=libgcc_eh.a").output();
    asked.is_ok_and(|said| said.stdout.starts_with(b"/"))
}
