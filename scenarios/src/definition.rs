//! A drill as a file: the world it runs in, the load, the steps with their faults, and the limits it
//! must keep. Unknown keys are errors that name the nearest known one, because a misspelt limit that is
//! silently ignored would make every drill pass.

mod span;
mod step;
mod suggest;

use std::{collections::BTreeMap, path::Path};

use anyhow::Context;
use serde::Deserialize;

pub use span::Span;
pub use step::{Action, Certificates, Command, Flow, Step, SwitchoverStep, Untrusted};

/// One drill.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// Its name, also of its report files.
    pub name: String,
    /// One line for lists.
    pub title: String,
    /// Its purpose, for the report's reader.
    pub summary: String,
    /// Its limits.
    pub limits: Limits,
    /// The clusters.
    #[serde(default)]
    pub world: World,
    /// The load.
    #[serde(default)]
    pub workload: Workload,
    /// How the short form differs.
    #[serde(default)]
    pub short: Short,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

/// Limits the measured values are judged against.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Whether acknowledged writes may be lost at all, as after a forced failover; each lost one must
    /// then be explained by the time and place of its acknowledgement.
    #[serde(default)]
    pub loss: Loss,
    /// Most acknowledged time the new active side may lack at the moment of a forced failover.
    pub rpo: Option<Span>,
    /// Longest time from a fault until writes succeed again.
    pub rto: Option<Span>,
    /// Longest time without one successful write, while clients keep trying.
    pub write_pause: Option<Span>,
    /// Longest time a timer may fire after it was due, outages included.
    pub timer_lateness: Option<Span>,
    /// No branch of a run's history may lose: a planned switchover makes none.
    #[serde(default)]
    pub no_branches: bool,
    /// Longest time both clusters may need to become equal at the end.
    #[serde(default = "Limits::converge")]
    pub converge: Span,
}

/// The promise about acknowledged writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// All of them survive.
    #[default]
    None,
    /// Those acknowledged by a side that lost its role may be lost, if each is accounted for.
    AccountedFor,
}

impl Limits {
    fn converge() -> Span {
        Span::seconds(60)
    }
}

/// The clusters a drill starts.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct World {
    /// Cluster names; the first is the active one at the beginning.
    pub clusters: Vec<String>,
    /// Shards of each cluster.
    pub shards: u32,
    /// Where each cluster keeps its data.
    pub store: Store,
    /// Whether everything between processes is encrypted, with certificates on both sides.
    pub tls: bool,
    /// The processes of each cluster: the services of each, joined with `+`, or `all`.
    pub processes: Vec<String>,
    /// Settings handed to the server's live settings, by name.
    pub settings: BTreeMap<String, toml::Value>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            clusters: vec!["west".to_owned(), "east".to_owned()],
            shards: 4,
            store: Store::Sqlite,
            tls: true,
            processes: vec!["all".to_owned()],
            settings: BTreeMap::new(),
        }
    }
}

/// A kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// A file per cluster; one process per cluster.
    Sqlite,
    /// A PostgreSQL server started for the drill.
    Postgres,
}

/// The workload of a drill.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Workload {
    /// Orders started per second over all clients: an activity, a timer, then a signal from the client.
    pub orders_per_second: f64,
    /// The activities of an order.
    pub order_activities: u32,
    /// The timers of an order.
    pub order_timers: Vec<Span>,
    /// Long-lived workflows that every client keeps signalling.
    pub carts: u32,
    /// Signals per second over all carts and clients.
    pub cart_signals_per_second: f64,
    /// Workflows per second and client that an operator cancels, terminates or resets.
    pub interventions_per_second: f64,
    /// Whether every client has activities that report their progress and are taken over by a next attempt.
    pub heartbeats: bool,
    /// One order in this many has the same workflow id on every side; 0 for none.
    pub shared_order_every: u32,
    /// The clusters whose frontends clients call first; all when empty.
    pub clients: Vec<String>,
    /// Whether clients stay with their side when it fails, as users cut off from the other side do.
    pub clients_stay: bool,
    /// The clusters workers poll; all when empty.
    pub workers: Vec<String>,
    /// Polls for workflow tasks that a built-in worker keeps open, half of them on its sticky queue.
    pub workflow_pollers: usize,
    /// Polls for activity tasks that a built-in worker keeps open.
    pub activity_pollers: usize,
    /// A worker program to run instead of the built-in one, with its arguments.
    pub worker_command: Vec<String>,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            orders_per_second: 20.0,
            order_activities: 1,
            order_timers: vec![Span::millis(500)],
            carts: 4,
            cart_signals_per_second: 10.0,
            interventions_per_second: 1.0,
            heartbeats: false,
            shared_order_every: 0,
            clients: Vec::new(),
            clients_stay: false,
            workers: Vec::new(),
            workflow_pollers: 8,
            activity_pollers: 4,
            worker_command: Vec::new(),
        }
    }
}

/// The factors of the short form.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Short {
    /// Factor on the time of `run` steps.
    pub time: f64,
    /// Factor on all rates.
    pub rate: f64,
}

impl Default for Short {
    fn default() -> Self {
        Self {
            time: 0.2,
            rate: 0.5,
        }
    }
}

impl Drill {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("read drill file {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("drill file {}", path.display()))
    }

    /// Reads and checks a drill's text.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let drill: Self = toml::from_str(text)
            .map_err(|error| anyhow::anyhow!("{}", suggest::with_nearest(&error.to_string())))?;
        drill.check()?;
        Ok(drill)
    }

    /// The drill with its times and rates shortened.
    #[must_use]
    pub fn shortened(mut self) -> Self {
        self.workload.orders_per_second *= self.short.rate;
        self.workload.cart_signals_per_second *= self.short.rate;
        self.workload.interventions_per_second *= self.short.rate;
        for step in &mut self.steps {
            let shorten = |length: &mut Span| {
                *length = length.scaled(self.short.time).max(Span::millis(500));
            };
            match &mut step.action {
                Action::Run { length } => shorten(length),
                Action::Overload {
                    measure, length, ..
                } => {
                    shorten(measure);
                    shorten(length);
                }
                Action::StartTimers {
                    shortest,
                    longest,
                    count,
                    ..
                } => {
                    shorten(shortest);
                    shorten(longest);
                    *count = (f64::from(*count) * self.short.rate).ceil() as u32;
                }
                _ => {}
            }
        }
        self
    }

    fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.steps.is_empty(), "a drill needs at least one step");
        anyhow::ensure!(
            (1..=4).contains(&self.world.clusters.len()),
            "world.clusters must name one to four clusters"
        );
        let plain =
            |n: &String| !n.is_empty() && n.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        anyhow::ensure!(
            plain(&self.name) && self.world.clusters.iter().all(plain),
            "names of drills and clusters are made of letters, digits and dashes"
        );
        anyhow::ensure!(
            self.world.store == Store::Postgres || self.world.processes.len() == 1,
            "several processes of a cluster need one store they can share: store = \"postgres\""
        );
        anyhow::ensure!(
            self.workload.orders_per_second > 0.0 && self.workload.orders_per_second.is_finite(),
            "workload.orders_per_second must be above 0"
        );
        for list in [&self.workload.clients, &self.workload.workers] {
            list.iter().try_for_each(|name| self.known(name))?;
        }
        for step in &self.steps {
            let needs_server = matches!(step.action, Action::StopStore {} | Action::StartStore {});
            anyhow::ensure!(
                self.world.store == Store::Postgres || !needs_server,
                "a store that can be stopped is a server of its own: store = \"postgres\""
            );
            anyhow::ensure!(
                self.world.store == Store::Sqlite || !matches!(step.action, Action::Poison { .. }),
                "rows are spoilt in files of the clusters' own: store = \"sqlite\""
            );
            for name in step.action.clusters() {
                self.known(name)
                    .with_context(|| format!("step {:?}", step.describe()))?;
            }
        }
        Ok(())
    }

    fn known(&self, cluster: &str) -> anyhow::Result<()> {
        let clusters = &self.world.clusters;
        if clusters.iter().any(|c| c == cluster) {
            return Ok(());
        }
        let nearest = suggest::nearest(cluster, clusters.iter().map(String::as_str));
        anyhow::bail!(
            "there is no cluster {cluster:?} in this drill{}",
            nearest
                .map(|n| format!("; did you mean {n:?}?"))
                .unwrap_or_default()
        )
    }

    /// The clusters clients call first.
    pub fn client_sides(&self) -> &[String] {
        or_all(&self.workload.clients, &self.world.clusters)
    }

    /// The clusters workers poll.
    pub fn worker_sides(&self) -> &[String] {
        or_all(&self.workload.workers, &self.world.clusters)
    }
}

fn or_all<'a>(some: &'a [String], all: &'a [String]) -> &'a [String] {
    if some.is_empty() { all } else { some }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
        name = "small"
        title = "t"
        summary = "s"
        [limits]
        rto = "30s"
        [[steps]]
        do = "run"
        for = "10s"
        [[steps]]
        do = "switchover"
        to = "east"
        max_pause = "5s"
        say = "move"
    "#;

    #[test]
    fn a_small_file_reads_with_defaults_and_shortens() {
        let drill = Drill::parse(SMALL).expect("reads");
        assert_eq!(drill.world.clusters, ["west", "east"]);
        assert_eq!(drill.limits.loss, Loss::None);
        assert_eq!(drill.steps[1].say.as_deref(), Some("move"));
        let short = drill.shortened();
        assert!(
            matches!(short.steps[0].action, Action::Run { length } if length == Span::seconds(2))
        );
    }

    #[test]
    fn a_misspelt_key_names_the_nearest() {
        let says = |text: &str| format!("{:#}", Drill::parse(text).expect_err("refused"));
        let limit = says(&SMALL.replace("rto =", "rtoo ="));
        assert!(limit.contains("did you mean `rto`"), "{limit}");
        let field = says(&SMALL.replace("max_pause", "maxpause"));
        assert!(field.contains("did you mean `max_pause`"), "{field}");
        let action = says(&SMALL.replace("\"switchover\"", "\"swichover\""));
        assert!(action.contains("did you mean `switchover`"), "{action}");
        let cluster = says(&SMALL.replace("\"east\"", "\"eats\""));
        assert!(cluster.contains("did you mean \"east\""), "{cluster}");
    }

    #[test]
    fn the_drills_of_this_repository_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("drills");
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .expect("drills folder")
            .map(|entry| {
                let path = entry.expect("entry").path();
                let drill = Drill::read(&path).unwrap_or_else(|e| panic!("{e:#}"));
                assert_eq!(
                    path.file_stem().and_then(|s| s.to_str()),
                    Some(&*drill.name)
                );
                drill.name
            })
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "active-killed",
                "certificate-rotation",
                "history-host-killed",
                "overload",
                "partition-and-divergence",
                "poison-row",
                "standby-wiped",
                "store-outage-with-timers",
                "switchover-buffered-signals",
                "switchover-interrupted",
                "switchover-under-load"
            ]
        );
    }
}
