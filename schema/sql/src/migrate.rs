//! Migrations: numbered steps, each applied once, in order, in a transaction of its own together with its
//! entry in the version table. An applied step's text is remembered by its checksum; a program that knows
//! another text under that number refuses the database.

use schema_store::StoreError;

/// One step.
#[derive(Debug)]
pub(crate) struct Migration {
    pub(crate) version: i64,
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
}

/// The operation on a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Tell its version.
    Look,
    /// Bring it to the newest version.
    Upgrade,
}

/// Where a database's schema stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaStatus {
    /// The database: a file, or a server's database.
    pub database: String,
    /// The version it has; 0 for an empty database.
    pub version: i64,
    /// The version this program needs.
    pub latest: i64,
}

macro_rules! migrations {
    ($dialect:literal: $($version:literal $name:literal),* $(,)?) => {
        &[$(Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../../migrations/", $dialect, "/", $name, ".sql")),
        }),*]
    };
}

/// SQLite, the main file.
pub(crate) const SQLITE: &[Migration] = migrations!("sqlite":
    1 "0001_shards_and_runs",
    2 "0002_history",
    3 "0003_task_queues",
    4 "0004_directory",
);

/// SQLite, the visibility file.
pub(crate) const SQLITE_VISIBILITY: &[Migration] = migrations!("sqlite-visibility":
    1 "0001_visibility",
    2 "0002_complete_shards",
);

/// PostgreSQL.
pub(crate) const POSTGRES: &[Migration] = migrations!("postgres":
    1 "0001_shards_and_runs",
    2 "0002_history",
    3 "0003_task_queues",
    4 "0004_directory",
    5 "0005_visibility",
    6 "0006_commit_batch",
);

/// The version table, the same text for both databases.
pub(crate) const VERSION_TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_version (
    version BIGINT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL
)";

/// Reads the version table.
pub(crate) const APPLIED: &str = "SELECT version, checksum FROM schema_version ORDER BY version";

/// Notes a step.
pub(crate) const NOTE: &str =
    "INSERT INTO schema_version (version, name, checksum) VALUES ($1, $2, $3)";

/// The full create scripts (dialect, text), for people and for the test that compares them with the steps.
pub const fn latest() -> [(&'static str, &'static str); 3] {
    [
        ("sqlite", include_str!("../../migrations/sqlite/latest.sql")),
        (
            "sqlite-visibility",
            include_str!("../../migrations/sqlite-visibility/latest.sql"),
        ),
        (
            "postgres",
            include_str!("../../migrations/postgres/latest.sql"),
        ),
    ]
}

impl Migration {
    /// FNV-1a over the text: it need only notice an edit, not resist an attacker.
    pub(crate) fn checksum(&self) -> String {
        let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        format!(
            "{:016x}",
            self.sql.bytes().fold(0xcbf2_9ce4_8422_2325, fold)
        )
    }
}

/// The steps that are left after those applied (version, checksum), or why this program must not touch the
/// database.
pub(crate) fn pending<'a>(
    database: &str,
    known: &'a [Migration],
    applied: &[(i64, String)],
) -> Result<&'a [Migration], StoreError> {
    for (index, (version, checksum)) in applied.iter().enumerate() {
        let Some(step) = known.get(index) else {
            return Err(StoreError::Invalid(format!(
                "the schema of {database} is at version {version}, newer than this program knows ({})",
                newest(known)
            )));
        };
        if step.version != *version || step.checksum() != *checksum {
            return Err(StoreError::Invalid(format!(
                "step {version} of the schema of {database} is not the step {} that this program knows: \
                 an applied migration was edited",
                step.name
            )));
        }
    }
    Ok(&known[applied.len()..])
}

/// The newest version.
pub(crate) fn newest(known: &[Migration]) -> i64 {
    known.last().map_or(0, |step| step.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edited_and_unknown_steps_are_refused() {
        let applied: Vec<_> = SQLITE
            .iter()
            .map(|step| (step.version, step.checksum()))
            .collect();
        assert_eq!(pending("x", SQLITE, &applied).expect("all").len(), 0);
        assert_eq!(
            pending("x", SQLITE, &applied[..1]).expect("one").len(),
            SQLITE.len() - 1
        );
        let mut edited = applied.clone();
        edited[1].1 = "0".to_owned();
        let refusal = pending("x", SQLITE, &edited)
            .expect_err("edited")
            .to_string();
        assert!(refusal.contains("edited"), "{refusal}");
        let mut newer = applied;
        newer.push((99, String::new()));
        let refusal = pending("x", SQLITE, &newer).expect_err("newer").to_string();
        assert!(refusal.contains("newer"), "{refusal}");
    }
}
