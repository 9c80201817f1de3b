//! The stores on real databases: SQLite in a folder of its own, PostgreSQL in a server of its own.

mod sqlite;
