//! The optimized list: one query, with joins (Django's `select_related("agent__office", "location")`).

use crate::database::Session;
use crate::error::Error;
use crate::page::Slice;
use crate::row::{AgentRow, Columns, Location, Office, Property, PropertyRow};

/// The properties of a page: 1 query.
pub(crate) async fn properties(session: &mut Session<'_>, slice: Slice) -> Result<Vec<Property>, Error> {
    let columns = [PropertyRow::COLUMNS, Location::COLUMNS, AgentRow::COLUMNS, Office::COLUMNS].join(", ");
    let sql = format!(
        r#"SELECT {columns} FROM "housing_property" INNER JOIN "housing_location" ON ("housing_property"."location_id" = "housing_location"."id") INNER JOIN "housing_agent" ON ("housing_property"."agent_id" = "housing_agent"."id") INNER JOIN "housing_office" ON ("housing_agent"."office_id" = "housing_office"."id") ORDER BY "housing_property"."created_at" DESC {slice}"#
    );
    session.rows(&sql).await?.iter().map(|row| property(&mut Columns::of(row))).collect()
}

fn property(columns: &mut Columns<'_>) -> Result<Property, Error> {
    let row = PropertyRow::read(columns)?;
    let location = Location::read(columns)?;
    let agent = AgentRow::read(columns)?.with(Office::read(columns)?);
    Ok(row.with(location, agent))
}
