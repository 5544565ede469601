//! Loads the rows into a database in one transaction: either all of them, or the old rows stay.

use std::pin::pin;

use bb8_postgres::tokio_postgres::{self, CancelToken, Client, NoTls, Transaction};
use bytes::BytesMut;
use futures_util::SinkExt as _;

use crate::config::Config;
use crate::copy::write_row;
use crate::error::{Error, Target};
use crate::follow;
use crate::generate::Rows;
use crate::row::Row;
use crate::schema::{self, Indexes, TABLES, Table};

/// Rows are sent in chunks of this size: large enough to be fast, and the only memory that rows take.
const CHUNK: usize = 64 * 1024;

/// The advisory lock that keeps two seeds apart. The number is arbitrary, but must stay the same.
const LOCK: i64 = 0x5eed;

/// The progress of a load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Progress {
    /// A new stage begins.
    Stage(&'static str),
    /// This many more rows were sent.
    Rows(u64),
}

/// The outcome of a load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loaded {
    /// The tables hold the new rows.
    Replaced,
    /// The tables are unchanged: so many rows in each of [`TABLES`].
    Left([i64; TABLES.len()]),
}

/// An open connection.
#[derive(Debug)]
pub struct Database {
    client: Client,
    target: Target,
}

impl Database {
    /// Connects.
    pub async fn connect(config: &tokio_postgres::Config) -> Result<Self, Error> {
        let target = Target::of(config);
        match config.connect(NoTls).await {
            Ok((client, connection)) => {
                // The waiting statement gets the error too.
                tokio::spawn(async move { _ = connection.await });
                Ok(Self { client, target })
            }
            Err(source) => Err(Error::Connect { target, source }),
        }
    }

    /// The database in the form that messages show.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// A token that cancels the running statement.
    pub fn cancel_token(&self) -> CancelToken {
        self.client.cancel_token()
    }

    /// Replaces the rows of all tables and creates missing tables; with `if_empty` only if no table has rows. Then creates
    /// the triggers of `follow`. Dropping the future before its end keeps the old rows.
    pub async fn load(
        &mut self,
        rows: &Rows,
        config: &Config,
        progress: impl Fn(Progress),
    ) -> Result<Loaded, Error> {
        let transaction = self.client.transaction().await;
        let transaction = transaction.map_err(|source| failed(&self.target, "BEGIN", source))?;
        let load = Load { transaction, target: &self.target, progress };
        load.lock().await?;
        let loaded = match config.if_empty {
            true => load.fill_if_empty(rows, config.indexes).await?,
            false => load.replace(rows, config.indexes).await?,
        };
        if config.follow {
            load.run_all("creating the triggers", follow::triggers()).await?;
        }
        load.commit().await?;
        Ok(loaded)
    }

    /// Runs ANALYZE, so that PostgreSQL plans well from the first query on.
    pub async fn analyze(&self) -> Result<(), Error> {
        let names = TABLES.map(|table| table.name).join(", ");
        let analyzed = self.client.batch_execute(&format!("ANALYZE {names}")).await;
        analyzed.map_err(|source| failed(&self.target, "ANALYZE (the rows are loaded)", source))
    }
}

/// A load in progress.
struct Load<'a, P> {
    transaction: Transaction<'a>,
    target: &'a Target,
    progress: P,
}

impl<P: Fn(Progress)> Load<'_, P> {
    /// Waits until no other seed is at work.
    async fn lock(&self) -> Result<(), Error> {
        const DOING: &str = "waiting for the tables";
        (self.progress)(Progress::Stage(DOING));
        // A forgotten transaction elsewhere must not block us for ever. A limit that the user has set is kept.
        self.run(
            DOING,
            "SELECT set_config('lock_timeout', '10s', true) WHERE current_setting('lock_timeout') = '0'",
        )
        .await?;
        self.run(DOING, &format!("SELECT pg_advisory_xact_lock({LOCK})")).await
    }

    async fn fill_if_empty(&self, rows: &Rows, indexes: Indexes) -> Result<Loaded, Error> {
        let found = self.count().await?;
        match found.iter().any(|count| *count > 0) {
            true => Ok(Loaded::Left(found)),
            false => self.replace(rows, indexes).await,
        }
    }

    async fn replace(&self, rows: &Rows, indexes: Indexes) -> Result<Loaded, Error> {
        self.prepare().await?;
        self.fill(rows).await?;
        self.finish(rows, indexes).await?;
        Ok(Loaded::Replaced)
    }

    /// Counts the rows of each table; a table that does not exist has none.
    async fn count(&self) -> Result<[i64; TABLES.len()], Error> {
        const DOING: &str = "counting the rows";
        (self.progress)(Progress::Stage(DOING));
        let mut counts = [0; TABLES.len()];
        for (table, count) in TABLES.iter().zip(&mut counts) {
            let counted = self.rows_of(table).await;
            *count = counted.map_err(|source| failed(self.target, DOING, source))?;
        }
        Ok(counts)
    }

    async fn rows_of(&self, table: &Table) -> Result<i64, tokio_postgres::Error> {
        if self.columns(table).await?.is_empty() {
            return Ok(0);
        }
        self.transaction.query_one(&format!("SELECT count(*) FROM {}", table.name), &[]).await?.try_get(0)
    }

    /// Empties the four tables, and drops the indexes and foreign keys that would slow down the load.
    async fn prepare(&self) -> Result<(), Error> {
        const DOING: &str = "preparing the tables";
        (self.progress)(Progress::Stage(DOING));
        let mut differences = Vec::new();
        for table in TABLES {
            let found = self.columns(table).await.map_err(|source| failed(self.target, DOING, source))?;
            match found.is_empty() {
                true => self.run(DOING, &table.create()).await?,
                false => differences.extend(compare(table, &found)),
            }
        }
        if !differences.is_empty() {
            return Err(Error::Shape { target: self.target.clone(), differences });
        }
        let names = TABLES.map(|table| table.name).join(", ");
        self.run_all(DOING, schema::strip()).await?;
        self.run(DOING, &format!("TRUNCATE {names}")).await
    }

    /// Fills each table after the tables that it refers to.
    async fn fill(&self, rows: &Rows) -> Result<(), Error> {
        self.copy("loading the offices", rows.offices()).await?;
        self.copy("loading the agents", rows.agents()).await?;
        self.copy("loading the locations", rows.locations()).await?;
        self.copy("loading the properties", rows.properties()).await
    }

    async fn finish(&self, rows: &Rows, indexes: Indexes) -> Result<(), Error> {
        const DOING: &str = "building indexes and foreign keys";
        (self.progress)(Progress::Stage(DOING));
        self.run_all(DOING, indexes.create()).await?;
        self.run_all(DOING, schema::foreign_keys()).await?;
        self.run_all(DOING, TABLES.map(|table| table.restart(rows.count(table) + 1))).await
    }

    async fn commit(self) -> Result<(), Error> {
        self.transaction.commit().await.map_err(|source| failed(self.target, "COMMIT", source))
    }

    async fn copy<R: Row>(&self, doing: &'static str, rows: impl Iterator<Item = R>) -> Result<(), Error> {
        (self.progress)(Progress::Stage(doing));
        self.send(rows).await.map_err(|source| failed(self.target, doing, source))
    }

    /// Sends each chunk when it is full, and waits until the connection has accepted it.
    async fn send<R: Row>(&self, rows: impl Iterator<Item = R>) -> Result<(), tokio_postgres::Error> {
        let mut sink = pin!(self.transaction.copy_in(&R::TABLE.copy()).await?);
        let mut chunk = BytesMut::with_capacity(2 * CHUNK);
        let mut count = 0;
        for row in rows {
            write_row(&row, &mut chunk);
            count += 1;
            if chunk.len() >= CHUNK {
                sink.send(chunk.split().freeze()).await?;
                (self.progress)(Progress::Rows(std::mem::take(&mut count)));
            }
        }
        sink.send(chunk.freeze()).await?;
        (self.progress)(Progress::Rows(count));
        sink.finish().await.map(drop)
    }

    /// The name, type and NOT NULL of each column; empty if the table does not exist.
    async fn columns(&self, table: &Table) -> Result<Vec<(String, String)>, tokio_postgres::Error> {
        const COLUMNS: &str = "SELECT attname::text, format_type(atttypid, atttypmod) \
             || CASE WHEN attnotnull THEN '' ELSE ' NULL' END \
             || CASE WHEN attidentity <> '' OR attname <> 'id' THEN '' ELSE ' without identity' END \
             FROM pg_attribute \
             WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
        let rows = self.transaction.query(COLUMNS, &[&table.name]).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    async fn run_all(
        &self,
        doing: &'static str,
        statements: impl IntoIterator<Item = String>,
    ) -> Result<(), Error> {
        for statement in statements {
            self.run(doing, &statement).await?;
        }
        Ok(())
    }

    async fn run(&self, doing: &'static str, statement: &str) -> Result<(), Error> {
        let done = self.transaction.batch_execute(statement).await;
        done.map_err(|source| failed(self.target, doing, source))
    }
}

/// The differences between an existing table and the wanted one. The order of columns does not matter.
fn compare(table: &Table, found: &[(String, String)]) -> Vec<String> {
    let name = table.name;
    let kind =
        |wanted: &str| found.iter().find(|(column, _)| column == wanted).map(|(_, kind)| kind.as_str());
    let missing = table.columns.iter().filter_map(|(column, wanted)| match kind(column) {
        Some(kind) if kind == *wanted => None,
        Some(kind) => Some(format!("{name}.{column} is {kind}, not {wanted}")),
        None => Some(format!("{name} has no {column}")),
    });
    let extra = found.iter().filter(|(column, _)| table.columns.iter().all(|(known, _)| known != column));
    missing.chain(extra.map(|(column, _)| format!("{name} also has {column}"))).collect()
}

fn failed(target: &Target, doing: &'static str, source: tokio_postgres::Error) -> Error {
    Error::Database { target: target.clone(), doing, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::OFFICE;

    fn columns(columns: &[(&str, &str)]) -> Vec<(String, String)> {
        columns.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect()
    }

    #[test]
    fn the_order_of_columns_does_not_matter() {
        let mut found = columns(OFFICE.columns);
        found.reverse();
        assert_eq!(compare(&OFFICE, &found), Vec::<String>::new());
    }

    #[test]
    fn compare_names_each_difference() {
        let found = columns(&[
            ("id", "bigint without identity"),
            ("name", "character varying(200)"),
            ("phone", "text"),
            ("fax", "text"),
        ]);
        assert_eq!(
            compare(&OFFICE, &found),
            [
                "housing_office.id is bigint without identity, not bigint",
                "housing_office has no city",
                "housing_office.phone is text, not character varying(20)",
                "housing_office also has fax",
            ]
        );
    }
}
