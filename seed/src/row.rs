//! The rows, and how COPY writes each.

use jiff::Timestamp;

use crate::copy::Line;
use crate::schema::{self, Table};

/// A row of one of the tables.
pub trait Row {
    /// The table of the row.
    const TABLE: &'static Table;

    /// Writes the values in the order of the table's columns.
    fn write(&self, line: &mut Line<'_>);
}

/// A row of `housing_office`.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the columns of the table, which schema.rs describes")]
pub struct Office {
    pub id: u64,
    pub name: String,
    pub city: &'static str,
    pub phone: String,
}

/// A row of `housing_agent`.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the columns of the table, which schema.rs describes")]
pub struct Agent {
    pub id: u64,
    pub name: String,
    pub email: String,
    pub phone: String,
    pub office_id: u64,
}

/// A row of `housing_location`.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the columns of the table, which schema.rs describes")]
pub struct Location {
    pub id: u64,
    pub city: &'static str,
    pub state: &'static str,
    pub zip_code: String,
}

/// A row of `housing_property`.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the columns of the table, which schema.rs describes")]
pub struct Property {
    pub id: u64,
    pub title: String,
    pub description: String,
    pub property_type: &'static str,
    /// In cents, as an integer: a float would not be exact.
    pub price: u64,
    pub bedrooms: u32,
    /// In tenths, the precision of the column.
    pub bathrooms: u32,
    pub status: &'static str,
    pub view_count: u32,
    pub created_at: Timestamp,
    pub agent_id: u64,
    pub location_id: u64,
}

impl Row for Office {
    const TABLE: &'static Table = &schema::OFFICE;

    fn write(&self, line: &mut Line<'_>) {
        line.number(self.id).text(&self.name).text(self.city).text(&self.phone);
    }
}

impl Row for Agent {
    const TABLE: &'static Table = &schema::AGENT;

    fn write(&self, line: &mut Line<'_>) {
        line.number(self.id).text(&self.name).text(&self.email).text(&self.phone).number(self.office_id);
    }
}

impl Row for Location {
    const TABLE: &'static Table = &schema::LOCATION;

    fn write(&self, line: &mut Line<'_>) {
        line.number(self.id).text(self.city).text(self.state).text(&self.zip_code);
    }
}

impl Row for Property {
    const TABLE: &'static Table = &schema::PROPERTY;

    fn write(&self, line: &mut Line<'_>) {
        line.number(self.id).text(&self.title).text(&self.description).text(self.property_type);
        line.value(format_args!("{}.{:02}", self.price / 100, self.price % 100));
        line.number(self.bedrooms);
        line.value(format_args!("{}.{}", self.bathrooms / 10, self.bathrooms % 10));
        line.text(self.status).number(self.view_count).value(format_args!("{}", self.created_at));
        line.number(self.agent_id).number(self.location_id);
    }
}
