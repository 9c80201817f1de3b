//! Generates gRPC server traits and clients over the message types of `proto-messages`.

use std::error::Error;

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let fds = prost_types::FileDescriptorSet::decode(proto_descriptors::PRUNED)?;
    tonic_prost_build::configure()
        .extern_path(".temporal", "::proto_messages::temporal")
        .extern_path(".meridian", "::proto_messages::meridian")
        .extern_path(".google.rpc", "::proto_messages::google::rpc")
        .generate_default_stubs(true)
        .include_file("services.rs")
        .compile_fds_with_config(fds, prost_build::Config::new())?;
    Ok(())
}
