//! Rows that nobody can work with, at the source and at the target of replication: a cut row of tasks, a cut timer,
//! a run that cannot be read, a row that lists refuse, and a copy of a run that cannot be read where it is to be
//! applied. All shards are one in such a drill, so that whatever flows has passed them.

use std::time::{Duration, Instant};

use anyhow::Context;
use proto_messages::temporal::api::workflowservice::v1::TerminateWorkflowExecutionRequest;
use scenarios_load::{
    client::{CALL_TIMEOUT, Client, Whose, execution},
    connect::timed,
    script::{Script, Step},
};
use serde::Deserialize;

use super::{Done, Hands, SWITCHOVER};
use crate::{
    oracle::Op,
    reading,
    timeline::Kind,
    world::{Mode, NAMESPACE, Place, Poisoned, Value},
};

/// No worker polls it: these workflows have their first workflow task only.
const QUEUE: &str = "poison";

/// The tasks of its start are cut.
const ROW: &str = "poison-row";
/// It cannot be read at the source.
const RUN: &str = "poison-run";
/// Its timer is cut.
const TIMER: &str = "poison-timer";
/// Lists refuse it.
const LIST: &str = "poison-list";
/// It cannot be read at the target.
const COPY: &str = "poison-copy";

/// The signal that the target cannot apply.
const SIGNAL: &str = "after-the-poison";

/// Far enough to lie in a row of its own, and due in the drill.
const TIMER_LENGTH: Duration = Duration::from_secs(30);

/// How long one thing may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Letters that must be there: at which side, the flags that name the queue, and of which workflow.
const EXPECTED: [(At, &[&str], &str); 5] = [
    (At::Source, &["--kind", "transfer"], ROW),
    (At::Source, &["--kind", "timer"], TIMER),
    (At::Source, &["--kind", "visibility"], LIST),
    (At::Source, &["--source-cluster"], RUN),
    (At::Target, &["--source-cluster"], COPY),
];

/// All queues, by the flags that name them.
const QUEUES: [&[&str]; 4] = [
    &["--kind", "transfer"],
    &["--kind", "timer"],
    &["--kind", "visibility"],
    &["--source-cluster"],
];

/// A side of the drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Source,
    Target,
}

/// What `dlq read` tells of a message.
#[derive(Clone, Debug, Default, Deserialize)]
struct Letter {
    workflow_id: String,
    cause: String,
}

/// What `dlq list` tells of a queue.
#[derive(Debug, Deserialize)]
struct Queue {
    messages: i64,
}

/// What a refused command said, and how it ended.
#[derive(Clone, Debug, Default)]
struct Refused {
    success: bool,
    text: String,
}

/// What was seen of the rows that were set aside.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// The letter of each of [`EXPECTED`].
    letters: Vec<Option<Letter>>,
    /// Messages by `dlq list`, of both sides.
    listed: (i64, i64),
    /// Messages by metrics, of both sides.
    counted: (i64, i64),
    /// Whether the source's queue has passed the cut row and dropped it.
    passed: bool,
    status: Refused,
    switchover: Refused,
    failover: Refused,
}

impl Hands<'_> {
    /// Has workflows begin, spoils their rows while both clusters are down and cut off from each other, and lets
    /// all go on.
    pub(super) async fn poison(&mut self, from: &str, to: &str) -> anyhow::Result<()> {
        let client = Client::new(self.world.cluster(from)?.connections(), NAMESPACE, QUEUE);
        let waits = |step| Script {
            steps: vec![step],
            ..Default::default()
        };
        let until = waits(Step::Until(SIGNAL.to_owned())).input(0);
        let millis = u64::try_from(TIMER_LENGTH.as_millis()).unwrap_or(u64::MAX);
        let timer = waits(Step::Timers(vec![millis])).input(0);
        let worked = self.side(from)?.client.clone();
        let timer_run = self.begin(&worked, from, TIMER, &timer).await?;
        let copy_run = self.begin(&client, from, COPY, &until).await?;
        self.wait_for_copy(to, &copy_run).await?;
        let timer_rows = self.rows(from, Place::Timer, &timer_run).await?;
        // From here on nothing reaches the target: what is begun now waits in the source's queue.
        self.world.links(Mode::Cut);
        let mut lists = self.world.cluster(from)?.tables(true).await?;
        lists.refuse_lists(LIST).await?;
        let mut runs = Vec::new();
        for id in [ROW, RUN, LIST] {
            runs.push(self.begin(&client, from, id, &until).await?);
        }
        for cluster in [from, to] {
            self.world.cluster_mut(cluster)?.kill(None, None).await;
        }
        let task_rows = self.rows(from, Place::Outbox, &runs[0]).await?;
        let source_run = self.rows(from, Place::Run, &runs[1]).await?;
        let target_run = self.rows(to, Place::Run, &copy_run).await?;
        let mut source = self.world.cluster(from)?.tables(false).await?;
        for row in task_rows.iter().chain(&timer_rows) {
            source.cut(row).await?;
        }
        for row in &source_run {
            source.spoil(row).await?;
        }
        let mut target = self.world.cluster(to)?.tables(false).await?;
        for row in &target_run {
            target.spoil(row).await?;
        }
        drop((source, target, lists));
        let binary = self.world.binary.clone();
        for cluster in [from, to] {
            self.world.cluster_mut(cluster)?.start(&binary)?;
        }
        for cluster in [from, to] {
            self.world.cluster_mut(cluster)?.wait_ready().await?;
        }
        self.world.links(Mode::Pass);
        self.signal_copy(&client, from).await?;
        self.world.poisoned = Some(Poisoned {
            tasks: task_rows,
            source_runs: source_run,
            target_runs: target_run,
            ended: [ROW, RUN, LIST, COPY].map(str::to_owned).to_vec(),
        });
        let text = "rows of five workflows were spoilt".to_owned();
        self.timeline.mark(Kind::Note, Some(from), text);
        Ok(())
    }

    /// Starts a workflow and notes that it was acknowledged.
    async fn begin(
        &self,
        client: &Client,
        cluster: &str,
        id: &str,
        input: &proto_messages::temporal::api::common::v1::Payloads,
    ) -> anyhow::Result<String> {
        let begun = Instant::now();
        let run = client.start(id, id, input).await;
        let run = run.with_context(|| format!("start {id}"))?;
        self.oracle
            .record(cluster, Op::Start, id, &run, begun.elapsed(), Ok(()));
        Ok(run)
    }

    async fn wait_for_copy(&self, to: &str, run: &str) -> anyhow::Result<()> {
        let side = self.side(to)?;
        let begun = Instant::now();
        while side.client.history(COPY, run, Whose::Own).await.is_err() {
            anyhow::ensure!(begun.elapsed() < PATIENCE, "{COPY} did not come to {to}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// The rows of a run, which are on their way.
    async fn rows(&self, cluster: &str, place: Place, run: &str) -> anyhow::Result<Vec<Value>> {
        let mut tables = self.world.cluster(cluster)?.tables(false).await?;
        let begun = Instant::now();
        loop {
            let found = tables.of_run(place, run).await?;
            if !found.is_empty() {
                return Ok(found);
            }
            anyhow::ensure!(begun.elapsed() < PATIENCE, "{run} has no {place:?} row");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The target has to apply it on a run it cannot read.
    async fn signal_copy(&self, client: &Client, from: &str) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let asked = Instant::now();
            match client.signal(COPY, SIGNAL, SIGNAL).await {
                Ok(()) => {
                    let op = Op::Signal {
                        name: SIGNAL.to_owned(),
                    };
                    self.oracle
                        .record(from, op, COPY, "", asked.elapsed(), Ok(()));
                    return Ok(());
                }
                Err(_) if begun.elapsed() < PATIENCE => tokio::time::sleep(LOOK_EVERY).await,
                Err(status) => return Err(status).with_context(|| format!("signal {COPY}")),
            }
        }
    }

    /// Every spoilt row is listed and counted, with its workflow and the reason; the queue has passed it; and no
    /// command calls the target complete.
    pub(super) async fn expect_set_aside(&self, from: &str, to: &str) -> anyhow::Result<Done> {
        let begun = Instant::now();
        let mut seen = Seen::default();
        loop {
            self.look(from, to, &mut seen).await?;
            if seen.is_set_aside() || begun.elapsed() > PATIENCE {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let forced = ["namespace", "failover"];
        let asked = ["--to", to];
        let rehearsal = ["--to", to, "--dry-run", "--accept-loss", "0"];
        let (status, switchover, failover) = tokio::join!(
            self.run(from, &["replication", "status"], false, &[]),
            self.run(from, &SWITCHOVER, true, &asked),
            self.run(from, &forced, true, &rehearsal),
        );
        let refused = |said: super::Said| Refused {
            success: said.success,
            text: said.text,
        };
        seen.status = refused(status?);
        seen.switchover = refused(switchover?);
        seen.failover = refused(failover?);
        Ok(judge(&seen))
    }

    async fn look(&self, from: &str, to: &str, seen: &mut Seen) -> anyhow::Result<()> {
        let at = |side| if side == At::Source { from } else { to };
        let mut letters = Vec::new();
        for (side, flags, workflow) in EXPECTED {
            let flags = flags_of(flags, from);
            let found: Vec<Letter> = self.read_json(at(side), "read", &flags).await?;
            letters.push(found.into_iter().find(|l| l.workflow_id == workflow));
        }
        seen.letters = letters;
        seen.listed = (
            self.listed_letters(from).await?,
            self.listed_letters(to).await?,
        );
        seen.counted = (
            self.counted_letters(from).await?,
            self.counted_letters(to).await?,
        );
        let poisoned = self.world.poisoned.as_ref().context("nothing was spoilt")?;
        let mut tables = self.world.cluster(from)?.tables(false).await?;
        seen.passed = true;
        for row in &poisoned.tasks {
            seen.passed &= !tables.has(row).await?;
        }
        Ok(())
    }

    async fn listed_letters(&self, at: &str) -> anyhow::Result<i64> {
        let queues: Vec<Queue> = self.read_json(at, "list", &[]).await?;
        Ok(queues.iter().map(|q| q.messages).sum())
    }

    async fn counted_letters(&self, at: &str) -> anyhow::Result<i64> {
        let text = self.world.cluster(at)?.metrics().await?;
        Ok(sum_of("meridian_dead_letters", &text))
    }

    async fn read_json<T: serde::de::DeserializeOwned>(
        &self,
        at: &str,
        verb: &str,
        flags: &[&str],
    ) -> anyhow::Result<T> {
        let mut command = self.tool(at, &["dlq", verb], flags)?;
        command.args(["--output", "json"]);
        let output = command.output().await.context("run dlq")?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "dlq {verb} at {at}: {said}");
        serde_json::from_slice(&output.stdout).with_context(|| format!("what dlq {verb} says"))
    }

    /// Repairs what is damaged, has all letters replayed and sent what was lost with the cut row, until nothing is
    /// lacking and no letter is left.
    pub(super) async fn mend(&mut self, from: &str, to: &str) -> anyhow::Result<Done> {
        let poisoned = self.world.poisoned.take().context("nothing was spoilt")?;
        let mut lists = self.world.cluster(from)?.tables(true).await?;
        lists.accept_lists().await?;
        for (cluster, rows) in [(from, &poisoned.source_runs), (to, &poisoned.target_runs)] {
            let mut tables = self.world.cluster(cluster)?.tables(false).await?;
            for row in rows {
                tables.mend(row).await?;
            }
        }
        let mut said = Vec::new();
        for at in [from, to] {
            for flags in QUEUES {
                let flags = flags_of(flags, from);
                let replayed = self.run(at, &["dlq", "replay"], false, &flags).await?;
                said.push(replayed.text);
            }
        }
        let repair = ["replication", "repair"];
        said.push(self.run(from, &repair, true, &["--to", to]).await?.text);
        let begun = Instant::now();
        let held = loop {
            let rehearsed = self
                .run(from, &SWITCHOVER, true, &["--to", to, "--dry-run"])
                .await?;
            let left = self.listed_letters(from).await? + self.listed_letters(to).await?;
            let is_listed = reading::listed(self.side(from)?).await?;
            let is_listed = is_listed.iter().any(|(id, _)| id == LIST);
            let is_mended = rehearsed.success && left == 0 && is_listed;
            if is_mended || begun.elapsed() > PATIENCE {
                said.push(rehearsed.text);
                said.push(format!(
                    "{left} dead letters are left, {LIST} is {}",
                    if is_listed { "listed" } else { "not listed" }
                ));
                break is_mended;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        self.end_all(from, &poisoned.ended).await?;
        Ok(Done::Expected(held, said.join("\n")))
    }

    /// Ends workflows that nobody works on. That it can be done shows that their rows are good.
    async fn end_all(&self, at: &str, ids: &[String]) -> anyhow::Result<()> {
        for id in ids {
            let request = TerminateWorkflowExecutionRequest {
                namespace: NAMESPACE.to_owned(),
                workflow_execution: Some(execution(id, "")),
                reason: "the drill has seen what it wanted".to_owned(),
                ..Default::default()
            };
            let mut api = self.world.cluster(at)?.connections().api();
            let ended = api.terminate_workflow_execution(timed(request, CALL_TIMEOUT));
            ended.await.with_context(|| format!("terminate {id}"))?;
        }
        Ok(())
    }
}

/// Letters of replication are named by the cluster they come from.
fn flags_of<'a>(flags: &[&'a str], from: &'a str) -> Vec<&'a str> {
    let mut flags = flags.to_vec();
    if flags == ["--source-cluster"] {
        flags.push(from);
    }
    flags
}

/// The sum of a metric over its labels.
fn sum_of(metric: &str, text: &str) -> i64 {
    let lines = text.lines().filter_map(|line| line.strip_prefix(metric));
    let values = lines.filter(|rest| rest.starts_with('{'));
    let values = values.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum::<f64>() as i64
}

impl Seen {
    /// Everything that comes by itself after a while.
    fn is_set_aside(&self) -> bool {
        let known = self.letters.iter().filter(|l| l.is_some()).count();
        known == EXPECTED.len()
            && self.passed
            && self.counted.0 >= 4
            && self.counted.1 >= 1
            && self.counted == self.listed
    }
}

fn judge(seen: &Seen) -> Done {
    let mut rules = Vec::new();
    for (n, (at, _, workflow)) in EXPECTED.iter().enumerate() {
        let letter = seen.letters.get(n).and_then(Option::as_ref);
        let text = match letter {
            Some(letter) => format!("{workflow} at the {at:?}: {}", letter.cause),
            None => format!("{workflow} is no dead letter at the {at:?}"),
        };
        rules.push((letter.is_some_and(|l| !l.cause.is_empty()), text));
    }
    rules.push((
        seen.listed.0 >= 4 && seen.listed.1 >= 1 && seen.counted == seen.listed,
        format!(
            "dead letters: {:?} listed, {:?} by metrics, at source and target",
            seen.listed, seen.counted
        ),
    ));
    rules.push((
        seen.passed,
        "the queue goes on behind the cut row".to_owned(),
    ));
    let names = |text: &str| [ROW, RUN, COPY].iter().all(|id| text.contains(id));
    rules.push((
        !seen.status.success && seen.status.text.contains("INCOMPLETE") && names(&seen.status.text),
        "the status names what the target lacks".to_owned(),
    ));
    let switchover = &seen.switchover;
    rules.push((
        !switchover.success
            && switchover.text.contains("is incomplete")
            && !switchover.text.contains("writes are held back")
            && names(&switchover.text),
        "the switchover is refused by name, before anything is held".to_owned(),
    ));
    let failover = &seen.failover;
    rules.push((
        // Its comparison has a time of its own, which a busy machine may exceed; that is told, and refused.
        !failover.success
            && failover.text.contains("--accept-loss is 0")
            && (names(&failover.text) || failover.text.contains("unknown: ")),
        "a failover that accepts no loss is refused, by name or as unknown".to_owned(),
    ));
    let held = rules.iter().all(|(held, _)| *held);
    let mut lines: Vec<String> = rules
        .iter()
        .map(|(held, text)| format!("{} {text}", if *held { "ok  " } else { "FAIL" }))
        .collect();
    if !held {
        for said in [&seen.status, &seen.switchover, &seen.failover] {
            lines.push(said.text.clone());
        }
    }
    lines.push(match held {
        true => "what cannot be worked with is set aside, and told".to_owned(),
        false => "not all of what cannot be worked with is set aside and told".to_owned(),
    });
    Done::Expected(held, lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Seen {
        let refused = |text: &str| Refused {
            success: false,
            text: format!("{text} {ROW}, {RUN}, {COPY}"),
        };
        let letter = |workflow: &str| Letter {
            workflow_id: workflow.to_owned(),
            cause: "damaged".to_owned(),
        };
        Seen {
            letters: EXPECTED.iter().map(|(.., id)| Some(letter(id))).collect(),
            listed: (4, 1),
            counted: (4, 1),
            passed: true,
            status: refused("INCOMPLETE"),
            switchover: refused("east is incomplete:"),
            failover: refused("--accept-loss is 0"),
        }
    }

    fn holds(seen: &Seen) -> bool {
        matches!(judge(seen), Done::Expected(true, _))
    }

    #[test]
    fn each_thing_that_is_not_told_fails() {
        assert!(holds(&good()));
        let changes: [fn(&mut Seen); 13] = [
            |s| s.letters[0] = None,
            |s| s.letters[4] = None,
            |s| s.letters.clear(),
            |s| s.letters[1] = Some(Letter::default()),
            |s| s.listed = (0, 0),
            |s| s.counted = (3, 1),
            |s| s.passed = false,
            |s| s.status.success = true,
            |s| s.status.text = s.status.text.replace(RUN, ""),
            |s| s.switchover.success = true,
            |s| s.switchover.text += "writes are held back",
            |s| s.failover.success = true,
            |s| s.failover.text = s.failover.text.replace(ROW, ""),
        ];
        for (n, change) in changes.into_iter().enumerate() {
            let mut seen = good();
            change(&mut seen);
            assert!(!holds(&seen), "change {n}");
        }
    }

    #[test]
    fn a_metric_is_summed_over_its_labels() {
        let text = "# HELP a x\na{queue=\"1\"} 2\na{queue=\"b c\"} 3\nab{queue=\"1\"} 7\nb 1\n";
        assert_eq!(sum_of("a", text), 5);
        assert_eq!(sum_of("none", text), 0);
    }
}
