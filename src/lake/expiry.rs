//! Retention: what is older than so many days of event time is deleted, but for what is pinned.

use serde::Serialize;
use serde_json::json;

use super::layout::{CUTS, CutKey, EXPIRED, Hour};
use super::store::{Lake, LakeError};
use crate::time::{DAY_MS, EventTime, HOUR_MS};

/// What was deleted.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Expired {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that are older and stay, because something pinned needs them.
    pub pinned: u64,
    /// Event time before which nothing is kept, milliseconds since the epoch.
    pub horizon_ms: i64,
}

impl Lake {
    /// The event time before which a topic is expired.
    pub(super) fn horizon(&self, topic: &str) -> Result<EventTime, LakeError> {
        let listed = self.objects.list(&format!("{EXPIRED}/{topic}"))?;
        let times = listed.iter().filter_map(|object| {
            object.key.rsplit('/').next()?.strip_suffix(".json")?.parse::<i64>().ok()
        });
        Ok(times.max().map_or(EventTime::from_millis(i64::MIN), EventTime::from_millis))
    }

    /// Deletes files of hours that are more than `days` of event time before the topic's newest.
    ///
    /// # Errors
    /// [`LakeError`]; the rest is deleted the next time.
    pub fn expire(&self, topic: &str, days: u32) -> Result<Expired, LakeError> {
        let manifests = self.manifests(topic)?;
        let newest = manifests.values().filter_map(|manifest| manifest.newest()).max();
        let Some(newest) = newest else { return Ok(Expired::default()) };
        let horizon = newest.millis() - i64::from(days) * DAY_MS;
        let horizon = horizon - horizon.rem_euclid(HOUR_MS);
        if self.horizon(topic)? < EventTime::from_millis(horizon) && horizon > 0 {
            // First: from here on nobody counts what is older as part of the lake.
            let key = format!("{EXPIRED}/{topic}/{horizon:015}.json");
            self.create_json(&key, &json!({ "days": days, "horizon_ms": horizon }))?;
        }
        let horizon = self.horizon(topic)?;
        let pinned = self.pinned_keys()?;
        let mut expired = Expired { horizon_ms: horizon.millis().max(0), ..Expired::default() };
        for object in self.objects.list(topic)? {
            if Hour::of_key(&object.key).is_none_or(|hour| hour.begin() >= horizon) {
                continue;
            }
            if pinned.contains(&object.key) {
                expired.pinned += 1;
                continue;
            }
            self.objects.delete(&object.key)?;
            expired.files += 1;
            expired.bytes += object.bytes;
        }
        self.forget_merges(topic, horizon)?;
        self.forget_cuts(topic, horizon)?;
        Ok(expired)
    }

    /// Deletes plans and manifests of cuts that lie whole before the horizon. The last of a
    /// partition stays: it says where to go on.
    fn forget_cuts(&self, topic: &str, horizon: EventTime) -> Result<(), LakeError> {
        let manifests = self.manifests(topic)?;
        let mut keys = manifests.iter().peekable();
        while let Some((key, manifest)) = keys.next() {
            let is_last = keys.peek().is_none_or(|(_, next)| next.chain() != manifest.chain());
            let is_old = manifest.newest().is_some_and(|newest| newest < horizon);
            if let Some((_, CutKey::Manifest(cut))) = CutKey::parse(key)
                && is_old
                && !is_last
                && key.starts_with(CUTS)
            {
                self.objects.delete(&manifest.chain().plan_key(cut))?;
                self.objects.delete(key)?;
            }
        }
        Ok(())
    }
}
