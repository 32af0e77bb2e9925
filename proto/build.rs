//! Compiles the protocol's declarations without needing `protoc`.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=protos");
    let descriptors = protox::compile(["tfplugin6.proto", "goplugin.proto", "health.proto"], ["protos"])?;
    // The descriptor test compares this with what upstream declares.
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), protox::prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".tfplugin6.DynamicValue")
        .compile_fds(descriptors)?;
    Ok(())
}
