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
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};
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

/// The served methods of the public services. Code is generated for these methods and the messages they need; whatever
/// else the published set has answers UNIMPLEMENTED and costs nothing.
const SERVED: &[(&str, &[&str])] = &[
    (
        "temporal.api.workflowservice.v1.WorkflowService",
        WORKFLOW_METHODS,
    ),
    (
        "temporal.api.operatorservice.v1.OperatorService",
        OPERATOR_METHODS,
    ),
];
const WORKFLOW_METHODS: &[&str] = &[
    "StartWorkflowExecution",
    "SignalWithStartWorkflowExecution",
    "SignalWorkflowExecution",
    "RequestCancelWorkflowExecution",
    "TerminateWorkflowExecution",
    "DeleteWorkflowExecution",
    "ResetWorkflowExecution",
    "QueryWorkflow",
    "DescribeWorkflowExecution",
    "GetWorkflowExecutionHistory",
    "GetWorkflowExecutionHistoryReverse",
    "PollWorkflowTaskQueue",
    "RespondWorkflowTaskCompleted",
    "RespondWorkflowTaskFailed",
    "RespondQueryTaskCompleted",
    "ResetStickyTaskQueue",
    "ShutdownWorker",
    "PollActivityTaskQueue",
    "RecordActivityTaskHeartbeat",
    "RecordActivityTaskHeartbeatById",
    "RespondActivityTaskCompleted",
    "RespondActivityTaskCompletedById",
    "RespondActivityTaskFailed",
    "RespondActivityTaskFailedById",
    "RespondActivityTaskCanceled",
    "RespondActivityTaskCanceledById",
    "DescribeTaskQueue",
    "ListTaskQueuePartitions",
    "ListWorkflowExecutions",
    "ScanWorkflowExecutions",
    "ListOpenWorkflowExecutions",
    "ListClosedWorkflowExecutions",
    "CountWorkflowExecutions",
    "GetSystemInfo",
    "GetClusterInfo",
    "GetSearchAttributes",
    "RegisterNamespace",
    "DescribeNamespace",
    "ListNamespaces",
    "UpdateNamespace",
    "DeprecateNamespace",
];
const OPERATOR_METHODS: &[&str] = &[
    "AddOrUpdateRemoteCluster",
    "ListClusters",
    "ListSearchAttributes",
    "RemoveRemoteCluster",
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
    keep_served(&mut fds)?;
    keep_needed(&mut fds, &own_files);
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

/// Drops methods of public services that are not served; a name that is not there is an error.
fn keep_served(fds: &mut FileDescriptorSet) -> Result<(), Box<dyn Error>> {
    for (service_name, served) in SERVED {
        let mut known = HashSet::new();
        for file in &mut fds.file {
            let package = file.package().to_owned();
            let mut services = file.service.iter_mut();
            let wanted = services.find(|s| format!("{package}.{}", s.name()) == *service_name);
            if let Some(service) = wanted {
                known.extend(service.method.iter().map(|m| m.name().to_owned()));
                service.method.retain(|m| served.contains(&m.name()));
            }
        }
        if let Some(missing) = served.iter().find(|name| !known.contains(**name)) {
            return Err(format!("{service_name} has no method {missing}").into());
        }
    }
    Ok(())
}

/// Drops messages and enums that neither a method, nor one of our own files, nor a file of stand-alone messages needs.
fn keep_needed(fds: &mut FileDescriptorSet, own_files: &[String]) {
    let mut needs: HashMap<String, Vec<String>> = HashMap::new();
    let mut todo = Vec::new();
    for file in &fds.file {
        // A service's file holds the messages of all its methods, so it counts by its methods.
        let is_whole = own_files.iter().any(|own| own == file.name())
            || ROOTS.contains(&file.name()) && file.service.is_empty();
        let path = |name: &str| format!(".{}.{name}", file.package());
        for message in &file.message_type {
            let mut of_message = Vec::new();
            types_of(message, &mut of_message);
            needs.insert(path(message.name()), of_message);
            if is_whole {
                todo.push(path(message.name()));
            }
        }
        for method in file.service.iter().flat_map(|s| &s.method) {
            todo.extend([
                method.input_type().to_owned(),
                method.output_type().to_owned(),
            ]);
        }
    }
    let mut needed = HashSet::new();
    while let Some(name) = todo.pop() {
        // A nested type is needed as a part of the type it is nested in.
        let top = std::iter::successors(Some(name.as_str()), |n| {
            n.rsplit_once('.').map(|(up, _)| up)
        })
        .find(|n| needs.contains_key(*n))
        .unwrap_or(&name)
        .to_owned();
        if needed.insert(top.clone()) {
            todo.extend(needs.get(&top).into_iter().flatten().cloned());
        }
    }
    for file in &mut fds.file {
        let is_own = own_files.iter().any(|own| own == file.name());
        let package = file.package().to_owned();
        let keep = |name: &str| is_own || needed.contains(&format!(".{package}.{name}"));
        file.message_type.retain(|m| keep(m.name()));
        file.enum_type.retain(|e| keep(e.name()));
    }
}

/// The types of all fields of a message, and of the messages in it.
fn types_of(message: &DescriptorProto, into: &mut Vec<String>) {
    let fields = message.field.iter().filter_map(|f| f.type_name.clone());
    into.extend(fields);
    for nested in &message.nested_type {
        types_of(nested, into);
    }
}
