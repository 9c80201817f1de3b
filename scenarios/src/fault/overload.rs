//! Many times more new workflows than a cluster can do. First the most it can do is measured, with a bounded
//! number of workflows at once; then starts come on a fixed schedule, whatever becomes of them. What counts is
//! what is finished meanwhile, by the answers the workers got.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use prost::Message;
use proto_messages::{
    google::rpc,
    temporal::api::{
        common::v1::Payloads, enums::v1::ResourceExhaustedCause as Cause,
        errordetails::v1::ResourceExhaustedFailure,
    },
};
use scenarios_load::{
    client::Whose,
    script::{Script, Step},
};
use tokio::task::JoinSet;
use tonic::{Code, Status};

use super::Done;
use crate::{
    oracle::{Call, Op, Oracle},
    timeline::RunClock,
    workload::Side,
    world::Cluster,
};

/// Workflows at once while the peak is measured: enough to keep the cluster busy all the time.
const AT_ONCE: usize = 64;

/// Starts without an answer after which no more are sent: the server is hopelessly behind.
const UNANSWERED_MAX: usize = 30_000;

/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A refusal that takes longer was not made at once.
const REFUSED_WITHIN: Duration = Duration::from_secs(1);

/// Log lines that the flood may bring: enough to tell of it, too few to fill a disk.
const WARNINGS_MAX: usize = 500;

/// The parameters and the expectations.
pub(super) struct Plan {
    pub(super) times: u32,
    /// Activities of each workflow.
    pub(super) activities: u32,
    pub(super) measure: Duration,
    pub(super) length: Duration,
    /// Part of the peak that must still be finished.
    pub(super) goodput_min_percent: u32,
    pub(super) memory_max_mb: u64,
}

/// The results of the starts of a flood.
#[derive(Debug, Default)]
pub(super) struct Starts {
    accepted: usize,
    /// Refusals with a cause, by the cause.
    shed: BTreeMap<&'static str, usize>,
    /// Everything else, by its code and whether it named a cause.
    otherwise: BTreeMap<String, usize>,
    slow_refusals: usize,
    not_sent: usize,
}

/// The observations of a flood.
#[derive(Debug, Default)]
pub(super) struct Seen {
    peak: f64,
    goodput: f64,
    memory_mb: u64,
    warnings: usize,
    /// Workers' answers that were refused for want of resources.
    answers_refused: usize,
    starts: Starts,
}

pub(super) async fn run(
    side: &Side,
    cluster: &Cluster,
    oracle: &Oracle,
    clock: RunClock,
    plan: &Plan,
) -> Done {
    let script = Script {
        steps: vec![Step::Activities(plan.activities)],
        ..Default::default()
    };
    let input = script.input(64);
    let peak = peak(side, oracle, clock, &input, plan.measure).await;
    let warned_before = cluster.warnings();
    let stop = Arc::new(AtomicBool::new(false));
    let memory = tokio::spawn(watch_memory(cluster.pids(), stop.clone()));
    let from_ms = clock.now_ms();
    let rate = f64::from(plan.times) * peak.max(1.0);
    let starts = flood(side, oracle, rate, &input, plan.length).await;
    let until_ms = clock.now_ms();
    stop.store(true, Ordering::Relaxed);
    let calls = oracle.calls();
    let during = |c: &&Call| (from_ms..until_ms).contains(&c.at_ms);
    // The first quarter fills the pipeline: nothing begun in it can have ended before.
    let steady_ms = from_ms + (until_ms - from_ms) / 4;
    let seconds = Duration::from_millis(until_ms - steady_ms).as_secs_f64();
    let is_answer = |c: &&Call| matches!(c.op, Op::WorkflowTask { .. } | Op::Activity { .. });
    let is_exhausted = |c: &&Call| {
        let error = c.error.as_deref().unwrap_or_default();
        error.starts_with("ResourceExhausted")
    };
    let seen = Seen {
        peak,
        goodput: finished(&calls, steady_ms, until_ms) as f64 / seconds,
        memory_mb: memory.await.unwrap_or(u64::MAX) / 1024,
        warnings: cluster.warnings() - warned_before,
        answers_refused: calls
            .iter()
            .filter(during)
            .filter(is_answer)
            .filter(is_exhausted)
            .count(),
        starts,
    };
    judge(plan, &seen)
}

/// Runs closed by an acknowledged answer between two moments.
fn finished(calls: &[Call], from_ms: u64, until_ms: u64) -> usize {
    let closes = |c: &&Call| matches!(c.op, Op::WorkflowTask { closing: true, .. });
    calls
        .iter()
        .filter(closes)
        .filter(|c| c.acknowledged() && (from_ms..until_ms).contains(&c.at_ms))
        .count()
}

/// Workflows finished per second when a bounded number of them is under way.
async fn peak(
    side: &Side,
    oracle: &Oracle,
    clock: RunClock,
    input: &Payloads,
    length: Duration,
) -> f64 {
    let begun = Instant::now();
    let from_ms = clock.now_ms();
    let next = Arc::new(AtomicU64::new(0));
    let mut loops = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (side, oracle, next) = (side.clone(), oracle.clone(), next.clone());
        let input = input.clone();
        loops.spawn(async move {
            while begun.elapsed() < length {
                let id = format!("peak-{}", next.fetch_add(1, Ordering::Relaxed));
                let asked = Instant::now();
                match side.client.start(&id, &id, &input).await {
                    Ok(run) => {
                        oracle.record(&side.cluster, Op::Start, &id, &run, asked.elapsed(), Ok(()));
                        // Who does not learn of the end begins the next one all the same.
                        let _ = side.client.closing_event(&id, &run, Whose::Any).await;
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        });
    }
    while loops.join_next().await.is_some() {}
    let until_ms = clock.now_ms();
    let seconds = Duration::from_millis(until_ms - from_ms).as_secs_f64();
    finished(&oracle.calls(), from_ms, until_ms) as f64 / seconds
}

/// Starts at a rate, on schedule; waits for all answers.
async fn flood(
    side: &Side,
    oracle: &Oracle,
    rate: f64,
    input: &Payloads,
    length: Duration,
) -> Starts {
    let starts = Arc::new(Mutex::new(Starts::default()));
    let input = Arc::new(input.clone());
    let begun = Instant::now();
    let mut open = JoinSet::new();
    for n in 0u64.. {
        let due = Duration::from_secs_f64(n as f64 / rate);
        if due >= length {
            break;
        }
        tokio::time::sleep_until((begun + due).into()).await;
        while open.try_join_next().is_some() {}
        if open.len() >= UNANSWERED_MAX {
            starts.lock().not_sent += 1;
            continue;
        }
        let (side, oracle) = (side.clone(), oracle.clone());
        let (starts, input) = (starts.clone(), input.clone());
        open.spawn(async move {
            let id = format!("flood-{n}");
            let asked = Instant::now();
            let answer = side.client.start(&id, &id, &input).await;
            let took = asked.elapsed();
            if let Ok(run) = &answer {
                oracle.record(&side.cluster, Op::Start, &id, run, took, Ok(()));
            }
            starts.lock().note(answer.as_ref().map(drop), took);
        });
    }
    while open.join_next().await.is_some() {}
    drop(open);
    Arc::try_unwrap(starts).map_or_else(|_| Starts::default(), Mutex::into_inner)
}

impl Starts {
    fn note(&mut self, answer: Result<(), &Status>, took: Duration) {
        let Err(status) = answer else {
            self.accepted += 1;
            return;
        };
        let cause = cause_of(status).map_or("", |cause| cause.as_str_name());
        let is_throttle = matches!(
            cause_of(status),
            Some(Cause::SystemOverloaded | Cause::ConcurrentLimit | Cause::RpsLimit)
        );
        if status.code() == Code::ResourceExhausted && is_throttle {
            *self.shed.entry(cause).or_default() += 1;
            self.slow_refusals += usize::from(took > REFUSED_WITHIN);
        } else {
            let text = format!("{:?} {cause}", status.code());
            *self.otherwise.entry(text).or_default() += 1;
        }
    }

    fn shed(&self) -> usize {
        self.shed.values().sum()
    }
}

/// The cause that the first detail of a refusal names.
fn cause_of(status: &Status) -> Option<Cause> {
    let details = rpc::Status::decode(status.details()).ok()?.details;
    let first = details.first()?;
    if !first
        .type_url
        .ends_with("/temporal.api.errordetails.v1.ResourceExhaustedFailure")
    {
        return None;
    }
    let failure = ResourceExhaustedFailure::decode(first.value.as_slice()).ok()?;
    Cause::try_from(failure.cause).ok()
}

/// The largest sum of resident memory of these processes, in kilobytes.
async fn watch_memory(pids: Vec<u32>, stop: Arc<AtomicBool>) -> u64 {
    let mut most = 0;
    while !stop.load(Ordering::Relaxed) {
        // A process that cannot be looked at must not pass for a small one.
        let resident = |pid: &u32| resident_kb(*pid).unwrap_or(u64::MAX / 1_024);
        most = most.max(pids.iter().map(resident).sum());
        tokio::time::sleep(LOOK_EVERY).await;
    }
    most
}

fn resident_kb(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn judge(plan: &Plan, seen: &Seen) -> Done {
    let starts = &seen.starts;
    let otherwise: usize = starts.otherwise.values().sum::<usize>() + starts.not_sent;
    let rules = [
        (
            seen.peak > 0.0
                && 100.0 * seen.goodput >= f64::from(plan.goodput_min_percent) * seen.peak,
            format!(
                "finished per second: {:.1} at the peak, {:.1} at {} times as many starts, at least {} % demanded",
                seen.peak, seen.goodput, plan.times, plan.goodput_min_percent
            ),
        ),
        (
            seen.memory_mb <= plan.memory_max_mb,
            format!(
                "memory: {} MB of at most {}",
                seen.memory_mb, plan.memory_max_mb
            ),
        ),
        (
            starts.shed() > 0 && otherwise == 0,
            format!(
                "starts: {} accepted, {} refused with a cause {:?}, {} not sent, others {:?}",
                starts.accepted,
                starts.shed(),
                starts.shed,
                starts.not_sent,
                starts.otherwise
            ),
        ),
        (
            starts.slow_refusals * 10 <= starts.shed(),
            format!(
                "refusals that took longer than {REFUSED_WITHIN:?}: {}",
                starts.slow_refusals
            ),
        ),
        (
            seen.answers_refused == 0,
            format!("answers of workers refused: {}", seen.answers_refused),
        ),
        (
            seen.warnings <= WARNINGS_MAX,
            format!(
                "warnings logged: {} of at most {WARNINGS_MAX}",
                seen.warnings
            ),
        ),
    ];
    let held = rules.iter().all(|(held, _)| *held);
    let mut lines: Vec<String> = rules
        .iter()
        .map(|(held, text)| format!("{} {text}", if *held { "ok " } else { "FAIL" }))
        .collect();
    lines.push(match held {
        true => "the cluster kept working under the flood".to_owned(),
        false => "the cluster did not keep what it should under the flood".to_owned(),
    });
    Done::Expected(held, lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            times: 10,
            activities: 1,
            measure: Duration::from_secs(1),
            length: Duration::from_secs(1),
            goodput_min_percent: 80,
            memory_max_mb: 400,
        }
    }

    fn good() -> Seen {
        let mut starts = Starts::default();
        starts.note(Ok(()), Duration::ZERO);
        starts.note(Err(&refusal(Cause::SystemOverloaded)), Duration::ZERO);
        Seen {
            peak: 100.0,
            goodput: 80.0,
            memory_mb: 400,
            starts,
            ..Seen::default()
        }
    }

    fn refusal(cause: Cause) -> Status {
        let failure = ResourceExhaustedFailure {
            cause: cause as i32,
            ..Default::default()
        };
        let detail = prost_types::Any {
            type_url: "type.googleapis.com/temporal.api.errordetails.v1.ResourceExhaustedFailure"
                .into(),
            value: failure.encode_to_vec(),
        };
        let wire = rpc::Status {
            details: vec![detail],
            ..Default::default()
        };
        let code = Code::ResourceExhausted;
        Status::with_details(code, "no", wire.encode_to_vec().into())
    }

    fn holds(seen: &Seen) -> bool {
        matches!(judge(&plan(), seen), Done::Expected(true, _))
    }

    #[test]
    fn each_way_to_give_in_fails() {
        assert!(holds(&good()));
        let changes: [fn(&mut Seen); 9] = [
            |s| s.goodput = 79.9,
            |s| s.peak = 0.0,
            |s| s.memory_mb = 401,
            |s| s.warnings = WARNINGS_MAX + 1,
            |s| s.answers_refused = 1,
            |s| s.starts.not_sent = 1,
            // Nothing was refused: the flood was none.
            |s| s.starts.shed.clear(),
            |s| {
                s.starts
                    .note(Err(&Status::deadline_exceeded("slow")), Duration::ZERO)
            },
            // Refused, but no cause that tells clients to come again later.
            |s| {
                s.starts
                    .note(Err(&refusal(Cause::BusyWorkflow)), Duration::ZERO)
            },
        ];
        for (n, change) in changes.into_iter().enumerate() {
            let mut seen = good();
            change(&mut seen);
            assert!(!holds(&seen), "change {n}");
        }
        let mut slow = good();
        let refused = refusal(Cause::RpsLimit);
        slow.starts.note(Err(&refused), REFUSED_WITHIN * 2);
        assert!(!holds(&slow));
    }

    #[test]
    fn memory_of_a_process_is_read() {
        assert!(resident_kb(std::process::id()).is_some_and(|kb| kb > 1_000));
        assert_eq!(resident_kb(u32::MAX), None);
    }
}
