//! Reads a few counters from a server's Prometheus endpoint. Servers that do not have them are shown
//! with a dash; nothing is guessed.

use std::time::Duration;

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Counters that tell what a workflow cost the store.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters {
    /// Store transactions committed by commit lanes.
    pub(super) commits: Option<f64>,
    /// Updates those transactions carried.
    pub(super) updates: Option<f64>,
    /// Syncs of the store's log to disk.
    pub(super) fsyncs: Option<f64>,
    /// Bytes written to the store's log.
    pub(super) wal_bytes: Option<f64>,
}

/// Fetches and reads the endpoint.
pub(super) async fn scrape(url: &str) -> anyhow::Result<Counters> {
    let text = tokio::time::timeout(Duration::from_secs(5), fetch(url))
        .await
        .context("fetch metrics in time")??;
    Ok(read(&text))
}

async fn fetch(url: &str) -> anyhow::Result<String> {
    let rest = url
        .strip_prefix("http://")
        .with_context(|| format!("{url} is not an http:// address"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, "metrics"));
    let mut stream = TcpStream::connect(host)
        .await
        .with_context(|| format!("connect to {host}"))?;
    let request = format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("read an HTTP answer")?;
    let status = head.split_whitespace().nth(1);
    anyhow::ensure!(status == Some("200"), "{url} answered {status:?}");
    Ok(body.to_owned())
}

fn read(text: &str) -> Counters {
    Counters {
        commits: total(text, "meridian_commit_batches_total"),
        updates: total(text, "meridian_commit_updates_total"),
        fsyncs: total(text, "meridian_store_fsyncs_total"),
        wal_bytes: total(text, "meridian_store_wal_bytes_total"),
    }
}

/// The sum of a metric over its labels.
fn total(text: &str, name: &str) -> Option<f64> {
    text.lines()
        .filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = match rest.strip_prefix('{') {
                Some(labelled) => labelled.rsplit_once('}')?.1,
                None => rest.strip_prefix(' ')?,
            };
            value.split_whitespace().next()?.parse::<f64>().ok()
        })
        .reduce(|a, b| a + b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_summed_and_absence_is_kept() {
        let text = "# HELP meridian_commit_batches_total x\n\
                    meridian_commit_batches_total{lane=\"0\"} 3\n\
                    meridian_commit_batches_total{lane=\"a } b\"} 4.5 1700000000\n\
                    meridian_commit_updates_total 9\n\
                    meridian_store_fsyncs_total_other 1\n";
        let counters = read(text);
        assert_eq!(counters.commits, Some(7.5));
        assert_eq!(counters.updates, Some(9.0));
        assert_eq!(counters.fsyncs, None);
    }
}
