//! Timers that a store's outage must not lose.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use scenarios_load::script::{Script, Step};
use tonic::{Code, Status};

use super::Done;
use crate::{
    oracle::{Op, Oracle},
    workload::Side,
};

/// Starts at once.
const AT_ONCE: usize = 16;

/// This many lengths from the shortest to the longest, evenly.
pub(super) fn spread(count: u32, shortest: Duration, longest: Duration) -> Vec<Duration> {
    let gaps = count.saturating_sub(1).max(1);
    let range = longest.saturating_sub(shortest);
    (0..count).map(|n| shortest + range * n / gaps).collect()
}

/// How long a server may say that it is busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause before a start that was refused is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Starts a workflow for each length, which ends when its timer has fired.
pub(super) async fn start_timers(
    side: &Side,
    oracle: &Oracle,
    lengths: Vec<Duration>,
) -> anyhow::Result<Done> {
    let count = lengths.len();
    let starts = lengths
        .into_iter()
        .enumerate()
        .map(|(n, length)| async move {
            let millis = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
            let script = Script {
                steps: vec![Step::Timers(vec![millis])],
                ..Default::default()
            };
            let id = format!("timer-{n}");
            let asked = Instant::now();
            let run = start_patiently(side, &id, &script).await;
            let run = run.with_context(|| format!("start {id}"))?;
            oracle.record(&side.cluster, Op::Start, &id, &run, asked.elapsed(), Ok(()));
            anyhow::Ok(())
        });
    let started = stream::iter(starts).buffer_unordered(AT_ONCE);
    started.try_collect::<Vec<()>>().await?;
    Ok(Done::Expected(
        true,
        format!("{count} workflows wait for a timer each"),
    ))
}

/// Starts a workflow as the client of an SDK does: "again later" is no failure.
async fn start_patiently(side: &Side, id: &str, script: &Script) -> Result<String, Status> {
    let begun = Instant::now();
    loop {
        let run = side.client.start(id, id, &script.input(0)).await;
        let is_busy = |status: &Status| status.code() == Code::ResourceExhausted;
        if begun.elapsed() > PATIENCE || !run.as_ref().is_err_and(is_busy) {
            return run;
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_spread_from_the_shortest_to_the_longest() {
        let seconds = Duration::from_secs;
        let of = |count| spread(count, seconds(10), seconds(30));
        assert_eq!(of(3), [seconds(10), seconds(20), seconds(30)]);
        assert_eq!(of(1), [seconds(10)]);
        assert!(of(0).is_empty());
    }
}
