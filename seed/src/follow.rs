//! The triggers that tell a proxy which pages a change makes old. Each statement that changes a table notifies the tag of
//! its rows, also TRUNCATE and COPY. PostgreSQL sends equal notifications of a transaction once, when it commits.

use crate::schema::{TABLES, Table};

/// The channel of the notifications, on which a proxy listens unless its settings name another.
const CHANNEL: &str = "cachepage";

/// The statements that create the triggers anew. They need PostgreSQL 11.
pub fn triggers() -> Vec<String> {
    let function = format!(
        "CREATE OR REPLACE FUNCTION cachepage_notify() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM pg_notify('{CHANNEL}', TG_ARGV[0]); RETURN NULL; END $$"
    );
    let drop = |table: &Table| format!("DROP TRIGGER IF EXISTS cachepage_follow ON {}", table.name);
    let create = |table: &Table| {
        format!(
            "CREATE TRIGGER cachepage_follow AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {} \
             FOR EACH STATEMENT EXECUTE FUNCTION cachepage_notify('{}')",
            table.name, table.tag
        )
    };
    let anew = TABLES.into_iter().flat_map(|table| [drop(table), create(table)]);
    std::iter::once(function).chain(anew).collect()
}
