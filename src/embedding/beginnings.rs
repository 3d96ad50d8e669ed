//! Where items begin that nobody has watched: the vector that their content suggests.
//!
//! Enters: the catalog and the item tables. Leaves: vectors in the index for items of the catalog
//! that have none over the newest basis. Item shards know nothing of it: what an item learns from
//! its first event on is a fold of its events alone, and takes the place of its beginning.

use super::content::{ContentConfig, ContentFeature, ContentMap};
use super::tables::{ItemTables, TablesError};
use crate::catalog::{Catalog, Listing};
use crate::model::BasisVersion;

/// Items of a basis that have a record in the catalog, at least: from fewer there is nothing to
/// learn about content.
const LEAST: usize = 50;

/// The content map of the basis that serves, and what was begun with it.
#[derive(Default)]
pub struct Beginnings {
    map: Option<(BasisVersion, ContentMap)>,
    /// The basis and the state of the catalog that were looked at last.
    done: Option<(BasisVersion, u64)>,
}

impl Beginnings {
    /// Gives every item of the catalog without a vector one, where basis or catalog have changed
    /// since the last time. Returns how many were given. Fits a map where the basis is new, which
    /// takes seconds where it is large: for a background thread.
    ///
    /// # Errors
    /// [`TablesError`] where the map cannot be fitted or the tables are full.
    pub fn begin(&mut self, tables: &ItemTables, catalog: &Catalog) -> Result<usize, TablesError> {
        let Some(version) = tables.serving() else { return Ok(0) };
        let looked_at = Some((version, catalog.revision()));
        if self.done == looked_at {
            return Ok(0);
        }
        if self.map.as_ref().is_none_or(|(known, _)| *known != version) {
            self.map = fit(version, tables, catalog)?.map(|map| (version, map));
        }
        let mut begun = 0;
        if let Some((_, map)) = &self.map {
            for (item, listing) in catalog.iter() {
                let features = features(listing);
                if !features.is_empty() && !tables.has_vector(version, item) {
                    tables.begin(version, item, &map.predict(&features))?;
                    begun += 1;
                }
            }
        }
        self.done = looked_at;
        Ok(begun)
    }
}

fn fit(
    version: BasisVersion,
    tables: &ItemTables,
    catalog: &Catalog,
) -> Result<Option<ContentMap>, TablesError> {
    let Some(live) = tables.basis(version) else { return Ok(None) };
    let basis = live.basis();
    let known: Vec<_> = catalog
        .iter()
        .filter_map(|(item, listing)| Some((features(listing), basis.position(item)?)))
        .filter(|(features, _)| !features.is_empty())
        .collect();
    if known.len() < LEAST {
        return Ok(None);
    }
    let rows = known.iter().map(|(features, position)| {
        let trained = basis.trained(*position);
        (features.as_slice(), trained.vector, trained.count)
    });
    Ok(Some(ContentMap::fit(basis.dim(), rows, &ContentConfig::default())?))
}

fn features(listing: Listing<'_>) -> Vec<ContentFeature<'_>> {
    let creator = Some(listing.creator()).filter(|creator| !creator.is_empty());
    let labels = listing.label_texts().map(ContentFeature::Tag);
    let languages = listing.languages().map(ContentFeature::Language);
    creator.map(ContentFeature::Creator).into_iter().chain(labels).chain(languages).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::{FirstBasis, FirstBasisLimits, Settings, TablesConfig};
    use crate::event::{CatalogItem, History, Interaction};
    use crate::ids::{ItemId, stable_hash};

    #[test]
    fn an_item_that_nobody_watched_begins_near_those_like_it() {
        let mut catalog = Catalog::default();
        let limits = FirstBasisLimits {
            min_positives: 1,
            min_users: 1,
            min_items: 1,
            max_positives: 10_000,
            max_items: 1_000,
        };
        let mut trainer = FirstBasis::new(limits, &[Settings::VIDEOS]);
        // Each of 40 people likes thirty of the forty items of one of two kinds.
        for user in 0..40u64 {
            for n in (0..40u64).filter(|n| (n + user) % 4 != 0) {
                let item = format!("{}-{n}", user % 2);
                trainer.observe(&Interaction {
                    user: user as i64,
                    item: &item,
                    history: Some(History::default()),
                    ..Interaction::default()
                });
            }
        }
        let items = (0..80).map(|n| format!("{}-{}", n % 2, n / 2));
        for item in items.chain(["0-new".into(), "1-new".into()]) {
            let tags = vec![format!("kind {}", &item[..1])];
            catalog.upsert(&CatalogItem { tags, ..CatalogItem::new(ItemId::new(item)) });
        }
        let tables = ItemTables::new(TablesConfig::default());
        let basis = trainer.train(1, || true).unwrap().unwrap().basis;
        let version = basis.version();
        tables.set_basis(basis).unwrap();
        let mut beginnings = Beginnings::default();
        assert_eq!(beginnings.begin(&tables, &catalog).unwrap(), 2);
        assert_eq!(beginnings.begin(&tables, &catalog).unwrap(), 0, "nothing has changed");

        let history = (0..5).map(|n| stable_hash(format!("0-{n}").as_bytes()));
        let user = tables.fold_in(version, history).unwrap();
        let new = ["0-new", "1-new"].map(|item| stable_hash(item.as_bytes()));
        let scores = tables.scores(version, &user, &new).unwrap();
        assert!(scores[0] > scores[1], "{scores:?}");
    }
}
