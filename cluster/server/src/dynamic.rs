//! Live settings from a file in Temporal's format: for each key a list of values with constraints. The file
//! is looked at every few seconds; one that cannot be read leaves the values as they were.

use std::{collections::BTreeMap, path::Path, time::SystemTime};

use anyhow::Context;
use cluster_runtime::{
    settings::{Published, Scope, Scoped, Settings, Value},
    task::{TaskKind, Tasks},
};
use serde::Deserialize;

use crate::config::{DynamicConfig, parse_duration};

/// One value and where it holds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    value: serde_json::Value,
    #[serde(default)]
    constraints: Constraints,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Constraints {
    namespace: Option<String>,
    task_queue_name: Option<String>,
    task_type: Option<String>,
}

/// Reads the file now (an error stops the start) and keeps it read.
pub(crate) async fn follow(
    config: DynamicConfig,
    settings: Settings,
    tasks: &Tasks,
) -> anyhow::Result<()> {
    let mut seen = modified(&config.path);
    settings.publish(read(&config.path)?);
    tasks.spawn(TaskKind::Background, "dynamic-config", async move {
        loop {
            tokio::time::sleep(config.interval).await;
            let now = modified(&config.path);
            if now == seen {
                continue;
            }
            seen = now;
            match read(&config.path) {
                Ok(values) => {
                    tracing::info!(path = %config.path.display(), "dynamic configuration was read again");
                    settings.publish(values);
                }
                Err(error) => {
                    tracing::warn!(path = %config.path.display(), error = format!("{error:#}"), "dynamic configuration cannot be used; the values of before stay");
                }
            }
        }
    });
    Ok(())
}

fn modified(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn read(path: &Path) -> anyhow::Result<Published> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    if text.trim().is_empty() {
        return Ok(Published::new());
    }
    let options = serde_saphyr::options! { strict_booleans: true };
    let file: BTreeMap<String, Vec<Entry>> = serde_saphyr::from_str_with_options(&text, options)
        .with_context(|| format!("parse {}", path.display()))?;
    let mut values = Published::new();
    for (key, entries) in file {
        let mut scopes = Vec::with_capacity(entries.len());
        for entry in entries {
            scopes.push(scoped(entry).with_context(|| format!("{}: {key}", path.display()))?);
        }
        values.insert(key, scopes);
    }
    Ok(values)
}

fn scoped(entry: Entry) -> anyhow::Result<Scoped> {
    // Task types share their values: no setting tells them apart yet.
    drop(entry.constraints.task_type);
    Ok(Scoped {
        scope: Scope {
            namespace: entry.constraints.namespace,
            task_queue: entry.constraints.task_queue_name,
        },
        value: value(entry.value)?,
    })
}

fn value(json: serde_json::Value) -> anyhow::Result<Value> {
    Ok(match json {
        serde_json::Value::Bool(b) => Value::Bool(b),
        serde_json::Value::Number(n) => match n.as_i64() {
            Some(i) => Value::Int(i),
            None => Value::Float(n.as_f64().context("a number out of range")?),
        },
        serde_json::Value::String(s) => match parse_duration(&s) {
            Some(d) => Value::Duration(d),
            None => Value::Text(s),
        },
        serde_json::Value::Array(list) => {
            Value::List(list.into_iter().map(value).collect::<anyhow::Result<_>>()?)
        }
        serde_json::Value::Object(map) => {
            let entries = map.into_iter().map(|(k, v)| Ok((k, value(v)?)));
            Value::Map(entries.collect::<anyhow::Result<_>>()?)
        }
        serde_json::Value::Null => anyhow::bail!("has no value"),
    })
}
