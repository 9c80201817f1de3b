//! At most one run of a workflow id is open on any cluster, and at the end, when nobody withholds
//! anything from them, none is open at all.

use std::collections::BTreeMap;

use super::{Case, Judgement, is_open};

/// Looks for workflow ids with several open runs.
pub(super) fn one_open_run(case: &Case) -> Judgement {
    let mut against = Vec::new();
    let mut ids = 0;
    for cluster in &case.clusters {
        let mut open: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for ((workflow_id, run_id), events) in &cluster.runs {
            let runs = open.entry(workflow_id).or_default();
            if is_open(events) {
                runs.push(run_id);
            }
        }
        ids = ids.max(open.len());
        against.extend(
            open.iter()
                .filter(|(_, runs)| runs.len() > 1)
                .map(|(id, runs)| {
                    format!("{id} on {}: open runs {}", cluster.cluster, runs.join(", "))
                }),
        );
    }
    Judgement::of(
        "one open run per workflow id",
        against,
        format!("{ids} workflow ids"),
        "workflow ids with several open runs",
    )
}

/// Looks for runs that did not end although all they wait for was given.
pub(super) fn nothing_stuck(case: &Case) -> Judgement {
    let rule = "no workflow is stuck";
    let Some(surviving) = case.surviving() else {
        let nothing = vec![format!("no histories of {} were read", case.active)];
        return Judgement::of(rule, nothing, String::new(), "nothing to judge by");
    };
    let against = surviving
        .runs
        .iter()
        .filter(|(_, events)| is_open(events))
        .map(|((id, run), events)| {
            let last = events
                .last()
                .map_or("no event", |e| e.event_type().as_str_name());
            format!(
                "{id} run {run}: open after {} events, the last {last}",
                events.len()
            )
        })
        .collect();
    Judgement::of(
        rule,
        against,
        format!("all {} runs are closed", surviving.runs.len()),
        "runs are still open",
    )
}

#[cfg(test)]
mod tests {
    use super::{super::crafted::*, *};

    #[test]
    fn two_open_runs_of_one_id_fail_and_one_closed_of_two_passes() {
        let mut case = case(good());
        let open = history(vec![started()]);
        let key = |run: &str| ("order-1".to_owned(), run.to_owned());
        case.clusters[0].runs.insert(key("run-2"), open.clone());
        assert!(one_open_run(&case).passed);
        case.clusters[0].runs.insert(key("run-3"), open);
        let judgement = one_open_run(&case);
        assert!(!judgement.passed);
        assert!(judgement.evidence[0].contains("run-2, run-3"));
    }

    #[test]
    fn an_open_run_at_the_end_fails() {
        assert!(!nothing_stuck(&case(history(vec![started(), signaled("s1")]))).passed);
        let mut unread = case(good());
        unread.active = "north".into();
        assert!(!nothing_stuck(&unread).passed);
    }
}
