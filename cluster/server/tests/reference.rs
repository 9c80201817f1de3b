//! `docs/configuration.md` and `docs/settings.md` say what the code says: they are made from the doc comments of the
//! configuration's shape, and from the settings that some part of the server obeys. With `MERIDIAN_BLESS=1` they are
//! written anew.

use std::{collections::BTreeMap, fmt::Write, path::Path};

/// The configuration's shape, as text.
const SHAPE: &str = include_str!("../src/config/file.rs");

/// One key of one struct.
struct Field {
    key: String,
    kind: String,
    doc: String,
}

/// The fields of each struct, by its name.
fn structs() -> BTreeMap<&'static str, Vec<Field>> {
    let mut all: BTreeMap<&str, Vec<Field>> = BTreeMap::new();
    let mut current = None;
    let (mut doc, mut renamed) = (Vec::new(), None);
    for line in SHAPE.lines() {
        let text = line.trim();
        if let Some(name) = text
            .strip_prefix("pub struct ")
            .and_then(|t| t.strip_suffix(" {"))
        {
            current = Some(name);
            doc.clear();
        } else if let Some(words) = text.strip_prefix("///") {
            doc.push(words.trim());
        } else if let Some(name) = text.strip_prefix("#[serde(rename = \"") {
            renamed = name.split('"').next();
        } else if let (Some(owner), Some(field)) = (current, text.strip_prefix("pub "))
            && let Some((name, kind)) = field.trim_end_matches(',').split_once(": ")
        {
            all.entry(owner).or_default().push(Field {
                key: renamed.take().map_or_else(|| camel(name), str::to_owned),
                kind: kind.to_owned(),
                doc: std::mem::take(&mut doc).join(" "),
            });
        } else if text == "}" {
            current = None;
            doc.clear();
        }
    }
    all
}

fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let (first, rest) = word.split_at(1);
        camel.push_str(&first.to_uppercase());
        camel.push_str(rest);
    }
    camel
}

/// The type inside `Option`, `Vec` and maps, and what its key is called in a dotted path.
fn inside(kind: &str) -> (&str, &'static str) {
    for (around, step) in [
        ("Option<", ""),
        ("Vec<", ""),
        ("BTreeMap<String, ", ".NAME"),
    ] {
        if let Some(inner) = kind.strip_prefix(around).and_then(|k| k.strip_suffix('>')) {
            return (inner, step);
        }
    }
    (kind, "")
}

fn keys(
    all: &BTreeMap<&str, Vec<Field>>,
    owner: &str,
    path: &str,
    used: &mut String,
    unused: &mut Vec<String>,
) {
    for field in all.get(owner).into_iter().flatten() {
        let key = format!("{path}{}", field.key);
        let (inner, step) = inside(&field.kind);
        if inner == "Unused" {
            unused.push(format!("`{key}`"));
            continue;
        }
        let _ = writeln!(
            used,
            "| `{key}{step}` | {} |",
            field.doc.replace('|', "\\|")
        );
        keys(all, inner, &format!("{key}{step}."), used, unused);
    }
}

fn configuration() -> String {
    let (mut used, mut unused) = (String::new(), Vec::new());
    keys(&structs(), "ConfigFile", "", &mut used, &mut unused);
    let (inline, unused): (Vec<_>, Vec<_>) = unused.into_iter().partition(|k| k.ends_with("Data`"));
    format!(
        "# The configuration file\n\nEvery key of the file that `meridian server --config FILE` reads, as the code has it. \
         Keys are Temporal's where the\nidea is the same; `NAME` stands for a name of your choice. `--check` reads a file \
         without starting anything.\n[samples](samples) holds files to start from.\n\n| key | meaning |\n| --- | --- |\n{used}\n\
         These keys of Temporal are accepted, have no meaning here, and are named once at the start:\n\n{}\n\n\
         These are refused, since certificates and keys are read from files:\n\n{}\n",
        unused.join(", "),
        inline.join(", ")
    )
}

fn same(file: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(file);
    if std::env::var_os("MERIDIAN_BLESS").is_some() {
        std::fs::write(&path, made).expect("write");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == made,
        "docs/{file} is not what the code says; MERIDIAN_BLESS=1 cargo test -p cluster-server --test reference writes it"
    );
}

#[test]
fn the_configuration_reference_is_what_the_code_reads() {
    let made = configuration();
    for key in [
        "persistence.datastores.NAME.sql.pluginName",
        "services.NAME.rpc.bindOnIP",
    ] {
        assert!(
            made.contains(&format!("| `{key}` |")),
            "{key} is missing:\n{made}"
        );
    }
    same("configuration.md", &made);
}

fn settings() -> String {
    let mut known = cluster_server::known_settings();
    known.sort_by_key(|key| key.name().to_lowercase());
    let mut rows = String::new();
    for key in known {
        let _ = writeln!(
            rows,
            "| `{}` | {} | `{}` | {} |",
            key.name(),
            key.kind(),
            key.default_text(),
            key.doc().replace('|', "\\|")
        );
    }
    format!(
        "# Live settings\n\nEvery key of the file that `dynamicConfigClient.filepath` names, as the code has it. The file has \
         Temporal's format, and is read\nagain when it changes: a list of values for each key, each with the `constraints` \
         (`namespace`, `taskQueueName`) where it holds. A value of\nanother type refuses the file; the values of before stay. \
         A key that is not here is named in the log.\n\n```yaml\nfrontend.namespaceRPS:\n  - value: 100\n  - value: 20\n    \
         constraints: {{ namespace: orders }}\n```\n\n| key | values | default | meaning |\n| --- | --- | --- | --- |\n{rows}"
    )
}

#[test]
fn the_reference_of_settings_is_what_the_code_obeys() {
    let made = settings();
    for key in [
        "frontend.namespaceRPS",
        "history.enableSeparateReplicationEnableFlag",
    ] {
        assert!(
            made.to_lowercase()
                .contains(&format!("| `{}` |", key.to_lowercase())),
            "{key} is missing:\n{made}"
        );
    }
    same("settings.md", &made);
}
