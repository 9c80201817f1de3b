//! A cluster that lost its disk and came back empty, and what the operator does about it.

use std::time::{Duration, Instant};

use super::{Done, Hands, SWITCHOVER};

/// How long the cluster may take until it has everything again.
const REPAIRED_WITHIN: Duration = Duration::from_secs(60);

impl Hands<'_> {
    /// Ends a cluster, deletes what it stored, starts it and connects it again.
    pub(super) async fn wipe(&mut self, cluster: &str) -> anyhow::Result<()> {
        let binary = self.world.binary.clone();
        let world = self.world.cluster_mut(cluster)?;
        world.kill(None, None).await;
        world.delete_data()?;
        world.start(&binary)?;
        world.wait_ready().await?;
        self.world.connect_again().await
    }

    /// The status says that a cluster is incomplete, and a switchover to it is refused with numbers, without writes
    /// ever being held back.
    pub(super) async fn expect_incomplete(&self, from: &str, to: &str) -> anyhow::Result<Done> {
        let status = self
            .run(from, &["replication", "status"], false, &[])
            .await?;
        let refused = self.run(from, &SWITCHOVER, true, &["--to", to]).await?;
        let is_said = status.text.contains("INCOMPLETE") && refused.text.contains("is incomplete");
        let is_held = refused.text.contains("writes are held back");
        let held = is_said && !is_held && !status.success && !refused.success;
        Ok(Done::Expected(
            held,
            format!("{}\n{}", status.text, refused.text),
        ))
    }

    /// Sends again what a cluster lacks, until a switchover to it would be done.
    pub(super) async fn repair(&self, from: &str, to: &str) -> anyhow::Result<Done> {
        let repair = ["replication", "repair"];
        let repaired = self.run(from, &repair, true, &["--to", to]).await?;
        let begun = Instant::now();
        loop {
            let rehearsed = self
                .run(from, &SWITCHOVER, true, &["--to", to, "--dry-run"])
                .await?;
            if rehearsed.success || begun.elapsed() > REPAIRED_WITHIN {
                let text = format!("{}\n{}", repaired.text, rehearsed.text);
                return Ok(Done::Expected(rehearsed.success, text));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}
