//! Turns rows of text into the values of a listing, in the order of the serializers' fields.

use bb8_postgres::tokio_postgres::SimpleQueryRow;
use serde::Serialize;

use crate::error::Error;

/// One property, with its location, agent and office.
#[derive(Debug, Serialize)]
pub(crate) struct Property {
    id: i64,
    title: String,
    description: String,
    property_type: String,
    price: String,
    bedrooms: i64,
    bathrooms: String,
    location: Location,
    agent: Agent,
    status: String,
    view_count: i64,
    created_at: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Location {
    id: i64,
    city: String,
    state: String,
    zip_code: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Agent {
    id: i64,
    name: String,
    email: String,
    phone: String,
    office: Office,
}

#[derive(Debug, Serialize)]
pub(crate) struct Office {
    id: i64,
    name: String,
    city: String,
    phone: String,
}

/// A row of `housing_property`, before its location and agent are known.
#[derive(Debug)]
pub(crate) struct PropertyRow {
    id: i64,
    title: String,
    description: String,
    property_type: String,
    price: String,
    bedrooms: i64,
    bathrooms: String,
    pub(crate) location_id: i64,
    pub(crate) agent_id: i64,
    status: String,
    view_count: i64,
    created_at: String,
}

/// A row of `housing_agent`, before its office is known.
#[derive(Debug)]
pub(crate) struct AgentRow {
    id: i64,
    name: String,
    email: String,
    phone: String,
    pub(crate) office_id: i64,
}

impl PropertyRow {
    /// The columns of the model, in its order.
    pub(crate) const COLUMNS: &str = concat!(
        r#""housing_property"."id", "housing_property"."title", "housing_property"."description", "#,
        r#""housing_property"."property_type", "housing_property"."price", "housing_property"."bedrooms", "#,
        r#""housing_property"."bathrooms", "housing_property"."location_id", "housing_property"."agent_id", "#,
        r#""housing_property"."status", "housing_property"."view_count", "housing_property"."created_at""#
    );

    pub(crate) fn read(columns: &mut Columns<'_>) -> Result<Self, Error> {
        Ok(Self {
            id: columns.number()?,
            title: columns.text()?,
            description: columns.text()?,
            property_type: columns.text()?,
            price: columns.text()?,
            bedrooms: columns.number()?,
            bathrooms: columns.text()?,
            location_id: columns.number()?,
            agent_id: columns.number()?,
            status: columns.text()?,
            view_count: columns.number()?,
            created_at: columns.timestamp()?,
        })
    }

    pub(crate) fn with(self, location: Location, agent: Agent) -> Property {
        Property {
            id: self.id,
            title: self.title,
            description: self.description,
            property_type: self.property_type,
            price: self.price,
            bedrooms: self.bedrooms,
            bathrooms: self.bathrooms,
            location,
            agent,
            status: self.status,
            view_count: self.view_count,
            created_at: self.created_at,
        }
    }
}

impl Location {
    /// The columns of the model, in its order.
    pub(crate) const COLUMNS: &str = concat!(
        r#""housing_location"."id", "housing_location"."city", "housing_location"."state", "#,
        r#""housing_location"."zip_code""#
    );

    pub(crate) fn read(columns: &mut Columns<'_>) -> Result<Self, Error> {
        Ok(Self {
            id: columns.number()?,
            city: columns.text()?,
            state: columns.text()?,
            zip_code: columns.text()?,
        })
    }
}

impl AgentRow {
    /// The columns of the model, in its order.
    pub(crate) const COLUMNS: &str = concat!(
        r#""housing_agent"."id", "housing_agent"."name", "housing_agent"."email", "housing_agent"."phone", "#,
        r#""housing_agent"."office_id""#
    );

    pub(crate) fn read(columns: &mut Columns<'_>) -> Result<Self, Error> {
        Ok(Self {
            id: columns.number()?,
            name: columns.text()?,
            email: columns.text()?,
            phone: columns.text()?,
            office_id: columns.number()?,
        })
    }

    pub(crate) fn with(self, office: Office) -> Agent {
        Agent { id: self.id, name: self.name, email: self.email, phone: self.phone, office }
    }
}

impl Office {
    /// The columns of the model, in its order.
    pub(crate) const COLUMNS: &str = r#""housing_office"."id", "housing_office"."name", "housing_office"."city", "housing_office"."phone""#;

    pub(crate) fn read(columns: &mut Columns<'_>) -> Result<Self, Error> {
        Ok(Self {
            id: columns.number()?,
            name: columns.text()?,
            city: columns.text()?,
            phone: columns.text()?,
        })
    }
}

/// Reads the columns of a row one after the other. Decimals have the scale of their column and stay text.
pub(crate) struct Columns<'a> {
    row: &'a SimpleQueryRow,
    next: usize,
}

impl<'a> Columns<'a> {
    pub(crate) fn of(row: &'a SimpleQueryRow) -> Self {
        Self { row, next: 0 }
    }

    fn text(&mut self) -> Result<String, Error> {
        self.next += 1;
        // Every column is NOT NULL in Django's schema.
        let value = self.row.try_get(self.next - 1).ok().flatten();
        value
            .map(str::to_owned)
            .ok_or_else(|| Error::Query(format!("column {} is missing", self.next).into()))
    }

    pub(crate) fn number(&mut self) -> Result<i64, Error> {
        self.text()?.parse().map_err(|error: std::num::ParseIntError| Error::Query(error.into()))
    }

    fn timestamp(&mut self) -> Result<String, Error> {
        let text = self.text()?;
        timestamp(&text)
            .ok_or_else(|| Error::Query(format!("{text} is not a time that Django can read").into()))
    }
}

/// PostgreSQL's `2026-03-06 17:30:59.12+00` as DRF writes it: with `T` and `Z`, and six digits of a second or none.
/// `None` outside Python's years 1 to 9999, and for infinity.
fn timestamp(text: &str) -> Option<String> {
    let time = text.strip_suffix("+00").filter(|time| time.find('-') == Some(4))?;
    let time = time.replacen(' ', "T", 1);
    Some(match time.split_once('.') {
        Some((seconds, fraction)) => format!("{seconds}.{fraction:0<6}Z"),
        None => format!("{time}Z"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_have_six_digits_of_a_second_or_none() {
        for (text, expected) in [
            ("2026-03-06 17:30:59+00", Some("2026-03-06T17:30:59Z")),
            ("2026-03-06 17:30:59.12+00", Some("2026-03-06T17:30:59.120000Z")),
            ("2026-03-06 17:30:34.000001+00", Some("2026-03-06T17:30:34.000001Z")),
            ("9999-12-31 23:59:59.999999+00", Some("9999-12-31T23:59:59.999999Z")),
            ("1970-01-01 00:00:00+00", Some("1970-01-01T00:00:00Z")),
            ("0001-01-01 00:00:00+00", Some("0001-01-01T00:00:00Z")),
            ("10000-01-01 00:00:00+00", None),
            ("0001-12-31 00:00:00+00 BC", None),
            ("infinity", None),
            ("-infinity", None),
        ] {
            assert_eq!(timestamp(text).as_deref(), expected, "{text}");
        }
    }
}
