//! The components of a run: one folder for each of the state machines it is made of. A folder holds all of its
//! kind: the state, which nothing else can change; what its events do to it; its commands and requests; the
//! tasks it owes, live and made anew; its stored form, its form for other clusters, its view. The rest of the core knows a component by what its [`Component`] states, through the tables
//! below; a new one is a folder here, and its line in [`ALL`].

pub mod activity;
pub mod buffer;
pub mod cancel;
pub mod child;
pub mod close;
pub mod external_cancel;
pub mod external_signal;
pub mod marker;
pub mod properties;
pub mod signal;
pub mod start;
pub mod timer;
pub mod workflow_task;

use proto_ids::{EventId, FailoverVersion, Timestamp};
use proto_messages::temporal::{
    api::{
        enums::v1::{CommandType, EventType},
        history::v1::HistoryEvent,
        workflowservice::v1::DescribeWorkflowExecutionResponse,
    },
    server::api::persistence::v1::WorkflowMutableState,
};

use crate::{
    Limits, MutableState,
    apply::Scope,
    command::CommandRules,
    event::Attributes,
    record::Rows,
    task::{Task, TaskKind, TaskType},
    transition::Corrupt,
};

/// Every component, in the order in which tasks are made anew.
const ALL: &[Component] = &[
    close::COMPONENT,
    child::COMPONENT,
    start::COMPONENT,
    workflow_task::COMPONENT,
    activity::COMPONENT,
    timer::COMPONENT,
    external_cancel::COMPONENT,
    external_signal::COMPONENT,
    signal::COMPONENT,
    buffer::COMPONENT,
    cancel::COMPONENT,
    properties::COMPONENT,
    marker::COMPONENT,
];

/// The description that a component gives of itself. Whatever it has no part in stays as [`Component::NONE`] has it.
pub(crate) struct Component {
    /// Events whose effects are this component's. No two components have one in common.
    pub(crate) events: &'static [EventType],
    /// Applies such an event to the state. Called for `events` only.
    pub(crate) apply: Apply,
    /// Of its events, the results: they are written after all other events that waited in the buffer.
    pub(crate) results: &'static [EventType],
    /// Adjusts an event that waited in the buffer when it gets its place in history.
    pub(crate) place: Place,
    /// The commands of a completed workflow task that are this component's.
    pub(crate) commands: &'static [CommandRules],
    /// Types of the tasks that are this component's.
    pub(crate) tasks: &'static [TaskType],
    /// Whether the reason of such a task still stands. Called for `tasks` only.
    pub(crate) is_pending: fn(&MutableState, &TaskKind) -> bool,
    /// All tasks that are owed by the state as it is. Called for runs that are not zombies, open and closed.
    pub(crate) pending_tasks: fn(&MutableState, &mut PendingTasks<'_>),
    /// How its items are stored, when they have rows of their own.
    pub(crate) rows: Option<Rows>,
    /// Which of its rules does not hold of a run between two decisions, in words; `None` for none.
    pub(crate) broken: fn(&MutableState) -> Option<&'static str>,
    /// Fills its own into the state as other clusters and tools see it.
    pub(crate) replicate: fn(&MutableState, &mut WorkflowMutableState),
    /// Fills its own into what DescribeWorkflowExecution shows at a moment.
    pub(crate) describe: fn(&MutableState, Timestamp, &mut DescribeWorkflowExecutionResponse),
}

/// Changes the state as the event says.
pub(crate) type Apply =
    fn(&mut MutableState, &HistoryEvent, &Attributes, &mut Scope<'_>) -> Result<(), Corrupt>;

/// Connects an event that got its id with what it refers to, and the state with the id.
pub(crate) type Place = fn(&mut MutableState, &mut HistoryEvent, &mut Placing<'_>);

impl Component {
    /// Takes part in nothing.
    pub(crate) const NONE: Self = Self {
        events: &[],
        apply: |_, _, _, _| Ok(()),
        results: &[],
        place: |_, _, _| {},
        commands: &[],
        tasks: &[],
        is_pending: |_, _| false,
        pending_tasks: |_, _| {},
        rows: None,
        broken: |_| None,
        replicate: |_, _| {},
        describe: |_, _, _| {},
    };
}

/// The context that placing buffered events shares from event to event.
pub(crate) struct Placing<'a> {
    /// The event that opened an item (scheduled, initiated) and the id its started event got, for results that
    /// waited beside it.
    pub(crate) started: Vec<(i64, EventId)>,
    /// Where the items go whose state changed.
    pub(crate) applied: &'a mut crate::Applied,
}

impl Placing<'_> {
    /// Lets a result that waited with its started event name the id that event got.
    pub(crate) fn name_started(&self, origin: i64, started_event_id: &mut i64) {
        if *started_event_id == crate::event::BUFFERED.get()
            && let Some((_, found)) = self.started.iter().find(|(o, _)| *o == origin)
        {
            *started_event_id = found.get();
        }
    }
}

/// Where rebuilt tasks go.
pub(crate) struct PendingTasks<'a> {
    pub(crate) limits: &'a Limits,
    /// The version of the run's last event, for tasks of the run as a whole.
    pub(crate) last_version: FailoverVersion,
    pub(crate) tasks: Vec<Task>,
}

impl PendingTasks<'_> {
    pub(crate) fn add(
        &mut self,
        version: FailoverVersion,
        fire_at: Option<Timestamp>,
        kind: TaskKind,
    ) {
        self.tasks.push(Task {
            version,
            fire_at,
            kind,
        });
    }
}

/// More than the highest number of an event type, a command type and a task type. Tables of that length are made
/// while compiling; a number beyond it does not compile.
const TYPES: usize = 96;

const fn by_event_type() -> [Option<&'static Component>; TYPES] {
    let mut table = [None; TYPES];
    let mut c = 0;
    while c < ALL.len() {
        let mut e = 0;
        while e < ALL[c].events.len() {
            let number = ALL[c].events[e] as usize;
            assert!(table[number].is_none(), "an event has two components");
            table[number] = Some(&ALL[c]);
            e += 1;
        }
        c += 1;
    }
    table
}

const fn by_result_type() -> [bool; TYPES] {
    let mut table = [false; TYPES];
    let mut c = 0;
    while c < ALL.len() {
        let mut e = 0;
        while e < ALL[c].results.len() {
            table[ALL[c].results[e] as usize] = true;
            e += 1;
        }
        c += 1;
    }
    table
}

const fn by_command_type() -> [Option<&'static CommandRules>; TYPES] {
    let mut table = [None; TYPES];
    let mut c = 0;
    while c < ALL.len() {
        let mut e = 0;
        while e < ALL[c].commands.len() {
            let rules = &ALL[c].commands[e];
            let number = rules.command_type as usize;
            assert!(table[number].is_none(), "a command has two components");
            table[number] = Some(rules);
            e += 1;
        }
        c += 1;
    }
    table
}

const fn by_task_type() -> [Option<&'static Component>; TYPES] {
    let mut table = [None; TYPES];
    let mut c = 0;
    while c < ALL.len() {
        let mut e = 0;
        while e < ALL[c].tasks.len() {
            let number = ALL[c].tasks[e] as usize;
            assert!(table[number].is_none(), "a task has two components");
            table[number] = Some(&ALL[c]);
            e += 1;
        }
        c += 1;
    }
    table
}

const fn by_kind() -> [Option<&'static Rows>; TYPES] {
    let mut table = [None; TYPES];
    let mut c = 0;
    while c < ALL.len() {
        if let Some(rows) = &ALL[c].rows {
            let number = rows.kind as usize;
            assert!(table[number].is_none(), "a kind of row has two components");
            table[number] = Some(rows);
        }
        c += 1;
    }
    table
}

static BY_EVENT: [Option<&Component>; TYPES] = by_event_type();
static RESULTS: [bool; TYPES] = by_result_type();
static BY_COMMAND: [Option<&CommandRules>; TYPES] = by_command_type();
static BY_TASK: [Option<&Component>; TYPES] = by_task_type();
static BY_KIND: [Option<&Rows>; TYPES] = by_kind();

/// The component an event belongs to; `None` for events that change no state.
pub(crate) fn of_event(event: EventType) -> Option<&'static Component> {
    BY_EVENT[event as usize]
}

/// Whether an event of this type is a result.
pub(crate) fn is_result(event: EventType) -> bool {
    RESULTS[event as usize]
}

/// The rules of a command; `None` for one that this server does not support.
pub(crate) fn of_command(command: CommandType) -> Option<&'static CommandRules> {
    BY_COMMAND[command as usize]
}

/// The component a task belongs to; `None` for tasks that need no reason in the state.
pub(crate) fn of_task(task: TaskType) -> Option<&'static Component> {
    BY_TASK[task as usize]
}

/// The rows of this kind; `None` for a kind that this server does not know.
pub(crate) fn of_rows(kind: i16) -> Option<&'static Rows> {
    *BY_KIND.get(usize::try_from(kind).ok()?)?
}

/// The components, in the order in which tasks are made anew.
pub(crate) fn all() -> &'static [Component] {
    ALL
}

/// Defines the collection of a component's pending items, a map that everybody reads and the component alone changes,
/// and how they are stored: under which kind, in which field of the run, by the `encode` and `decode` of which module.
macro_rules! items {
    (
        $(#[$doc:meta])*
        $name:ident: $key:ty => $item:ty, by $id:expr;
        stored as $kind:literal in $field:ident by $record:ident
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name(std::collections::BTreeMap<$key, $item>);

        impl std::ops::Deref for $name {
            type Target = std::collections::BTreeMap<$key, $item>;

            fn deref(&self) -> &Self::Target {
                &self.0
            }
        }

        impl FromIterator<$item> for $name {
            fn from_iter<I: IntoIterator<Item = $item>>(items: I) -> Self {
                let id: fn(&$item) -> $key = $id;
                Self(items.into_iter().map(|item| (id(&item), item)).collect())
            }
        }

        /// The key of an item in a change of state.
        fn item_key(id: &$key) -> $crate::transition::ItemKey {
            $crate::transition::ItemKey {
                kind: $kind,
                id: $crate::record::RowId::to_item_id(id),
            }
        }

        const ROWS: $crate::record::Rows = $crate::record::Rows {
            kind: $kind,
            is_empty: |run| run.$field.is_empty(),
            keys: |run, keys| keys.extend(run.$field.keys().map(item_key)),
            encode: |run, id| {
                let item = <$key as $crate::record::RowId>::find(&run.$field, id);
                item.map($record::encode)
            },
            decode: |run, _, data| {
                let id: fn(&$item) -> $key = $id;
                let item = $record::decode(data)?;
                run.$field.0.insert(id(&item), item);
                Ok(())
            },
        };
    };
}
use items;
