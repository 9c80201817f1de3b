//! `meridian dlq ...`: tasks that could not be done and were set aside. They wait in queues of their own and
//! stop no others.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use proto_messages::temporal::server::api::{
    adminservice::v1::{
        DescribeDlqJobRequest, DescribeDlqJobResponse, GetDlqMessagesRequest, GetDlqTasksRequest,
        ListQueuesRequest, MergeDlqMessagesRequest, MergeDlqTasksRequest, PurgeDlqMessagesRequest,
        PurgeDlqTasksRequest,
    },
    common::v1::{HistoryDlqKey, HistoryDlqTaskMetadata},
    enums::v1::{DeadLetterQueueType, DlqOperationState},
};
use serde::Serialize;

use crate::{GlobalArgs, REFUSED, connect::Server, output};

/// Entries per call.
const PAGE: i32 = 100;

/// Which dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Changes of workflows that came from another cluster and could not be applied.
    #[value(alias = "history")]
    Replication,
    /// Changes of namespaces that came from another cluster.
    Namespace,
    /// This cluster's own tasks that are due at once.
    Transfer,
    /// This cluster's own timers.
    Timer,
    /// Rows of lists that could not be written.
    Visibility,
}

/// Commands on dead letters.
#[derive(Clone, Debug, Subcommand)]
pub enum DlqCommand {
    /// Which queues hold anything.
    List {
        /// Where and how.
        #[command(flatten)]
        global: GlobalArgs,
    },
    /// Lists the entries of a queue with their causes.
    Read(QueueArgs),
    /// Try again, and remove what was taken.
    Replay(QueueArgs),
    /// Throw away for good. Says how many without --yes, and removes nothing.
    Purge(PurgeArgs),
}

/// Names a queue and how much of it.
#[derive(Clone, Debug, Args)]
pub struct QueueArgs {
    /// Which dead letters.
    #[arg(long, value_enum, default_value_t = Kind::Replication)]
    pub kind: Kind,
    /// The cluster they came from. Needed for those of replication.
    #[arg(long, default_value = "")]
    pub source_cluster: String,
    /// Up to and including this message; all by default.
    #[arg(long, default_value_t = i64::MAX)]
    pub last_message_id: i64,
    /// Where and how.
    #[command(flatten)]
    pub global: GlobalArgs,
}

/// Names what is thrown away.
#[derive(Clone, Debug, Args)]
pub struct PurgeArgs {
    /// Which queue, and how much of it.
    #[command(flatten)]
    pub queue: QueueArgs,
    /// Really.
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Serialize)]
struct Queue {
    name: String,
    /// The flags that name it to the other commands.
    flags: String,
    messages: i64,
    last_message_id: i64,
}

#[derive(Debug, Serialize)]
struct Entry {
    message_id: i64,
    time: String,
    kind: String,
    namespace_id: String,
    workflow_id: String,
    run_id: String,
    shard: i32,
    attempts: i32,
    cause: String,
}

impl QueueArgs {
    fn key(&self) -> anyhow::Result<HistoryDlqKey> {
        let task_category = match self.kind {
            Kind::Transfer => 1,
            Kind::Timer => 2,
            Kind::Replication => 3,
            Kind::Visibility => 4,
            Kind::Namespace => bail!("letters of namespaces have no task category"),
        };
        if self.kind == Kind::Replication && self.source_cluster.is_empty() {
            bail!("say which cluster they came from: --source-cluster NAME");
        }
        Ok(HistoryDlqKey {
            task_category,
            source_cluster: self.source_cluster.clone(),
            target_cluster: String::new(),
        })
    }

    fn through(&self) -> HistoryDlqTaskMetadata {
        HistoryDlqTaskMetadata {
            message_id: self.last_message_id,
            ..HistoryDlqTaskMetadata::default()
        }
    }
}

pub(crate) async fn run(command: DlqCommand) -> anyhow::Result<ExitCode> {
    match command {
        DlqCommand::List { global } => list(global).await,
        DlqCommand::Read(args) => {
            let entries = entries(&args).await?;
            args.global.output.print(&entries, |found| table(found))?;
            Ok(ExitCode::SUCCESS)
        }
        DlqCommand::Replay(args) => replay(args).await,
        DlqCommand::Purge(args) => purge(args).await,
    }
}

async fn list(global: GlobalArgs) -> anyhow::Result<ExitCode> {
    let mut admin = global.connect.connect().await?.admin();
    let mut queues = Vec::new();
    let mut request = ListQueuesRequest {
        page_size: PAGE,
        ..Default::default()
    };
    loop {
        let page = admin
            .list_queues(request.clone())
            .await
            .context("list queues")?
            .into_inner();
        queues.extend(page.queues.into_iter().map(|q| Queue {
            flags: flags(&q.queue_name),
            name: q.queue_name,
            messages: q.message_count,
            last_message_id: q.last_message_id,
        }));
        if page.next_page_token.is_empty() {
            break;
        }
        request.next_page_token = page.next_page_token;
    }
    global.output.print(&queues, |queues| {
        if queues.is_empty() {
            return "no dead letters".into();
        }
        let rows = queues.iter().map(|q| {
            vec![
                q.name.clone(),
                q.flags.clone(),
                q.messages.to_string(),
                q.last_message_id.to_string(),
            ]
        });
        output::table(&["queue", "read it with", "messages", "last id"], rows)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The flags that name a queue: its name is category, source, target and a hash.
fn flags(queue: &str) -> String {
    let Some((category, rest)) = queue.split_once('_') else {
        return String::new();
    };
    match category {
        "1" => "--kind transfer".into(),
        "2" => "--kind timer".into(),
        "3" => {
            let parts: Vec<_> = rest.split('_').collect();
            // Names of clusters may hold the separator, too; then the reader has to tell them apart.
            match parts[..] {
                [source, _, _] => format!("--source-cluster {source}"),
                _ => "--source-cluster NAME".into(),
            }
        }
        "4" => "--kind visibility".into(),
        _ => String::new(),
    }
}

/// The entries of the queue, as far as requested.
async fn entries(args: &QueueArgs) -> anyhow::Result<Vec<Entry>> {
    let server = args.global.connect.connect().await?;
    let mut entries = match args.kind {
        Kind::Namespace => namespace_entries(&server, args).await?,
        _ => task_entries(&server, args).await?,
    };
    entries.retain(|entry| entry.message_id <= args.last_message_id);
    Ok(entries)
}

async fn task_entries(server: &Server, args: &QueueArgs) -> anyhow::Result<Vec<Entry>> {
    let mut admin = server.admin();
    let mut entries = Vec::new();
    let mut request = GetDlqTasksRequest {
        dlq_key: Some(args.key()?),
        page_size: PAGE,
        ..Default::default()
    };
    loop {
        let page = admin.get_dlq_tasks(request.clone()).await.context("read")?;
        let page = page.into_inner();
        let metadata = page.dlq_tasks.into_iter().filter_map(|task| task.metadata);
        entries.extend(metadata.map(|m| Entry {
            message_id: m.message_id,
            time: moment(m.time.as_ref()),
            kind: m.kind,
            namespace_id: m.namespace_id,
            workflow_id: m.workflow_id,
            run_id: m.run_id,
            shard: m.shard_id,
            attempts: m.attempts,
            cause: m.cause,
        }));
        if page.next_page_token.is_empty() {
            return Ok(entries);
        }
        request.next_page_token = page.next_page_token;
    }
}

async fn namespace_entries(server: &Server, args: &QueueArgs) -> anyhow::Result<Vec<Entry>> {
    let mut admin = server.admin();
    let mut entries = Vec::new();
    let mut request = GetDlqMessagesRequest {
        r#type: DeadLetterQueueType::Namespace as i32,
        source_cluster: args.source_cluster.clone(),
        inclusive_end_message_id: args.last_message_id,
        maximum_page_size: PAGE,
        ..Default::default()
    };
    loop {
        let page = admin
            .get_dlq_messages(request.clone())
            .await
            .context("read")?
            .into_inner();
        entries.extend(page.replication_tasks.into_iter().map(|task| {
            Entry {
                message_id: task.source_task_id,
                time: moment(task.visibility_time.as_ref()),
                kind: task
                    .task_type()
                    .as_str_name()
                    .trim_start_matches("REPLICATION_TASK_TYPE_")
                    .to_lowercase(),
                namespace_id: String::new(),
                workflow_id: String::new(),
                run_id: String::new(),
                shard: 0,
                attempts: 0,
                cause: String::new(),
            }
        }));
        if page.next_page_token.is_empty() {
            return Ok(entries);
        }
        request.next_page_token = page.next_page_token;
    }
}

async fn replay(args: QueueArgs) -> anyhow::Result<ExitCode> {
    let server = args.global.connect.connect().await?;
    let mut admin = server.admin();
    if args.kind == Kind::Namespace {
        let request = MergeDlqMessagesRequest {
            r#type: DeadLetterQueueType::Namespace as i32,
            source_cluster: args.source_cluster.clone(),
            inclusive_end_message_id: args.last_message_id,
            maximum_page_size: PAGE,
            ..Default::default()
        };
        admin.merge_dlq_messages(request).await.context("replay")?;
        eprintln!("replayed; `meridian dlq list` shows what is left");
        return Ok(ExitCode::SUCCESS);
    }
    let request = MergeDlqTasksRequest {
        dlq_key: Some(args.key()?),
        inclusive_max_task_metadata: Some(args.through()),
        batch_size: PAGE,
    };
    let merged = admin.merge_dlq_tasks(request).await.context("replay")?;
    let job = job(&server, merged.into_inner().job_token).await?;
    eprintln!("replayed {}", job.messages_processed);
    if job.operation_state() == DlqOperationState::Failed {
        eprintln!("some were refused again and stay; `meridian dlq read` shows them");
        return Ok(ExitCode::from(REFUSED));
    }
    Ok(ExitCode::SUCCESS)
}

async fn purge(args: PurgeArgs) -> anyhow::Result<ExitCode> {
    let queue = &args.queue;
    let found = entries(queue).await?.len();
    if !args.yes {
        eprintln!("{found} would be removed for good; add --yes to do it");
        return Ok(ExitCode::from(REFUSED));
    }
    let server = queue.global.connect.connect().await?;
    let mut admin = server.admin();
    let purged = if queue.kind == Kind::Namespace {
        let request = PurgeDlqMessagesRequest {
            r#type: DeadLetterQueueType::Namespace as i32,
            source_cluster: queue.source_cluster.clone(),
            inclusive_end_message_id: queue.last_message_id,
            ..Default::default()
        };
        admin.purge_dlq_messages(request).await.context("purge")?;
        i64::try_from(found).unwrap_or(i64::MAX)
    } else {
        let request = PurgeDlqTasksRequest {
            dlq_key: Some(queue.key()?),
            inclusive_max_task_metadata: Some(queue.through()),
        };
        let purged = admin.purge_dlq_tasks(request).await.context("purge")?;
        let job = job(&server, purged.into_inner().job_token).await?;
        job.messages_processed
    };
    eprintln!("purged {purged}");
    Ok(ExitCode::SUCCESS)
}

/// How a job has ended.
async fn job(server: &Server, job_token: bytes::Bytes) -> anyhow::Result<DescribeDlqJobResponse> {
    let request = DescribeDlqJobRequest { job_token };
    let job = server.admin().describe_dlq_job(request).await;
    Ok(job.context("see how it ended")?.into_inner())
}

fn table(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "nothing".into();
    }
    let rows = entries.iter().map(|e| {
        vec![
            e.message_id.to_string(),
            e.time.clone(),
            e.kind.clone(),
            e.workflow_id.clone(),
            e.run_id.clone(),
            e.attempts.to_string(),
            e.cause.clone(),
        ]
    });
    let header = [
        "message", "time", "kind", "workflow", "run", "attempts", "cause",
    ];
    output::table(&header, rows)
}

/// A moment with its date, UTC.
fn moment(at: Option<&prost_types::Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_listed_with_the_flags_that_read_it() {
        for (queue, wanted) in [
            ("1_east_east_ee7745a5", "--kind transfer"),
            ("2_east_east_ee7745a5", "--kind timer"),
            ("3_west_east_4f5c596b", "--source-cluster west"),
            ("3_us_west_east_4f5c596b", "--source-cluster NAME"),
            ("4_west_west_cb6a229d", "--kind visibility"),
        ] {
            assert_eq!(flags(queue), wanted);
        }
    }
}
