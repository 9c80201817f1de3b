//! Carries out the steps of a drill on its world: the operator's commands as the operator types them,
//! and everything that goes wrong.

use std::time::{Duration, Instant};

use anyhow::Context;
use proto_messages::temporal::api::{
    enums::v1::ReplicationState, workflowservice::v1::GetSystemInfoRequest,
};
use scenarios_load::{
    client::Whose,
    connect::{Connections, Target, timed},
    script::{Script, Step as ScriptStep},
};
use tokio::{process::Command, task::JoinSet};

mod overload;
mod store;

use crate::{
    definition::{self, Action, Flow, Untrusted},
    oracle::{Op, Oracle},
    reading,
    timeline::{Kind, Timeline},
    workload::{Markers, Side},
    world::{self, Mode, NAMESPACE, World},
};

mod buffered;
mod poison;
mod switchover;
mod wiped;

const SWITCHOVER: [&str; 2] = ["namespace", "switchover"];

/// How long an operator's command may take.
const COMMAND_MAX: Duration = Duration::from_secs(60);

/// The result of a step that worked as a step; whether it is what the drill expects is in it.
pub(crate) enum Done {
    /// Nothing to judge.
    Plainly,
    /// An expectation that held or did not, with what was seen.
    Expected(bool, String),
}

/// How a command ended.
struct Said {
    success: bool,
    text: String,
}

/// The means by which steps act.
pub(crate) struct Hands<'a> {
    pub(crate) world: &'a mut World,
    pub(crate) sides: &'a [Side],
    pub(crate) oracle: &'a Oracle,
    pub(crate) timeline: &'a Timeline,
}

impl Hands<'_> {
    /// Does one step.
    pub(crate) async fn act(&mut self, action: &Action) -> anyhow::Result<Done> {
        match action {
            Action::Run { length } => tokio::time::sleep(length.get()).await,
            Action::Switchover { to, max_pause } => {
                return self.switchover(to, *max_pause).await;
            }
            Action::InterruptSwitchover {
                to,
                max_pause,
                kill,
                at,
            } => return self.interrupt(to, *max_pause, kill, *at).await,
            Action::BufferedSignals {
                to,
                max_pause,
                kill,
                workflows,
                signals,
            } => {
                return self
                    .buffered_signals((to, kill), *max_pause, *workflows, *signals)
                    .await;
            }
            Action::Wipe { cluster } => self.wipe(cluster).await?,
            Action::ExpectIncomplete { from, to } => {
                return self.expect_incomplete(from, to).await;
            }
            Action::Repair { from, to } => return self.repair(from, to).await,
            Action::Poison { from, to } => self.poison(from, to).await?,
            Action::ExpectSetAside { from, to } => return self.expect_set_aside(from, to).await,
            Action::Mend { from, to } => return self.mend(from, to).await,
            Action::ExpectActive { cluster, within } => {
                return Ok(self.expect_active(cluster, within.get()).await);
            }
            Action::Failover { to, by } => return self.failover(to, *by).await,
            Action::Kill {
                cluster,
                service,
                count,
            } => {
                let world = self.world.cluster_mut(cluster)?;
                let killed = world.kill(service.as_deref(), *count).await;
                anyhow::ensure!(
                    !killed.is_empty(),
                    "no running process of {cluster} to kill"
                );
                self.timeline.mark(
                    Kind::Note,
                    Some(cluster),
                    format!("killed: {}", killed.join(", ")),
                );
            }
            Action::Start { cluster } => {
                let binary = self.world.binary.clone();
                let world = self.world.cluster_mut(cluster)?;
                world.start(&binary)?;
                world.wait_ready().await?;
            }
            Action::Freeze { cluster } => self.world.cluster(cluster)?.signal("STOP").await,
            Action::Thaw { cluster } => self.world.cluster(cluster)?.signal("CONT").await,
            Action::Partition {} => self.world.links(Mode::Cut),
            Action::Delay { by } => self.world.links(Mode::Delay(by.get())),
            Action::Heal {} => self.world.links(Mode::Pass),
            Action::Reconnect {} => {
                self.world
                    .links
                    .iter()
                    .for_each(world::Link::break_connections);
            }
            Action::RotateCertificates { cluster, with } => self.rotate(cluster, *with).await?,
            Action::ExpectRefused {
                cluster,
                certificate,
            } => return self.expect_refused(cluster, *certificate).await,
            Action::Overload {
                cluster,
                measure,
                times,
                activities,
                length,
                goodput_min_percent,
                memory_max_mb,
            } => {
                let plan = overload::Plan {
                    times: *times,
                    activities: *activities,
                    measure: measure.get(),
                    length: length.get(),
                    goodput_min_percent: *goodput_min_percent,
                    memory_max_mb: *memory_max_mb,
                };
                let (side, world) = (self.side(cluster)?, self.world.cluster(cluster)?);
                let clock = self.timeline.clock();
                return Ok(overload::run(side, world, self.oracle, clock, &plan).await);
            }
            Action::StartTimers {
                cluster,
                count,
                shortest,
                longest,
            } => {
                let lengths = store::spread(*count, shortest.get(), longest.get());
                return store::start_timers(self.side(cluster)?, self.oracle, lengths).await;
            }
            Action::StopStore {} => self.world.postgres()?.end().await?,
            Action::StartStore {} => self.world.postgres()?.begin().await?,
            Action::WaitConverged { within } => return Ok(self.wait_converged(within.get()).await),
            Action::ExpectReplication {
                from,
                to,
                flow,
                within,
            } => return self.expect_replication(from, to, *flow, within.get()).await,
        }
        Ok(Done::Plainly)
    }

    fn side(&self, name: &str) -> anyhow::Result<&Side> {
        let found = self.sides.iter().find(|s| s.cluster == name);
        found.with_context(|| format!("there is no cluster {name:?}"))
    }

    async fn expect_active(&self, wanted: &str, within: Duration) -> Done {
        let begun = Instant::now();
        loop {
            let asked = self.world.clusters.iter().map(|cluster| async {
                match world::describe(&cluster.connections()).await {
                    Ok(described) => {
                        let replication = described.replication_config.unwrap_or_default();
                        let is_held = replication.state() == ReplicationState::Handover;
                        let active = replication.active_cluster_name;
                        let held = if is_held { ", held back" } else { "" };
                        let is_so = active == wanted && !is_held;
                        (is_so, format!("{} says {active}{held}", cluster.name))
                    }
                    Err(status) => (false, format!("{}: {}", cluster.name, status.message())),
                }
            });
            let said = futures::future::join_all(asked).await;
            let is_agreed = said.iter().all(|(is_so, _)| *is_so);
            if is_agreed || begun.elapsed() > within {
                let words: Vec<_> = said.into_iter().map(|(_, word)| word).collect();
                let after = begun.elapsed().as_millis();
                let text = format!("after {after} ms: {}", words.join("; "));
                return Done::Expected(is_agreed, text);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn failover(&self, to: &str, by: definition::Command) -> anyhow::Result<Done> {
        match by {
            definition::Command::Command => {
                self.command(to, &["namespace", "failover"], &["--to", to])
                    .await
            }
            definition::Command::Api => {
                let connections = self.world.cluster(to)?.connections();
                let outcome = world::fail_over(&connections, to).await;
                let said = match &outcome {
                    Ok(()) => "UpdateNamespace was accepted".to_owned(),
                    Err(status) => {
                        format!("UpdateNamespace: {:?}: {}", status.code(), status.message())
                    }
                };
                Ok(Done::Expected(outcome.is_ok(), said))
            }
        }
    }

    /// An operator's command of this same binary, to be run against a cluster that lives.
    fn operator(&self, at: &str, verb: &[&str], flags: &[&str]) -> anyhow::Result<Command> {
        let mut command = self.tool(at, verb, flags)?;
        command.args(["--namespace", NAMESPACE]);
        Ok(command)
    }

    /// A command that is not about one namespace.
    fn tool(&self, at: &str, verb: &[&str], flags: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(&self.world.binary);
        command
            .args(verb)
            .args(flags)
            .arg("--address")
            .arg(self.world.cluster(at)?.frontend().to_string())
            .kill_on_drop(true);
        if let Some(tls) = self.world.certificates.as_ref().map(|c| c.client()) {
            let flags = [
                ("--tls-ca-path", tls.ca),
                ("--tls-cert-path", tls.cert),
                ("--tls-key-path", tls.key),
            ];
            for (flag, path) in flags {
                if let Some(path) = path {
                    command.arg(flag).arg(path);
                }
            }
            command
                .arg("--tls-server-name")
                .arg(tls.server_name.unwrap_or_default());
        }
        Ok(command)
    }

    /// Runs it to its end.
    async fn command(&self, at: &str, verb: &[&str], flags: &[&str]) -> anyhow::Result<Done> {
        let said = self.run(at, verb, true, flags).await?;
        Ok(Done::Expected(said.success, said.text))
    }

    /// Runs a command, about the drill's namespace or not, and tells what it said.
    async fn run(
        &self,
        at: &str,
        verb: &[&str],
        of_namespace: bool,
        flags: &[&str],
    ) -> anyhow::Result<Said> {
        let mut command = match of_namespace {
            true => self.operator(at, verb, flags)?,
            false => self.tool(at, verb, flags)?,
        };
        let output = tokio::time::timeout(COMMAND_MAX, command.output())
            .await
            .with_context(|| format!("run {} within {COMMAND_MAX:?}", verb.join(" ")))?
            .with_context(|| format!("run {}", verb.join(" ")))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let said = [text(&output.stdout), text(&output.stderr)].join("\n");
        let ended = match output.status.code() {
            Some(0) => "done".to_owned(),
            Some(code) => format!("exit code {code}"),
            // A signal.
            None => output.status.to_string(),
        };
        let said = format!("{} ({ended}): {}", verb.join(" "), said.trim());
        self.timeline.mark(Kind::Note, Some(at), said.clone());
        Ok(Said {
            success: output.status.success(),
            text: said,
        })
    }

    async fn rotate(
        &mut self,
        cluster: &str,
        with: definition::Certificates,
    ) -> anyhow::Result<()> {
        let certificates = self
            .world
            .certificates
            .as_mut()
            .context("this drill runs without TLS: it has no certificates to replace")?;
        certificates.rotate(cluster, with)?;
        // Servers look at their files once a second. The drill's own clients follow at once: they
        // trust both authorities, and connections they have stay as they are.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        Ok(())
    }

    async fn expect_refused(&self, cluster: &str, what: Untrusted) -> anyhow::Result<Done> {
        let certificates = self
            .world
            .certificates
            .as_ref()
            .context("this drill runs without TLS: nobody would be refused")?;
        let frontend = self.world.cluster(cluster)?.frontend();
        let connections = Connections::open(Target {
            addresses: vec![frontend.to_string()],
            tls: Some(certificates.untrusted(what)?),
            connections: 1,
        })?;
        let request = timed(GetSystemInfoRequest {}, Duration::from_secs(5));
        let asked = connections.api().get_system_info(request).await;
        // The same call with a good certificate must work, or the refusal proves nothing.
        let trusted = Connections::open(Target {
            addresses: vec![frontend.to_string()],
            tls: Some(certificates.client()),
            connections: 1,
        })?;
        let request = timed(GetSystemInfoRequest {}, Duration::from_secs(5));
        if let Err(status) = trusted.api().get_system_info(request).await {
            return Ok(Done::Expected(
                false,
                format!("{cluster} refuses good certificates, too: {status}"),
            ));
        }
        Ok(match asked {
            Ok(_) => Done::Expected(
                false,
                format!("{cluster} served a client whose certificate is {what:?}"),
            ),
            Err(_) => Done::Expected(
                true,
                format!("{cluster} refused a client certificate: {what:?}"),
            ),
        })
    }

    async fn wait_converged(&self, within: Duration) -> Done {
        // While the load goes on new runs appear all the time: what is asked is that everything begun
        // before this step becomes equal, so only calls made so far count.
        let mut pending = reading::runs_of(&self.oracle.calls());
        let all = pending.len();
        let begun = Instant::now();
        loop {
            let reads = self
                .sides
                .iter()
                .map(|side| reading::histories(side, &pending));
            let read = futures::future::join_all(reads).await;
            pending.retain(|key| !read.iter().all(|h| h.runs.contains_key(key)));
            if pending.is_empty() {
                return Done::Expected(true, format!("{all} runs are on all sides"));
            }
            if begun.elapsed() > within {
                let some: Vec<&str> = pending.iter().take(5).map(|k| k.0.as_str()).collect();
                let text = format!(
                    "{} of {all} runs are not on all sides, among them {}",
                    pending.len(),
                    some.join(", ")
                );
                return Done::Expected(false, text);
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    async fn expect_replication(
        &self,
        from: &str,
        to: &str,
        flow: Flow,
        within: Duration,
    ) -> anyhow::Result<Done> {
        let (writer, reader) = (self.side(from)?, self.side(to)?);
        let id = format!("probe-{}", self.timeline.clock().now_ms());
        let input = Script {
            steps: vec![ScriptStep::Signals(1)],
            ..Default::default()
        }
        .input(0);
        let begun = Instant::now();
        let run = writer
            .client
            .start(&id, &id, &input)
            .await
            .with_context(|| format!("write on {from}"))?;
        self.oracle
            .record(from, Op::Start, &id, &run, begun.elapsed(), Ok(()));
        let marker = format!("arrived-{id}");
        let signal_begun = Instant::now();
        writer.client.signal(&id, &marker, &marker).await?;
        let op = Op::Signal {
            name: marker.clone(),
        };
        self.oracle
            .record(from, op, &id, "", signal_begun.elapsed(), Ok(()));
        let markers = Markers::default();
        let mut following = JoinSet::new();
        following.spawn(
            markers
                .clone()
                .follow(reader.client.clone(), id.clone(), run),
        );
        let sent = Instant::now();
        while sent.elapsed() < within && markers.seen(&marker).is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let seen = markers.seen(&marker);
        let text = match seen {
            Some(at) => format!(
                "a write on {from} was on {to} after {} ms",
                at.saturating_duration_since(sent).as_millis()
            ),
            None => format!(
                "a write on {from} was not on {to} after {} s",
                within.as_secs()
            ),
        };
        // Whether the reader lives is another matter than whether the write arrived.
        let alive = reader
            .client
            .history("probe-lag", "", Whose::Own)
            .await
            .is_ok();
        let held = match flow {
            Flow::Arrives => seen.is_some(),
            Flow::Blocked => seen.is_none() && alive,
        };
        Ok(Done::Expected(held, text))
    }
}

/// A duration as commands read it.
fn pause(span: definition::Span) -> String {
    format!("{}ms", span.get().as_millis())
}
