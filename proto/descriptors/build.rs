//! Compiles this project's own .proto files against the public API's descriptor set, which the build
//! script of `temporalio-protos` writes and hands over through that crate's `links` metadata, and
//! writes one pruned set for the code generators of `proto-messages` and `proto-services`.

use std::{
    collections::{HashMap, HashSet},
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use protox::file::{
    ChainFileResolver, DescriptorSetFileResolver, GoogleFileResolver, IncludeFileResolver,
};

/// Public entry points. Their imports follow; the rest of the published set is left out.
const ROOTS: &[&str] = &[
    "temporal/api/workflowservice/v1/service.proto",
    "temporal/api/operatorservice/v1/service.proto",
    "temporal/api/errordetails/v1/message.proto",
    "temporal/api/sdk/v1/workflow_metadata.proto",
    "google/rpc/status.proto",
];

/// Files that only declare options for other generators.
const OPTION_ONLY: &[&str] = &[
    "google/api/",
    "protoc-gen-openapiv2/",
    "nexusannotations/",
    "temporal/api/protometa/",
];

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let upstream = PathBuf::from(
        env::var_os("DEP_TEMPORALIO_PROTOS_DESCRIPTOR_PATH")
            .ok_or("temporalio-protos has to be a normal dependency, not a build dependency")?,
    );
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../internal");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", upstream.display());
    println!("cargo::rerun-if-changed={}", own.display());

    // Imports are looked up in our include root, then in the public set, then in protox's built-in
    // google/protobuf files.
    let mut resolver = ChainFileResolver::new();
    resolver.add(IncludeFileResolver::new(own.clone()));
    resolver.add(DescriptorSetFileResolver::decode(
        fs::read(&upstream)?.as_slice(),
    )?);
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true);
    let mut own_files = Vec::new();
    find_protos(&own, &own, &mut own_files)?;
    compiler.open_files(own_files.iter().map(String::as_str))?;
    compiler.open_files(ROOTS)?;

    let mut fds = compiler.file_descriptor_set();
    let keep = closure(
        &fds,
        own_files
            .iter()
            .map(String::as_str)
            .chain(ROOTS.iter().copied()),
    );
    fds.file.retain(|f| keep.contains(f.name()));
    fs::write(out.join("pruned.bin"), fds.encode_to_vec())?;
    fs::write(out.join("all.bin"), compiler.encode_file_descriptor_set())?;
    Ok(())
}

fn find_protos(root: &Path, dir: &Path, into: &mut Vec<String>) -> Result<(), Box<dyn Error>> {
    let mut entries = fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::path);
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            find_protos(root, &path, into)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            into.push(
                path.strip_prefix(root)?
                    .to_str()
                    .ok_or("path is not UTF-8")?
                    .to_owned(),
            );
        }
    }
    Ok(())
}

/// `roots` and everything they import, without the option-only files.
fn closure<'a>(fds: &FileDescriptorSet, roots: impl Iterator<Item = &'a str>) -> HashSet<String> {
    let by_name: HashMap<&str, &FileDescriptorProto> =
        fds.file.iter().map(|f| (f.name(), f)).collect();
    let mut todo: Vec<&str> = roots.collect();
    let mut keep = HashSet::new();
    while let Some(name) = todo.pop() {
        if OPTION_ONLY.iter().any(|p| name.starts_with(p)) || !keep.insert(name.to_owned()) {
            continue;
        }
        todo.extend(by_name[name].dependency.iter().map(String::as_str));
    }
    keep
}
