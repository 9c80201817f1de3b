//! Live settings from a file in Temporal's format: for each key a list of values with constraints. The file
//! is looked at every few seconds; one that cannot be used leaves the values as they were. A value of the
//! wrong type is an error, an unknown key is named.

use std::{collections::BTreeMap, path::Path, time::SystemTime};

use anyhow::Context;
use cluster_runtime::{
    AnyKey,
    settings::{Published, Scope, Scoped, Settings, Value},
    task::{TaskKind, Tasks},
};
use serde::Deserialize;

use crate::config::{DynamicConfig, distance, parse_duration};

/// An unknown key this close to a known one is taken for a slip.
const SLIP: usize = 3;

/// One value and where it holds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    value: serde_json::Value,
    #[serde(default)]
    constraints: Option<BTreeMap<String, serde_json::Value>>,
}

/// The content of a file.
#[derive(Debug)]
struct Read {
    values: Published,
    /// Unknown keys.
    unknown: Vec<String>,
}

/// Every setting that some part of the server obeys.
pub fn known_settings() -> Vec<&'static dyn AnyKey> {
    let lists = [
        cluster_runtime::overload::SETTINGS,
        cluster_rpc::serve::SETTINGS,
        namespaces::SETTINGS,
        cluster_shard::SETTINGS,
        cluster_history::SETTINGS,
        replication::SETTINGS,
    ];
    let mut all: Vec<_> = lists.into_iter().flatten().copied().collect();
    all.extend(cluster_frontend::settings());
    all
}

/// Reads the file now (an error stops the start) and keeps it read.
pub(crate) async fn follow(
    config: DynamicConfig,
    settings: Settings,
    tasks: &Tasks,
) -> anyhow::Result<()> {
    let at_start = modified(&config.path);
    let found = read(&config.path)?;
    name_unknown(&config.path, &found.unknown);
    settings.publish(found.values);
    tasks.spawn_restarting(TaskKind::Background, "dynamic-config", move || {
        keep_reading(config.clone(), settings.clone(), at_start)
    });
    Ok(())
}

/// Reads the file whenever it changes from what it was at first.
async fn keep_reading(
    config: DynamicConfig,
    settings: Settings,
    mut seen: Option<(SystemTime, u64)>,
) {
    loop {
        tokio::time::sleep(config.interval).await;
        let now = modified(&config.path);
        if now == seen {
            continue;
        }
        seen = now;
        match read(&config.path) {
            Ok(found) => {
                tracing::info!(path = %config.path.display(), "dynamic configuration was read again");
                name_unknown(&config.path, &found.unknown);
                settings.publish(found.values);
            }
            Err(error) => {
                tracing::warn!(path = %config.path.display(), error = format!("{error:#}"), "dynamic configuration cannot be used; the values of before stay");
            }
        }
    }
}

/// Reads the file once, for its errors and what there is to say about it.
pub(crate) fn check(config: &DynamicConfig) -> anyhow::Result<Vec<String>> {
    Ok(remarks(&read(&config.path)?.unknown))
}

fn name_unknown(path: &Path, unknown: &[String]) {
    for remark in remarks(unknown) {
        tracing::warn!(path = %path.display(), "{remark}");
    }
}

/// Slips one by one, with what was meant; the rest in one line.
fn remarks(unknown: &[String]) -> Vec<String> {
    let known = known_settings();
    let mut lines = Vec::new();
    let mut rest = Vec::new();
    for key in unknown {
        let folded = key.to_lowercase();
        let close = known
            .iter()
            .map(|k| (distance(&k.name().to_lowercase(), &folded), k.name()))
            .min()
            .filter(|(far, _)| *far <= SLIP);
        match close {
            Some((_, meant)) => {
                lines.push(format!("no setting is named {key}; did you mean {meant}?"));
            }
            None => rest.push(key.as_str()),
        }
    }
    if !rest.is_empty() {
        lines.push(format!(
            "these settings have no meaning here and are ignored: {}",
            rest.join(", ")
        ));
    }
    lines
}

fn modified(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn read(path: &Path) -> anyhow::Result<Read> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!(
            "read {}, which dynamicConfigClient.filepath names",
            path.display()
        )
    })?;
    parse(&text).with_context(|| path.display().to_string())
}

fn parse(text: &str) -> anyhow::Result<Read> {
    let options = serde_saphyr::options! { strict_booleans: true };
    // A file of comments alone is empty.
    let file: Option<BTreeMap<String, Vec<Entry>>> =
        serde_saphyr::from_str_with_options(text, options)?;
    let known: BTreeMap<String, &dyn AnyKey> = known_settings()
        .into_iter()
        .map(|key| (key.name().to_lowercase(), key))
        .collect();
    let mut found = Read {
        values: Published::new(),
        unknown: Vec::new(),
    };
    for (key, entries) in file.unwrap_or_default() {
        let Some(setting) = known.get(&key.to_lowercase()) else {
            found.unknown.push(key);
            continue;
        };
        let scopes = entries.into_iter().map(|e| scoped(*setting, e));
        let scopes: anyhow::Result<_> = scopes.collect();
        found.values.insert(key.clone(), scopes.context(key)?);
    }
    Ok(found)
}

fn scoped(setting: &dyn AnyKey, entry: Entry) -> anyhow::Result<Scoped> {
    let mut scope = Scope::default();
    for (name, constraint) in entry.constraints.unwrap_or_default() {
        let text = constraint.as_str().map(str::to_owned);
        let text = text.with_context(|| format!("the constraint {name} has to be text"))?;
        match name.to_lowercase().as_str() {
            "namespace" => scope.namespace = Some(text),
            "taskqueuename" => scope.task_queue = Some(text),
            _ => anyhow::bail!(
                "the constraint {name} is not supported; namespace and taskQueueName are"
            ),
        }
    }
    let shown = entry.value.to_string();
    let value = value(entry.value)?;
    anyhow::ensure!(
        setting.accepts(&value),
        "{shown} is not {}; the default is {}",
        setting.kind(),
        setting.default_text()
    );
    Ok(Scoped { scope, value })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_the_wrong_type_is_an_error_that_says_what_is_right() {
        for (text, expected) in [
            ("frontend.rps: [{ value: abc }]", "\"abc\" is not a number"),
            (
                "system.enableEagerWorkflowStart: [{ value: 3 }]",
                "true or false",
            ),
            (
                "history.queryTimeout: [{ value: soon }]",
                "a duration such as 10s",
            ),
            ("frontend.rps: [{ value: }]", "has no value"),
            (
                "frontend.rps: [{ value: 1, constraints: { taskType: Workflow } }]",
                "taskType is not supported",
            ),
        ] {
            let told = format!("{:#}", parse(text).expect_err(text));
            assert!(told.contains(expected), "{text}: {told}");
        }
    }

    #[test]
    fn keys_that_nobody_obeys_are_named() {
        let text = "
frontend.rsp: [{ value: 10 }]
FRONTEND.namespacerps: [{ value: 10, constraints: { namespace: a } }]
component.callbacks.allowedAddresses: [{ value: [{ Pattern: \"*\", AllowInsecure: true }] }]
history.enableChasm: [{ value: true, constraints: { namespaceID: x } }]
";
        let found = parse(text).expect("read");
        assert_eq!(found.values.len(), 1);
        let remarks = remarks(&found.unknown);
        assert_eq!(
            remarks,
            [
                "no setting is named frontend.rsp; did you mean frontend.rps?",
                "these settings have no meaning here and are ignored: component.callbacks.allowedAddresses, history.enableChasm",
            ]
        );
        assert!(
            parse("# nothing but a comment\n")
                .expect("empty")
                .values
                .is_empty()
        );
    }

    /// A setting that is missing in the lists would be obeyed and called unknown.
    #[test]
    fn every_key_in_the_source_is_listed() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let known: Vec<_> = known_settings().iter().map(|key| key.name()).collect();
        let mut folders = vec![
            root.join("cluster"),
            root.join("namespaces"),
            root.join("replication"),
        ];
        let mut seen = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("list").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                if path.extension().is_none_or(|e| e != "rs")
                    || path.ends_with("runtime/src/settings.rs")
                {
                    continue;
                }
                let text = std::fs::read_to_string(&path).expect("read");
                for (at, _) in text.match_indices(" Key::new(") {
                    let Some((name, _)) = text[at + 10..]
                        .trim_start()
                        .strip_prefix('"')
                        .and_then(|t| t.split_once('"'))
                    else {
                        continue;
                    };
                    if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '.') {
                        continue;
                    }
                    seen += 1;
                    assert!(
                        known.contains(&name),
                        "{name} of {} is in no list of settings",
                        path.display()
                    );
                }
            }
        }
        assert!(seen > 20, "only {seen} keys were found");
    }
}
