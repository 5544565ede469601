//! The naive list, N+1: the rows, then for each row its location, its agent and the agent's office, again each time.

use crate::database::Session;
use crate::error::Error;
use crate::page::Slice;
use crate::row::{Agent, AgentRow, Columns, Location, Office, Property, PropertyRow};

/// The properties of a page: 1 query, and 3 more for each property.
pub(crate) async fn properties(session: &mut Session<'_>, slice: Slice) -> Result<Vec<Property>, Error> {
    let columns = PropertyRow::COLUMNS;
    let sql = format!(
        r#"SELECT {columns} FROM "housing_property" ORDER BY "housing_property"."created_at" DESC {slice}"#
    );
    let mut properties = Vec::new();
    for row in session.rows(&sql).await? {
        let row = PropertyRow::read(&mut Columns::of(&row))?;
        let location = location(session, row.location_id).await?;
        let agent = agent(session, row.agent_id).await?;
        properties.push(row.with(location, agent));
    }
    Ok(properties)
}

async fn location(session: &mut Session<'_>, id: i64) -> Result<Location, Error> {
    by_id(session, "housing_location", Location::COLUMNS, id, Location::read).await
}

async fn agent(session: &mut Session<'_>, id: i64) -> Result<Agent, Error> {
    let row = by_id(session, "housing_agent", AgentRow::COLUMNS, id, AgentRow::read).await?;
    let office = by_id(session, "housing_office", Office::COLUMNS, row.office_id, Office::read).await?;
    Ok(row.with(office))
}

/// Django's `get()`. The limit of 21 lets it report that there are several rows, and how many, up to 20.
async fn by_id<T>(
    session: &mut Session<'_>,
    table: &str,
    columns: &str,
    id: i64,
    read: impl Fn(&mut Columns<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let sql = format!(r#"SELECT {columns} FROM "{table}" WHERE "{table}"."id" = {id} LIMIT 21"#);
    let rows = session.rows(&sql).await?;
    let row = rows.first().ok_or_else(|| Error::Query(format!("no row {id} in {table}").into()))?;
    read(&mut Columns::of(row))
}
