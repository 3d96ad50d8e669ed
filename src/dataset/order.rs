//! Rows by event time. Enters: rows in any order. Leaves: the same rows, oldest first, those of
//! one time as they came. Never holds an id twice.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::ids::{ItemId, Surface, UserId};
use crate::time::EventTime;

use super::error::DatasetError;
use super::{Row, RowKind, Source};

/// A row with its texts replaced by their places in [`Texts`].
struct Compact {
    at: EventTime,
    number: u64,
    kind: RowKind,
    user: u32,
    item: u32,
    source: u32,
    surface: Option<u32>,
    session: Option<u32>,
}

/// All rows of a data set, sorted.
pub(super) struct ByTime {
    rows: std::vec::IntoIter<Compact>,
    texts: Texts,
    total: u64,
}

impl ByTime {
    pub(super) fn collect(
        rows: &mut impl Iterator<Item = Result<Row, DatasetError>>,
    ) -> Result<Self, DatasetError> {
        let mut texts = Texts::default();
        let mut held = Vec::new();
        for row in rows {
            held.push(compact(row?, &mut texts)?);
        }
        // Stable, so rows of one time keep their order.
        held.sort_by_key(|row| row.at);
        texts.places = HashMap::new();
        let total = held.len() as u64;
        Ok(Self { rows: held.into_iter(), texts, total })
    }
}

impl Source for ByTime {
    fn read(&mut self, out: &mut VecDeque<Row>) -> Result<bool, DatasetError> {
        let Some(row) = self.rows.next() else {
            return Ok(false);
        };
        let text = |place: u32| &self.texts.texts[place as usize];
        out.push_back(Row {
            user: UserId::from(&**text(row.user)),
            item: ItemId::from(&**text(row.item)),
            at: row.at,
            surface: row.surface.map(|place| Surface::from(&**text(place))),
            session: row.session.map(|place| text(place).to_string()),
            kind: row.kind,
            source: Arc::clone(text(row.source)),
            number: row.number,
        });
        Ok(true)
    }

    /// Rows, not stored rows: what they were made of is no longer known.
    fn total_rows(&self) -> Option<u64> {
        Some(self.total)
    }
}

fn compact(row: Row, texts: &mut Texts) -> Result<Compact, DatasetError> {
    Ok(Compact {
        at: row.at,
        number: row.number,
        kind: row.kind,
        user: texts.place(row.user.as_str())?,
        item: texts.place(row.item.as_str())?,
        source: texts.place(&row.source)?,
        surface: row.surface.map(|surface| texts.place(surface.as_str())).transpose()?,
        session: row.session.map(|session| texts.place(&session)).transpose()?,
    })
}

/// Every text once.
#[derive(Default)]
struct Texts {
    texts: Vec<Arc<str>>,
    places: HashMap<Arc<str>, u32>,
}

impl Texts {
    fn place(&mut self, text: &str) -> Result<u32, DatasetError> {
        if let Some(&place) = self.places.get(text) {
            return Ok(place);
        }
        let place = u32::try_from(self.texts.len())
            .map_err(|_| DatasetError::TooMany { what: "ids", limit: u32::MAX.into() })?;
        let text: Arc<str> = Arc::from(text);
        self.texts.push(Arc::clone(&text));
        self.places.insert(text, place);
        Ok(place)
    }
}
