//! A page of a list: its rows, and the links to its neighbours (DRF's `PageNumberPagination`).

use std::fmt;

use serde::Serialize;

use crate::database::Session;
use crate::error::Error;
use crate::link::Address;
use crate::number::python_int;
use crate::routes::View;
use crate::row::{Columns, Property};
use crate::{naive, optimized};

const PAGE_SIZE: u64 = 20;

/// A page as it is serialized.
#[derive(Debug, Serialize)]
pub(crate) struct Page {
    count: u64,
    next: Option<String>,
    previous: Option<String>,
    results: Vec<Property>,
}

/// The rows of a page within the list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Slice {
    limit: u64,
    offset: u64,
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offset {
            0 => write!(f, "LIMIT {}", self.limit),
            offset => write!(f, "LIMIT {} OFFSET {offset}", self.limit),
        }
    }
}

/// The value of `?page=`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wanted {
    Last,
    Number(u64),
}

impl Page {
    /// Makes the page that an address asks for. A value that is not a positive number fails without a query; a page
    /// past the end fails after the COUNT.
    pub(crate) async fn fetch(
        session: &mut Session<'_>,
        view: View,
        address: &Address,
    ) -> Result<Self, Error> {
        let wanted = wanted(address.value("page")).ok_or(Error::InvalidPage)?;
        let count = count(session).await?;
        let pages = count.div_ceil(PAGE_SIZE).max(1);
        let number = match wanted {
            Wanted::Last => pages,
            Wanted::Number(number) if number <= pages => number,
            Wanted::Number(_) => return Err(Error::InvalidPage),
        };
        let results = match slice(number, count) {
            // Django does not query an empty slice.
            None => Vec::new(),
            Some(slice) if view == View::Optimized => optimized::properties(session, slice).await?,
            Some(slice) => naive::properties(session, slice).await?,
        };
        let next = (number < pages).then(|| address.link(number + 1));
        let previous = (number > 1).then(|| address.link(number - 1));
        Ok(Self { count, next, previous, results })
    }
}

/// The last page has only the remaining rows, so the limit is reduced to their number.
fn slice(number: u64, count: u64) -> Option<Slice> {
    let offset = (number - 1) * PAGE_SIZE;
    let limit = PAGE_SIZE.min(count - offset);
    (limit > 0).then_some(Slice { limit, offset })
}

fn wanted(value: Option<&str>) -> Option<Wanted> {
    match value.filter(|value| !value.is_empty()) {
        None => Some(Wanted::Number(1)),
        Some("last") => Some(Wanted::Last),
        Some(text) => python_int(text).filter(|number| *number > 0).map(Wanted::Number),
    }
}

async fn count(session: &mut Session<'_>) -> Result<u64, Error> {
    let rows = session.rows(r#"SELECT COUNT(*) AS "__count" FROM "housing_property""#).await?;
    let row = rows.first().ok_or_else(|| Error::Query("COUNT has no row".into()))?;
    let count = Columns::of(row).number()?;
    u64::try_from(count).map_err(|error| Error::Query(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_values_are_read_as_in_django() {
        for (value, expected) in [
            (None, Some(Wanted::Number(1))),
            (Some(""), Some(Wanted::Number(1))),
            (Some("last"), Some(Wanted::Last)),
            (Some("Last"), None),
            (Some("02"), Some(Wanted::Number(2))),
            (Some("0"), None),
            (Some("-1"), None),
            (Some("abc"), None),
        ] {
            assert_eq!(wanted(value), expected, "{value:?}");
        }
    }

    #[test]
    fn slices_end_with_the_list() {
        for (number, count, expected) in [
            (1, 45, Some("LIMIT 20")),
            (2, 45, Some("LIMIT 20 OFFSET 20")),
            (3, 45, Some("LIMIT 5 OFFSET 40")),
            (2, 40, Some("LIMIT 20 OFFSET 20")),
            (1, 0, None),
        ] {
            assert_eq!(slice(number, count).map(|slice| slice.to_string()).as_deref(), expected);
        }
    }
}
