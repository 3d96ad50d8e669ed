//! What the simulated platform says about its items.

use crate::cli::Failure;
use crate::cli::catalog::{Changes, Published, Publisher};
use crate::config::Config;
use crate::event::CatalogItem;
use crate::simulation::{Item, World};

/// Publishes the world's catalog, as far as it is not published already. Items that another world
/// has left there stay.
///
/// # Errors
/// Where the catalog cannot be read or not everything is delivered.
pub fn publish(config: &Config, world: &World) -> Result<Changes, Failure> {
    let mut published = Published::open(config)?;
    published.catch_up()?;
    let mut publisher = Publisher::begin(config, &mut published.difference, false)?;
    for (number, item) in (1..).zip(world.items()) {
        publisher.take(number, Ok(record(item)))?;
    }
    publisher.finish()
}

fn record(item: &Item) -> CatalogItem {
    CatalogItem {
        creator: item.creator.clone(),
        categories: item.categories.clone(),
        duration_ms: item.duration_ms,
        published: Some(item.published),
        available_until: item.withdrawn,
        ..CatalogItem::new(item.id.clone())
    }
}
