//! Pages of lists: by number, or one after another by cursor.

use super::{Problem, shapes::List};
use crate::clock::Time;
use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::IntoParams;

/// Rows a page where nothing else is said.
const ROWS: usize = 50;
/// The most rows of a page.
const MOST: usize = 500;
/// A cursor that is the number of a row begins so.
const ROW: &str = "row-";

/// Which part of a list, and what of its rows. What is no number counts as not given.
#[derive(Debug, Default, Deserialize, IntoParams)]
pub struct Pages {
    /// The page, from 1.
    #[param(value_type = Option<u32>, minimum = 1)]
    page: Option<String>,
    /// Rows a page; 50 where this is none of 1 to 500.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    per_page: Option<String>,
    /// As `per_page`, and before it.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    page_size: Option<String>,
    /// The `next_cursor` of the page before, where the list gives one; filter and order stay as
    /// they were.
    cursor: Option<String>,
    /// Of each row these fields alone, e.g. `id,name`.
    fields: Option<String>,
}

/// Where a page begins and how long it is.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// It is the page after this one.
    pub cursor: Option<&'a str>,
    /// So many rows are passed over.
    pub skip: usize,
    /// Rows in it, at most.
    pub limit: usize,
    number: usize,
}

impl Pages {
    /// Where the page is.
    pub fn place(&self) -> Place<'_> {
        let number = |text: &Option<String>| text.as_ref().and_then(|t| t.parse().ok());
        let page = number(&self.page).filter(|p| *p >= 1).unwrap_or(1);
        let size = self.page_size.as_ref().or(self.per_page.as_ref());
        let size = number(&size.cloned()).filter(|n| (1..=MOST).contains(n));
        let (limit, cursor) = (size.unwrap_or(ROWS), given(self.cursor.as_deref()));
        let skip = (page - 1).saturating_mul(limit);
        Place {
            cursor,
            skip: if cursor.is_some() { 0 } else { skip },
            limit,
            number: page,
        }
    }

    /// Where the page is in a list whose rows have numbers: a cursor names the next one.
    pub fn numbered(&self) -> Result<Place<'_>, Problem> {
        let place = self.place();
        let Some(cursor) = place.cursor else {
            return Ok(place);
        };
        let row = cursor.strip_prefix(ROW).and_then(|n| n.parse().ok());
        let skip = row.ok_or_else(|| Problem::bad("cursor", "no answer of this list gave it"))?;
        Ok(Place { skip, ..place })
    }

    /// The page of rows that are all at hand.
    pub fn of<T, U: Serialize>(
        &self,
        rows: &[T],
        shape: impl Fn(&T) -> U,
    ) -> Result<Response, Problem> {
        let (place, total) = (self.numbered()?, rows.len() as u64);
        let shown = rows.iter().skip(place.skip).take(place.limit);
        let shown = shown.map(shape).collect();
        Ok(self.answer(place.list(shown, Some(total), place.next_of(total))))
    }

    /// The list, with no more of its rows than was asked for.
    pub fn answer<T: Serialize>(&self, list: List<T>) -> Response {
        let Some(fields) = given(self.fields.as_deref()) else {
            return Json(list).into_response();
        };
        let fields: Vec<&str> = fields.split(',').map(str::trim).collect();
        let sparse = |row: T| match serde_json::to_value(row) {
            Ok(Value::Object(mut row)) => {
                row.retain(|name, _| fields.contains(&name.as_str()));
                row
            }
            _ => Map::new(),
        };
        Json(list.map(sparse)).into_response()
    }
}

impl Place<'_> {
    /// The cursor of the page after this one, of so many numbered rows; `None` at the end.
    pub fn next_of(&self, total: u64) -> Option<String> {
        let next = self.skip.saturating_add(self.limit);
        ((next as u64) < total).then(|| format!("{ROW}{next}"))
    }

    /// The list's envelope around the page.
    pub fn list<T>(
        &self,
        data: Vec<T>,
        total: Option<u64>,
        next_cursor: Option<String>,
    ) -> List<T> {
        let by_number = self.cursor.is_none();
        List {
            data,
            total,
            page: by_number.then_some(self.number),
            per_page: by_number.then_some(self.limit),
            page_size: (!by_number).then_some(self.limit),
            next_cursor,
        }
    }
}

/// A parameter that is there, and not empty.
pub fn given(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

/// A parameter that names a moment.
pub fn moment(field: &str, text: Option<&str>) -> Result<Option<Time>, Problem> {
    let time = given(text).map(|text| text.parse().map_err(|e| Problem::bad(field, e)));
    time.transpose()
}
