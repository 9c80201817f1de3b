//! Generates the message types of the public API and of this project's own protos.

use std::{collections::HashSet, env, error::Error, fs, path::PathBuf};

use prost::Message;
use prost_build::{Service, ServiceGenerator};

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    println!("cargo::rerun-if-changed=build.rs");
    fs::write(out.join("descriptors.bin"), proto_descriptors::ALL)?;
    let mut config = prost_build::Config::new();
    config
        .enable_type_names()
        .bytes(["."])
        .service_generator(Box::new(Wires::default()))
        .include_file("api.rs")
        .compile_fds(prost_types::FileDescriptorSet::decode(
            proto_descriptors::PRUNED,
        )?)?;
    Ok(())
}

/// Implements `Wire` for whatever a method takes or answers. Services themselves are made elsewhere.
#[derive(Default)]
struct Wires(HashSet<String>);

impl ServiceGenerator for Wires {
    fn generate(&mut self, service: Service, out: &mut String) {
        for method in service.methods {
            let sides = [
                (method.input_proto_type, method.input_type),
                (method.output_proto_type, method.output_type),
            ];
            for (name, path) in sides {
                if self.0.insert(name) {
                    out.push_str(&format!("wire!({path});\n"));
                }
            }
        }
    }
}
