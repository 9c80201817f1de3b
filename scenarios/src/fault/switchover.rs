//! Planned failovers by the operator's command, carried to their end or broken off.

use std::process::Stdio;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{COMMAND_MAX, Done, Hands, SWITCHOVER, pause};
use crate::{
    definition::{self, SwitchoverStep},
    timeline::Kind,
};

impl Hands<'_> {
    pub(super) async fn switchover(
        &self,
        to: &str,
        max_pause: definition::Span,
    ) -> anyhow::Result<Done> {
        let pause = pause(max_pause);
        self.command(to, &SWITCHOVER, &["--to", to, "--max-pause", &pause])
            .await
    }

    /// Kills a cluster when the switchover it carries out has come to a step. The command is asked through the
    /// target, which lives on.
    pub(super) async fn interrupt(
        &mut self,
        to: &str,
        max_pause: definition::Span,
        kill: &str,
        at: SwitchoverStep,
    ) -> anyhow::Result<Done> {
        let pause = pause(max_pause);
        let mut command = self.operator(to, &SWITCHOVER, &["--to", to, "--max-pause", &pause])?;
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("run namespace switchover")?;
        let stdout = child.stdout.take().context("the command has an output")?;
        let mut said = Vec::new();
        let mut is_killed = false;
        let watched = async {
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let is_reached = line.split_whitespace().nth(1) == Some(at.as_str());
                said.push(line);
                if is_reached && !is_killed {
                    self.world.cluster_mut(kill)?.kill(None, None).await;
                    is_killed = true;
                }
            }
            anyhow::Ok(())
        };
        let ended = tokio::time::timeout(COMMAND_MAX, watched).await;
        ended.with_context(|| format!("run namespace switchover within {COMMAND_MAX:?}"))??;
        said.push(if is_killed {
            format!("{kill} was killed at the switchover's {}", at.as_str())
        } else {
            format!("the switchover never told of its {}", at.as_str())
        });
        let said = said.join("\n");
        self.timeline.mark(Kind::Note, Some(kill), said.clone());
        Ok(Done::Expected(is_killed, said))
    }
}
