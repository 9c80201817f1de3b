//! Current pointers of one batch. Updates of a batch follow each other, while the database writes them as a
//! set: of several writes to one pointer, the first one's guard is the database's to check, the later ones'
//! are checked here against the write before them, and only the last one is written.

use std::collections::HashMap;

use proto_ids::{NamespaceId, RunKey, ShardId, WorkflowId};
use schema_store::execution::{CurrentExpected, CurrentRecord, RunUpdate};

/// The part that the database has to do.
pub(crate) struct Pointers<'a> {
    /// Update, and the run that the stored pointer must name; `None` for no pointer.
    pub(crate) guards: Vec<(usize, Option<&'a str>)>,
    /// Update, and the pointer that its workflow id has afterwards; `None` for no pointer.
    pub(crate) writes: Vec<(usize, Option<&'a CurrentRecord>)>,
}

impl<'a> Pointers<'a> {
    /// Folds the updates, or names those whose guards cannot hold after the ones before them.
    pub(crate) fn of(updates: &'a [RunUpdate]) -> Result<Self, Vec<RunKey>> {
        let mut written: HashMap<(ShardId, &NamespaceId, &WorkflowId), usize> = HashMap::new();
        let mut guards = Vec::new();
        let mut writes: Vec<(usize, Option<&CurrentRecord>)> = Vec::new();
        let mut failed = Vec::new();
        for (index, update) in updates.iter().enumerate() {
            let Some(current) = &update.current else {
                continue;
            };
            let record = current.record.as_ref();
            let pointer = (
                update.shard,
                &update.key.namespace_id,
                &update.key.workflow_id,
            );
            let Some(before) = written.get(&pointer).map(|at| &mut writes[*at]) else {
                match &current.expected {
                    CurrentExpected::Absent => guards.push((index, None)),
                    CurrentExpected::Run(run) => guards.push((index, Some(run.as_str()))),
                    CurrentExpected::Any => {}
                }
                written.insert(pointer, writes.len());
                writes.push((index, record));
                continue;
            };
            let holds = match &current.expected {
                CurrentExpected::Absent => before.1.is_none(),
                CurrentExpected::Run(run) => before.1.is_some_and(|before| before.run_id == *run),
                CurrentExpected::Any => true,
            };
            if holds {
                *before = (index, record);
            } else {
                failed.push(update.key.clone());
            }
        }
        if failed.is_empty() {
            Ok(Self { guards, writes })
        } else {
            Err(failed)
        }
    }
}
