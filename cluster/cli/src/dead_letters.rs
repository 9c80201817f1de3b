//! `meridian dlq ...`: replication tasks that could not be applied. They wait in a queue of their own and
//! do not stop others.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use proto_messages::temporal::server::api::{
    adminservice::v1::{
        GetDlqMessagesRequest, ListQueuesRequest, MergeDlqMessagesRequest, PurgeDlqMessagesRequest,
    },
    enums::v1::DeadLetterQueueType,
};
use serde::Serialize;

use crate::{GlobalArgs, output};

/// Which dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Changes of workflows.
    History,
    /// Changes of namespaces.
    Namespace,
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
    /// What a queue holds.
    Read(QueueArgs),
    /// Apply again, and remove what could be applied.
    Replay(QueueArgs),
    /// Throw away.
    Purge(QueueArgs),
}

/// Names a queue and how much of it.
#[derive(Clone, Debug, Args)]
pub struct QueueArgs {
    /// Which dead letters.
    #[arg(long, value_enum, default_value_t = Kind::History)]
    pub kind: Kind,
    /// The cluster they came from.
    #[arg(long)]
    pub source_cluster: String,
    /// The shard here (history only).
    #[arg(long, default_value_t = 0)]
    pub shard: i32,
    /// Up to and including this message; all by default.
    #[arg(long, default_value_t = i64::MAX)]
    pub last_message_id: i64,
    /// Where and how.
    #[command(flatten)]
    pub global: GlobalArgs,
}

#[derive(Debug, Serialize)]
struct Queue {
    name: String,
    messages: i64,
    last_message_id: i64,
}

#[derive(Debug, Serialize)]
struct Letter {
    message_id: i64,
    kind: String,
    time: String,
}

impl Kind {
    fn wire(self) -> i32 {
        match self {
            Self::History => DeadLetterQueueType::Replication as i32,
            Self::Namespace => DeadLetterQueueType::Namespace as i32,
        }
    }
}

pub(crate) async fn run(command: DlqCommand) -> anyhow::Result<ExitCode> {
    match command {
        DlqCommand::List { global } => list(global).await?,
        DlqCommand::Read(args) => read(args).await?,
        DlqCommand::Replay(args) => {
            let mut admin = args.global.connect.connect().await?.admin();
            let mut request = MergeDlqMessagesRequest {
                r#type: args.kind.wire(),
                shard_id: args.shard,
                source_cluster: args.source_cluster,
                inclusive_end_message_id: args.last_message_id,
                maximum_page_size: 100,
                ..Default::default()
            };
            loop {
                let page = admin
                    .merge_dlq_messages(request.clone())
                    .await
                    .context("replay")?
                    .into_inner();
                if page.next_page_token.is_empty() {
                    break;
                }
                request.next_page_token = page.next_page_token;
            }
            eprintln!("replayed; `meridian dlq list` shows what is left");
        }
        DlqCommand::Purge(args) => {
            let mut admin = args.global.connect.connect().await?.admin();
            let request = PurgeDlqMessagesRequest {
                r#type: args.kind.wire(),
                shard_id: args.shard,
                source_cluster: args.source_cluster,
                inclusive_end_message_id: args.last_message_id,
            };
            admin.purge_dlq_messages(request).await.context("purge")?;
            eprintln!("purged");
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(global: GlobalArgs) -> anyhow::Result<()> {
    let mut admin = global.connect.connect().await?.admin();
    let mut queues = Vec::new();
    let mut request = ListQueuesRequest {
        page_size: 100,
        ..Default::default()
    };
    loop {
        let page = admin
            .list_queues(request.clone())
            .await
            .context("list queues")?
            .into_inner();
        queues.extend(page.queues.into_iter().map(|q| Queue {
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
                q.messages.to_string(),
                q.last_message_id.to_string(),
            ]
        });
        output::table(&["queue", "messages", "last id"], rows)
    })
}

async fn read(args: QueueArgs) -> anyhow::Result<()> {
    let mut admin = args.global.connect.connect().await?.admin();
    let mut letters = Vec::new();
    let mut request = GetDlqMessagesRequest {
        r#type: args.kind.wire(),
        shard_id: args.shard,
        source_cluster: args.source_cluster,
        inclusive_end_message_id: args.last_message_id,
        maximum_page_size: 100,
        ..Default::default()
    };
    loop {
        let page = admin
            .get_dlq_messages(request.clone())
            .await
            .context("read")?
            .into_inner();
        letters.extend(page.replication_tasks.into_iter().map(|t| {
            Letter {
                message_id: t.source_task_id,
                kind: t
                    .task_type()
                    .as_str_name()
                    .trim_start_matches("REPLICATION_TASK_TYPE_")
                    .to_lowercase(),
                time: output::clock(t.visibility_time.as_ref()),
            }
        }));
        if page.next_page_token.is_empty() {
            break;
        }
        request.next_page_token = page.next_page_token;
    }
    args.global.output.print(&letters, |letters| {
        let rows = letters
            .iter()
            .map(|l| vec![l.message_id.to_string(), l.kind.clone(), l.time.clone()]);
        output::table(&["message", "kind", "time"], rows)
    })
}
