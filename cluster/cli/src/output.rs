//! Printing: tables that fit a terminal, or JSON.

use std::{
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

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

/// A moment as programs read it: RFC 3339 in UTC, with milliseconds.
pub(crate) fn moment(at: Option<&prost_types::Timestamp>) -> Option<String> {
    let at = at?;
    let at = jiff::Timestamp::new(at.seconds, at.nanos).ok()?;
    Some(format!("{at:.3}"))
}

/// Whether these arguments ask for JSON.
pub(crate) fn is_json_wanted(arguments: impl Iterator<Item = String>) -> bool {
    let mut value_next = false;
    for argument in arguments {
        let value = match argument.as_str() {
            value if value_next => Some(value),
            other => other
                .strip_prefix("--output=")
                .or_else(|| other.strip_prefix("-o=")),
        };
        if value.is_some_and(|v| v.eq_ignore_ascii_case("json")) || argument == "-ojson" {
            return true;
        }
        value_next = matches!(argument.as_str(), "-o" | "--output");
    }
    false
}

/// A failure as it is printed for programs.
#[derive(Serialize)]
struct Failure<'a> {
    error: &'a str,
    /// The gRPC code of a server's refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    exit_code: u8,
}

/// Prints why a command failed, on standard error.
pub(crate) fn fail(error: &str, code: Option<tonic::Code>, exit_code: u8) -> ExitCode {
    let failure = Failure {
        error,
        code: code.map(|c| format!("{c:?}")),
        exit_code,
    };
    match serde_json::to_string(&failure) {
        Ok(json) if is_json_wanted(std::env::args()) => eprintln!("{json}"),
        _ => eprintln!("error: {error}"),
    }
    ExitCode::from(exit_code)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_its_date_and_its_zone() {
        let at = prost_types::Timestamp {
            seconds: 1_795_798_942,
            nanos: 163_000_000,
        };
        assert_eq!(
            moment(Some(&at)).as_deref(),
            Some("2026-11-27T17:02:22.163Z")
        );
        assert_eq!(moment(None), None);
    }

    #[test]
    fn json_is_asked_for_in_every_spelling() {
        let wanted = |line: &str| is_json_wanted(line.split(' ').map(str::to_owned));
        for line in [
            "meridian namespace list -o json",
            "meridian namespace list -ojson",
            "meridian --output=json dlq list",
            "meridian bench --output JSON -w w1",
        ] {
            assert!(wanted(line), "{line}");
        }
        for line in [
            "meridian namespace list",
            "meridian namespace describe -n json -o text",
        ] {
            assert!(!wanted(line), "{line}");
        }
    }
}
