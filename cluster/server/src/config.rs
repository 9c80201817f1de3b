//! The configuration file: Temporal's YAML keys where the idea is the same. Unknown keys are errors that
//! name the nearest known one; `${NAME}` and `${NAME:-default}` are replaced from the environment before
//! parsing. Only this crate reads files and environment.

mod datastore;
mod environment;
mod file;
mod nearest;
mod node;
mod notices;
mod ports;
mod secret;
mod trust;

use std::path::{Path, PathBuf};

pub use datastore::DatastoreConfig;
pub use file::{ConfigFile, DcRedirectionPolicyName};
pub(crate) use nearest::distance;
pub use node::{
    ClusterConfig, DynamicConfig, MembershipConfig, NodeConfig, RedirectionPolicy, RoleAddress,
    TlsClient, TlsConfig, TlsGroup, TlsServer,
};
pub use proto_ids::parse_duration;
pub(crate) use trust::ANY;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not what a configuration looks like.
    #[error("{path}: {problem}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what, with the nearest known key for an unknown one.
        problem: String,
    },
    /// A value is missing or cannot be used.
    #[error("{key}: {problem}")]
    Value {
        /// The key, dotted.
        key: String,
        /// The defect and the remedy.
        problem: String,
    },
}

impl ConfigError {
    pub(crate) fn value(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Value {
            key: key.into(),
            problem: problem.into(),
        }
    }
}

/// Reads and validates a configuration file. Relative paths in it are taken from the working directory.
pub fn load(path: &Path) -> Result<NodeConfig, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&text, path, &|name| std::env::var(name).ok())
}

/// Parses and validates a configuration text; `path` is for messages only.
pub fn parse(
    text: &str,
    path: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<NodeConfig, ConfigError> {
    let wrong = |problem| ConfigError::Parse {
        path: path.to_owned(),
        problem,
    };
    let expanded = environment::substitute(text, environment).map_err(wrong)?;
    // A piece of the text in the message would show whatever stands near the mistake.
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    let file: ConfigFile = serde_saphyr::from_str_with_options(&expanded.text, options)
        .map_err(|e| wrong(expanded.redact(&nearest::explain(&e.to_string()))))?;
    NodeConfig::from_file(file).map_err(|error| match error {
        ConfigError::Value { key, problem } => ConfigError::Value {
            problem: expanded.redact(&problem),
            key,
        },
        other => other,
    })
}

#[cfg(test)]
mod tests;
