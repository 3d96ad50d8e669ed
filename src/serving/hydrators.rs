//! Hydrators: what later components need to know about the user.

use super::pipeline::Hydrator;
use super::query::{HistoryItem, Query};
use crate::event::Source;
use crate::ids::stable_hash;

/// The user's watches and clicks as one history.
pub struct History;

impl Hydrator for History {
    fn name(&self) -> &'static str {
        "history"
    }

    fn hydrate(&self, query: &mut Query<'_>) {
        let user = query.world.user;
        let mut history = Vec::new();
        for source in Source::ALL {
            history.extend(user.recent(source).iter().map(|entry| HistoryItem {
                item: entry.item,
                at: entry.at,
                source,
                fraction: entry.watched_fraction(),
                duration_s: entry.duration_s,
                session: entry.session,
            }));
        }
        // Each list is sorted; equal times keep watches before clicks, in every process.
        history.sort_by_key(|h| h.at);
        query.known = history.iter().map(|h| stable_hash(h.item.as_bytes())).collect();
        query.history = history;
    }
}
