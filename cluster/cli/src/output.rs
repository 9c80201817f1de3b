//! Printing: tables that fit a terminal, or JSON.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables and sentences.
    Text,
    /// One JSON document.
    Json,
}

impl Format {
    /// Prints `data` as JSON, or what `text` makes of it.
    pub(crate) fn print<T: Serialize>(
        self,
        data: &T,
        text: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        match self {
            Self::Json => println!("{}", serde_json::to_string_pretty(data)?),
            Self::Text => println!("{}", text(data)),
        }
        Ok(())
    }
}

/// A table without lines, as wide as the terminal at most.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.iter().map(|h| h.to_uppercase()));
    for row in rows {
        table.add_row(row);
    }
    table.trim_fmt()
}

/// The chain of causes in one line; a server's refusal by its text, not by its debug form.
pub(crate) fn explain(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let part = match cause.downcast_ref::<tonic::Status>() {
            Some(status) => format!("{} ({})", status.message(), status.code()),
            None => cause.to_string(),
        };
        if parts.last() != Some(&part) {
            parts.push(part);
        }
    }
    parts.join(": ")
}

/// A span as people say it.
pub(crate) fn span(d: Duration) -> String {
    let ms = d.as_millis();
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", d.as_secs_f64()),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms / 1_000 % 60),
        _ => format!("{} h {} min", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// The wire's duration; negative and absent ones are zero.
pub(crate) fn wire_span(d: Option<&prost_types::Duration>) -> Duration {
    proto_messages::time::duration_from_proto(d)
}

/// How long ago a moment was.
pub(crate) fn ago(at: Option<&prost_types::Timestamp>) -> Option<Duration> {
    let at = proto_messages::time::from_proto(at?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    now.checked_sub(Duration::from_nanos(u64::try_from(at.nanos()).ok()?))
}

/// Hours, minutes, seconds and milliseconds of a moment, UTC.
pub(crate) fn clock(at: Option<&prost_types::Timestamp>) -> String {
    let Some(at) = at else {
        return "--:--:--.---".into();
    };
    let day = at.seconds.rem_euclid(86_400);
    format!(
        "{:02}:{:02}:{:02}.{:03}",
        day / 3_600,
        day / 60 % 60,
        day % 60,
        at.nanos / 1_000_000
    )
}
