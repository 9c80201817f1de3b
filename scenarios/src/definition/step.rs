//! The steps of a drill: what the operator does and what goes wrong.

use serde::{Deserialize, Deserializer, de::Error};

use super::Span;

/// One step and what to tell the reader about it.
#[derive(Clone, Debug)]
pub struct Step {
    /// Shown while it runs and on the timeline; the action itself when absent.
    pub say: Option<String>,
    /// The action.
    pub action: Action,
}

/// The action of a step. Each is finished before the next begins, while the load goes on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Lets the load run.
    Run {
        /// For how long.
        #[serde(rename = "for")]
        length: Span,
    },
    /// Moves the namespace without loss, by the operator's command.
    Switchover {
        /// The cluster that becomes active.
        to: String,
        /// The longest pause of writes the command may cause before it rolls back.
        max_pause: Span,
    },
    /// Begins a switchover by the operator's command and ends the active cluster, which carries it out, with
    /// kill -9 in the midst of it.
    InterruptSwitchover {
        /// The cluster that was to become active.
        to: String,
        /// The longest pause of writes, as in `switchover`.
        max_pause: Span,
        /// The cluster whose processes are killed.
        kill: String,
        /// As soon as the command tells of this.
        at: SwitchoverStep,
    },
    /// Takes workflow tasks and keeps them, signals their workflows, begins a switchover and ends the active
    /// cluster with kill -9 as soon as it is done. Every acknowledged signal has to be at the target.
    BufferedSignals {
        /// The cluster that becomes active.
        to: String,
        /// The longest pause of writes, as in `switchover`.
        max_pause: Span,
        /// The active cluster, whose processes are killed.
        kill: String,
        /// How many workflow tasks are kept.
        workflows: usize,
        /// How many signals each of their workflows gets.
        signals: usize,
    },
    /// Ends a cluster, deletes all it stored, starts it and connects it again.
    Wipe {
        /// Which.
        cluster: String,
    },
    /// Checks that the status tells what a cluster lacks, and that a switchover to it is refused.
    ExpectIncomplete {
        /// The active cluster.
        from: String,
        /// The cluster that lacks something.
        to: String,
    },
    /// Sends again what a cluster lacks, by the operator's command, and waits until it has it.
    Repair {
        /// The active cluster.
        from: String,
        /// The cluster that lacks something.
        to: String,
    },
    /// Spoils rows of workflows in the files of both clusters, which are killed and started again for it.
    Poison {
        /// The active cluster.
        from: String,
        /// The cluster that lacks what cannot be sent.
        to: String,
    },
    /// Checks that every spoilt row was set aside and told of, and that the rest goes on.
    ExpectSetAside {
        /// The active cluster.
        from: String,
        /// The cluster that lacks what could not be sent.
        to: String,
    },
    /// Repairs what `poison` spoilt, has what was set aside replayed, and waits until nothing is lacking.
    Mend {
        /// The active cluster.
        from: String,
        /// The other one.
        to: String,
    },
    /// Makes another cluster active without asking the old one.
    Failover {
        /// The cluster that becomes active.
        to: String,
        /// How it is asked for.
        #[serde(default)]
        by: Command,
    },
    /// Ends processes with kill -9.
    Kill {
        /// The cluster.
        cluster: String,
        /// Only processes with this service; all when absent.
        service: Option<String>,
        /// Only this many of them; all when absent.
        count: Option<usize>,
    },
    /// Starts again every process of a cluster that is not running.
    Start {
        /// The cluster.
        cluster: String,
    },
    /// Stops processes without ending them, as a stalled machine would.
    Freeze {
        /// The cluster.
        cluster: String,
    },
    /// Lets frozen processes go on.
    Thaw {
        /// The cluster.
        cluster: String,
    },
    /// Cuts all links between clusters: connections hang or break, nothing passes.
    Partition {},
    /// Adds a delay to every link between clusters.
    Delay {
        /// One way.
        by: Span,
    },
    /// Mends all links.
    Heal {},
    /// Breaks the connections between clusters once, so that both sides shake hands anew.
    Reconnect {},
    /// Replaces certificate files of a cluster on disk; nothing is restarted.
    RotateCertificates {
        /// The cluster.
        cluster: String,
        /// By what.
        with: Certificates,
    },
    /// Waits until both clusters hold the same histories.
    WaitConverged {
        /// At most this long.
        within: Span,
    },
    /// Checks that one cluster is active by the word of all clusters, and that writes are not held back.
    ExpectActive {
        /// Which.
        cluster: String,
        /// How long it may take them to agree.
        within: Span,
    },
    /// Checks that a frontend refuses a client with a certificate that must not be trusted.
    ExpectRefused {
        /// The cluster whose frontend is called.
        cluster: String,
        /// The certificate that the client presents.
        certificate: Untrusted,
    },
    /// Starts many times more workflows than the cluster can do, and checks that it keeps working.
    Overload {
        /// The cluster whose frontend is called.
        cluster: String,
        /// How long the most it can do is measured first.
        measure: Span,
        /// How many times as many starts come then.
        times: u32,
        /// Activities of each workflow.
        activities: u32,
        /// For how long.
        #[serde(rename = "for")]
        length: Span,
        /// The part of the most that must still be finished meanwhile, in percent.
        goodput_min_percent: u32,
        /// Most memory that the cluster's processes may take.
        memory_max_mb: u64,
    },
    /// Starts workflows that wait for timers, one each, their lengths spread evenly.
    StartTimers {
        /// Where.
        cluster: String,
        /// How many.
        count: u32,
        /// The shortest timer.
        shortest: Span,
        /// The longest timer.
        longest: Span,
    },
    /// Ends the database server at once, as a crash would.
    StopStore {},
    /// Starts the database server again.
    StartStore {},
    /// Checks whether a fresh write travels from one cluster to another.
    ExpectReplication {
        /// Where it is written.
        from: String,
        /// Where it is looked for.
        to: String,
        /// Whether it must arrive or must not.
        flow: Flow,
        /// How long to look.
        within: Span,
    },
}

/// How a failover is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// By `UpdateNamespace`, as the tools of Temporal do.
    Api,
    /// By this binary's own command.
    #[default]
    Command,
}

/// The progress events of a switchover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SwitchoverStep {
    /// Writes are held back; the target does not have everything yet.
    Hold,
    /// The target has everything; the namespace still belongs to the old side, or has just changed hands.
    Drain,
    /// The namespace belongs to the target, which may not be notified of it yet.
    Flip,
    /// The command says that it is done.
    Done,
}

impl SwitchoverStep {
    /// As the command prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Drain => "drain",
            Self::Flip => "flip",
            Self::Done => "done",
        }
    }
}

/// Certificates to put in place of those in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certificates {
    /// New ones of the same authority.
    Fresh,
    /// The file of trusted authorities gains the next authority; certificates stay.
    TrustNextAuthority,
    /// New ones of the next authority.
    NextAuthority,
    /// The file of trusted authorities holds the next authority only.
    DropOldAuthority,
    /// New ones of the authority in use that are over in a few seconds.
    ShortLived,
}

/// Certificates that must be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Untrusted {
    /// Of a trusted authority, but its time is over.
    Expired,
    /// Of an authority that is not trusted.
    Foreign,
    /// None at all.
    Absent,
}

/// The expectation on replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flow {
    /// The write arrives.
    Arrives,
    /// It does not.
    Blocked,
}

impl Action {
    /// The clusters it names.
    pub fn clusters(&self) -> Vec<&str> {
        match self {
            Self::Switchover { to, .. } | Self::Failover { to, .. } => vec![to],
            Self::InterruptSwitchover { to, kill, .. } | Self::BufferedSignals { to, kill, .. } => {
                vec![kill, to]
            }
            Self::ExpectIncomplete { from, to }
            | Self::Repair { from, to }
            | Self::Poison { from, to }
            | Self::ExpectSetAside { from, to }
            | Self::Mend { from, to } => vec![from, to],
            Self::Wipe { cluster } => vec![cluster],
            Self::Kill { cluster, .. }
            | Self::Overload { cluster, .. }
            | Self::StartTimers { cluster, .. }
            | Self::ExpectActive { cluster, .. }
            | Self::Start { cluster }
            | Self::Freeze { cluster }
            | Self::Thaw { cluster }
            | Self::ExpectRefused { cluster, .. }
            | Self::RotateCertificates { cluster, .. } => vec![cluster],
            Self::ExpectReplication { from, to, .. } => vec![from, to],
            Self::Run { .. }
            | Self::Partition {}
            | Self::Delay { .. }
            | Self::Heal {}
            | Self::Reconnect {}
            | Self::StopStore {}
            | Self::StartStore {}
            | Self::WaitConverged { .. } => vec![],
        }
    }

    /// Whether it hurts something, so that time to recovery counts from it.
    pub fn is_fault(&self) -> bool {
        matches!(
            self,
            Self::Kill { .. }
                | Self::InterruptSwitchover { .. }
                | Self::BufferedSignals { .. }
                | Self::Wipe { .. }
                | Self::Poison { .. }
                | Self::Freeze { .. }
                | Self::StopStore {}
                | Self::Partition {}
        )
    }

    fn describe(&self) -> String {
        match self {
            Self::Run { length } => format!("run for {length}"),
            Self::Switchover { to, max_pause } => {
                format!("switchover to {to}, pause up to {max_pause}")
            }
            Self::InterruptSwitchover { to, kill, at, .. } => {
                format!("switchover to {to}; kill -9 {kill} at its {}", at.as_str())
            }
            Self::BufferedSignals { to, kill, .. } => {
                format!("switchover to {to} with buffered signals; kill -9 {kill} when it is done")
            }
            Self::Wipe { cluster } => format!("wipe the disk of {cluster}"),
            Self::ExpectIncomplete { to, .. } => format!("{to} is incomplete"),
            Self::Repair { to, .. } => format!("send {to} what it lacks"),
            Self::Poison { from, to } => format!("spoil rows of {from} and {to}"),
            Self::ExpectSetAside { from, .. } => {
                format!("{from} sets aside what it cannot work with")
            }
            Self::Mend { from, to } => format!("mend {from} and {to}"),
            Self::ExpectActive { cluster, .. } => format!("{cluster} is active"),
            Self::Failover { to, .. } => format!("failover to {to}"),
            Self::Kill {
                cluster,
                service,
                count,
            } => {
                let what = service.as_deref().unwrap_or("all");
                let count = count.map(|n| format!("{n} ")).unwrap_or_default();
                format!("kill -9 {count}{what} of {cluster}")
            }
            Self::Start { cluster } => format!("start {cluster}"),
            Self::Freeze { cluster } => format!("freeze {cluster}"),
            Self::Thaw { cluster } => format!("thaw {cluster}"),
            Self::Partition {} => "cut the links".to_owned(),
            Self::Delay { by } => format!("delay the links by {by}"),
            Self::Heal {} => "heal the links".to_owned(),
            Self::Reconnect {} => "break connections once".to_owned(),
            Self::RotateCertificates { cluster, with } => {
                format!("certificates of {cluster}: {with:?}")
            }
            Self::ExpectRefused {
                cluster,
                certificate,
            } => {
                format!("{cluster} refuses a client certificate: {certificate:?}")
            }
            Self::Overload { cluster, times, .. } => {
                format!("{times} times the peak of starts on {cluster}")
            }
            Self::StartTimers { count, .. } => format!("start {count} timers"),
            Self::StopStore {} => "the database server ends".to_owned(),
            Self::StartStore {} => "the database server starts again".to_owned(),
            Self::WaitConverged { .. } => "wait until both sides are equal".to_owned(),
            Self::ExpectReplication { from, to, flow, .. } => format!("{from} to {to}: {flow:?}"),
        }
    }
}

impl Step {
    /// What to show for it.
    pub fn describe(&self) -> String {
        self.say.clone().unwrap_or_else(|| self.action.describe())
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = toml::Table::deserialize(deserializer)?;
        let say = match table.remove("say") {
            Some(toml::Value::String(text)) => Some(text),
            Some(_) => return Err(D::Error::custom("`say` must be a text")),
            None => None,
        };
        let action = Action::deserialize(toml::Value::Table(table)).map_err(D::Error::custom)?;
        Ok(Self { say, action })
    }
}
