//! Generates the message types of the public API and of this project's own protos.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    println!("cargo::rerun-if-changed=build.rs");
    fs::write(out.join("descriptors.bin"), proto_descriptors::ALL)?;
    let mut config = prost_build::Config::new();
    config
        .enable_type_names()
        .bytes(["."])
        .include_file("api.rs")
        .compile_fds(prost_types::FileDescriptorSet::decode(
            proto_descriptors::PRUNED,
        )?)?;
    Ok(())
}
