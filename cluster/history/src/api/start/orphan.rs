//! Orphaned children. After a forced failover the run that has the child's id may have been
//! started from a branch of the parent's history that lost; the parent initiates its child anew, and the two
//! would block one another for ever. The old run makes room when it has done nothing yet: it still waits for
//! a parent that will never release it.

use cluster_core::{MutableState, Refusal, VersionItem, request::Parent};
use cluster_shard::{CurrentRecord, Txn};
use proto_ids::EventId;

use super::StartParams;
use crate::{change, error::HistoryError};

/// Why an orphan was terminated.
const REASON: &str =
    "orphaned child workflow: it was initiated on a history branch of its parent that lost";

/// Ends the run that has the child's id, if it is an orphan of the child's own parent.
pub(super) async fn end(
    txn: &mut Txn,
    params: &StartParams,
    current: &CurrentRecord,
) -> Result<bool, HistoryError> {
    let Some(parent) = &params.start.parent else {
        return Ok(false);
    };
    let is_orphan = txn
        .peek(&current.run_id)
        .await?
        .is_some_and(|ms| is_orphan(ms, parent, &params.parent_branch));
    if !is_orphan {
        return Ok(false);
    }
    let ended =
        change::apply_in_txn(txn, &current.run_id, change::terminate(REASON.to_owned())).await;
    match ended {
        Ok(()) | Err(HistoryError::Refused(Refusal::Closed(_))) => {}
        Err(error) => return Err(error),
    }
    tracing::info!(workflow_id = %params.key.workflow_id, run_id = %current.run_id,
        parent = %parent.key, "an orphaned child makes room for the one its parent initiated again");
    Ok(true)
}

/// Whether a run is a child of `parent`'s run that the current history of the parent, `branch`, does not know,
/// and that has done nothing but start.
fn is_orphan(ms: &MutableState, parent: &Parent, branch: &[VersionItem]) -> bool {
    let Some(own) = &ms.start.parent else {
        return false;
    };
    let initiated = branch
        .iter()
        .find(|item| own.initiated_event_id <= item.event_id)
        .map(|item| item.version.get());
    let is_known = initiated == Some(own.initiated_event_version);
    let has_done_nothing = ms.is_running()
        && ms.execution_info.next_event_id == EventId::new(2)
        && ms.buffered.is_empty()
        && ms.start.first_run_id == ms.key.run_id;
    own.key == parent.key && !branch.is_empty() && !is_known && has_done_nothing
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_ids::RunKey;

    fn branch(items: &[(i64, i64)]) -> Vec<VersionItem> {
        let item = |&(event, version): &(i64, i64)| VersionItem {
            event_id: event.into(),
            version: version.into(),
        };
        items.iter().map(item).collect()
    }

    fn parent(run: &str, event: i64, version: i64) -> Parent {
        Parent {
            key: RunKey::new("n", "parent", run),
            initiated_event_id: event.into(),
            initiated_event_version: version,
            ..Parent::default()
        }
    }

    #[test]
    fn only_a_child_that_its_parent_lost_and_that_did_nothing_makes_room() {
        let mut child = MutableState {
            key: RunKey::new("n", "child", "c"),
            ..MutableState::default()
        };
        child.execution_info.next_event_id = 2.into();
        child.start.first_run_id = "c".into();
        child.start.parent = Some(parent("p", 5, 1));
        let lost = branch(&[(4, 1), (9, 2)]);
        let again = parent("p", 5, 2);
        assert!(is_orphan(&child, &again, &lost));
        assert!(
            !is_orphan(&child, &again, &branch(&[(6, 1), (9, 2)])),
            "known to its parent"
        );
        assert!(
            !is_orphan(&child, &parent("other", 5, 2), &lost),
            "of another run"
        );
        assert!(
            !is_orphan(&child, &again, &[]),
            "nothing is told of the parent's history"
        );
        child.execution_info.next_event_id = 3.into();
        assert!(
            !is_orphan(&child, &again, &lost),
            "something has happened in it"
        );
    }
}
