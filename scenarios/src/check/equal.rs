//! After healing, every cluster holds the same histories, event by event.

use proto_messages::temporal::api::history::v1::HistoryEvent;

use super::{Case, Histories, Judgement, RunKey, run_name};

/// Compares all clusters with the first.
pub(super) fn judge(case: &Case) -> Judgement {
    let mut against: Vec<String> = case
        .clusters
        .iter()
        .flat_map(|c| {
            c.unreadable.iter().map(|(key, why)| {
                format!("{} cannot be read on {}: {why}", run_name(key), c.cluster)
            })
        })
        .collect();
    let Some((first, others)) = case.clusters.split_first() else {
        against.push("no histories were read".to_owned());
        return Judgement::of(
            "both sides hold equal histories",
            against,
            String::new(),
            "no data",
        );
    };
    for other in others {
        against.extend(differences(first, other));
    }
    let events: usize = first.runs.values().map(Vec::len).sum();
    let good = format!(
        "{} runs, {events} events, {} clusters",
        first.runs.len(),
        case.clusters.len()
    );
    Judgement::of(
        "all clusters hold equal histories",
        against,
        good,
        "runs differ or cannot be read",
    )
}

fn differences(a: &Histories, b: &Histories) -> Vec<String> {
    let unread = |h: &Histories, key: &RunKey| h.unreadable.contains_key(key);
    let mut found = Vec::new();
    for (key, events) in &a.runs {
        match b.runs.get(key) {
            Some(others) => {
                if let Some(why) = difference(events, others) {
                    found.push(format!(
                        "{} ({} and {}): {why}",
                        run_name(key),
                        a.cluster,
                        b.cluster
                    ));
                }
            }
            None if unread(b, key) => {}
            None => found.push(format!("{} is on {} only", run_name(key), a.cluster)),
        }
    }
    for key in b.runs.keys() {
        if !a.runs.contains_key(key) && !unread(a, key) {
            found.push(format!("{} is on {} only", run_name(key), b.cluster));
        }
    }
    found
}

/// The first difference between two histories of one run. The task id of an event is a cluster's own
/// bookkeeping and not compared.
pub(crate) fn difference(a: &[HistoryEvent], b: &[HistoryEvent]) -> Option<String> {
    for (x, y) in a.iter().zip(b) {
        let same = HistoryEvent {
            task_id: 0,
            ..x.clone()
        } == HistoryEvent {
            task_id: 0,
            ..y.clone()
        };
        if !same {
            let show = |e: &HistoryEvent| {
                format!(
                    "{} {} version {}",
                    e.event_id,
                    e.event_type().as_str_name(),
                    e.version
                )
            };
            return Some(if show(x) == show(y) {
                format!("event {} differs inside", show(x))
            } else {
                format!("event {} against {}", show(x), show(y))
            });
        }
    }
    (a.len() != b.len()).then(|| format!("{} events against {}", a.len(), b.len()))
}

#[cfg(test)]
mod tests {
    use super::{super::crafted::*, *};

    #[test]
    fn every_kind_of_difference_fails() {
        let changes: [fn(&mut Histories); 4] = [
            |h| drop(h.runs.values_mut().next().map(Vec::pop)),
            |h| h.runs.clear(),
            |h| h.runs.values_mut().for_each(|e| e[1].version = 11),
            |h| {
                h.runs.values_mut().for_each(|e| {
                    e[1].attributes = Some(signaled("another"));
                });
            },
        ];
        for change in changes {
            let mut changed = case(good());
            change(&mut changed.clusters[1]);
            assert!(!judge(&changed).passed);
            let mut mirrored = case(good());
            change(&mut mirrored.clusters[0]);
            assert!(!judge(&mirrored).passed);
        }
    }

    #[test]
    fn a_run_that_cannot_be_read_fails() {
        let mut case = case(good());
        let (key, _) = case.clusters[1].runs.pop_first().expect("a run");
        case.clusters[1].unreadable.insert(key, "timeout".into());
        let judgement = judge(&case);
        assert!(!judgement.passed);
        assert_eq!(judgement.evidence.len(), 1, "counted once: {judgement:?}");
    }

    #[test]
    fn task_ids_are_each_clusters_own() {
        let mut case = case(good());
        case.clusters[1]
            .runs
            .values_mut()
            .for_each(|e| e[0].task_id = 99);
        assert!(judge(&case).passed);
    }
}
