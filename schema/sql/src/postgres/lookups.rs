//! Looking up current pointers, which every start does. The first caller that gets a connection asks for all
//! that wait, so that a busy server pays one round trip for several starts, and an idle one does not wait for
//! company.

use parking_lot::Mutex;
use proto_ids::{NamespaceId, ShardId, WorkflowId};
use schema_store::{StoreError, execution::CurrentRecord};
use sqlx::postgres::PgConnectOptions;
use tokio::sync::oneshot;

use super::{execution, fail, lanes::Lanes};

/// Lookups that share round trips.
pub(super) struct Lookups {
    connections: Lanes,
    waiting: Mutex<Vec<Wanted>>,
}

type Found = Result<Option<CurrentRecord>, StoreError>;

/// One lookup that waits.
struct Wanted {
    shard: ShardId,
    namespace_id: NamespaceId,
    workflow_id: WorkflowId,
    answer: oneshot::Sender<Found>,
}

type Row = (i64, String, String, i64, i64, i64, String);

impl Lookups {
    pub(super) fn new(options: PgConnectOptions, connections: u32) -> Self {
        // As for commits: a plan that is chosen while the table is small must not scan it later.
        let by_key = [
            ("enable_seqscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
            ("plan_cache_mode", "force_generic_plan"),
        ];
        Self {
            connections: Lanes::new(options.options(by_key), connections),
            waiting: Mutex::default(),
        }
    }

    /// The current pointer of a workflow id, as it is stored at some moment of this call.
    pub(super) async fn current(
        &self,
        shard: ShardId,
        namespace_id: &NamespaceId,
        workflow_id: &WorkflowId,
    ) -> Found {
        loop {
            let (answer, mut answered) = oneshot::channel();
            self.waiting.lock().push(Wanted {
                shard,
                namespace_id: namespace_id.clone(),
                workflow_id: workflow_id.clone(),
                answer,
            });
            let mut connection = tokio::select! {
                biased;
                found = &mut answered => match found {
                    Ok(found) => return found,
                    // The caller that asked for this one failed, or went away.
                    Err(_) => continue,
                },
                connection = self.connections.take() => connection.map_err(fail)?,
            };
            let mut wanted = std::mem::take(&mut *self.waiting.lock());
            wanted.retain(|w| !w.answer.is_closed());
            if !wanted.is_empty() {
                ask(&mut connection.conn, wanted).await?;
            }
            connection.release();
            if let Ok(found) = answered.await {
                return found;
            }
        }
    }
}

/// Asks for all of them at once. When that fails, those who wait ask again by themselves.
async fn ask(conn: &mut super::Connection, wanted: Vec<Wanted>) -> Result<(), StoreError> {
    let shards: Vec<_> = wanted.iter().map(|w| i64::from(w.shard.get())).collect();
    let namespaces: Vec<_> = wanted.iter().map(|w| w.namespace_id.as_str()).collect();
    let workflows: Vec<_> = wanted.iter().map(|w| w.workflow_id.as_str()).collect();
    let rows = sqlx::query_as(
        "SELECT w.position, c.run_id, c.request_id, c.status, c.last_write_version, c.start_time, c.first_run_id
         FROM unnest($1::BIGINT[], $2::TEXT[], $3::TEXT[]) WITH ORDINALITY
             AS w (shard_id, namespace_id, workflow_id, position)
         JOIN current_run AS c ON c.shard_id = w.shard_id AND c.namespace_id = w.namespace_id
             AND c.workflow_id = w.workflow_id",
    )
    .bind(shards)
    .bind(namespaces)
    .bind(workflows)
    .fetch_all(conn);
    let rows: Vec<Row> = rows.await.map_err(fail)?;
    let mut found: Vec<Found> = wanted.iter().map(|_| Ok(None)).collect();
    for (position, run, request, status, version, start, first) in rows {
        let record = execution::pointer_of((run, request, status, version, start, first));
        let at = usize::try_from(position - 1).unwrap_or(usize::MAX);
        if let Some(place) = found.get_mut(at) {
            *place = record.map(Some);
        }
    }
    for (wanted, found) in wanted.into_iter().zip(found) {
        // A caller that went away does not get it.
        let _ = wanted.answer.send(found);
    }
    Ok(())
}
