//! What is given up: all but the newest snapshots, and parts that none of them uses.
//!
//! Others may be uploading at the same time, and rely on parts that were there when they looked. So
//! what is to be deleted is written down first, and then manifests are looked at once more; whoever
//! uploads writes their manifest first, and then looks at what others have written down and at what
//! is there. Whichever of the two is second sees the other: the collector keeps the part, or the
//! uploader gives its manifest up and makes those parts again, under keys of their own.

use std::collections::BTreeSet;

use super::{Depot, Listing, SnapshotError};
use crate::objects::ObjectInfo;
use crate::time::DAY_MS;

/// What is kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Snapshots.
    pub keep: usize,
    /// Milliseconds after which a part that no manifest names may go. Longer than an upload takes,
    /// whose parts are named by none until it has ended.
    pub grace_ms: i64,
}

/// Milliseconds after which the plan of a collector that has not come back is removed: it is dead, or
/// it would have deleted by then what it had found dead. Shorter: one that was only asleep deletes
/// what somebody relies on by now, and nobody sees that it is about to.
const PLAN_LOST_MS: i64 = 2 * DAY_MS;

/// What was given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Manifests deleted.
    pub manifests: usize,
    /// Parts deleted.
    pub parts: usize,
    /// Bytes of parts deleted.
    pub bytes: u64,
}

impl Depot {
    /// Deletes what `retention` does not keep. `plan` is a name that nobody ever used before. To be
    /// called after an upload: the age of things is counted from the newest that is there, by the
    /// object store's own clock.
    ///
    /// # Errors
    /// [`SnapshotError::Object`]; the rest is deleted the next time.
    pub fn collect(&self, retention: Retention, plan: &str) -> Result<Collected, SnapshotError> {
        let listing = self.list()?;
        let all = listing.manifests.iter().chain(listing.parts.values()).chain(&listing.plans);
        let Some(now) = all.map(|object| object.modified_ms).max() else {
            return Ok(Collected::default());
        };
        let is_old = |object: &ObjectInfo| now - object.modified_ms > retention.grace_ms;
        let mut collected = Collected::default();
        for dead in self.dead(&listing, retention.keep, is_old)? {
            self.objects.delete(&dead.key)?;
            collected.manifests += 1;
        }
        collected = self.collect_parts(&listing, collected, is_old, plan)?;
        for lost in listing.plans.iter().filter(|plan| now - plan.modified_ms > PLAN_LOST_MS) {
            self.objects.delete(&lost.key)?;
        }
        Ok(collected)
    }

    fn collect_parts(
        &self,
        listing: &Listing,
        mut collected: Collected,
        is_old: impl Fn(&ObjectInfo) -> bool,
        plan: &str,
    ) -> Result<Collected, SnapshotError> {
        let Some(used) = self.used()? else { return Ok(collected) };
        let is_dead = |part: &&ObjectInfo| !used.contains(&part.key) && is_old(part);
        let dead: Vec<&ObjectInfo> = listing.parts.values().filter(is_dead).collect();
        if dead.is_empty() {
            return Ok(collected);
        }
        let keys: Vec<&str> = dead.iter().map(|part| part.key.as_str()).collect();
        let plan = self.key(&format!("plans/{plan}.json"));
        let text = serde_json::to_vec(&keys).map_err(|e| SnapshotError::damaged(&plan, e))?;
        self.objects.create(&plan, text.into())?;
        // Who has come in between is seen now; who comes from here on sees the plan.
        if let Some(used) = self.used()? {
            for part in dead.iter().filter(|part| !used.contains(&part.key)) {
                self.objects.delete(&part.key)?;
                collected.parts += 1;
                collected.bytes += part.bytes;
            }
        }
        self.objects.delete(&plan)?;
        Ok(collected)
    }

    /// The manifests that go. Good ones stay that have come furthest, and as many that are the newest
    /// by the store's clock: they are the same, but where a topic was made anew, as then those of
    /// the old one have come further than any of the new one will for long. One that cannot be read
    /// goes when it is old.
    fn dead<'a>(
        &self,
        listing: &'a Listing,
        keep: usize,
        is_old: impl Fn(&ObjectInfo) -> bool,
    ) -> Result<Vec<&'a ObjectInfo>, SnapshotError> {
        let good: BTreeSet<String> =
            self.read_good(listing)?.into_iter().map(|(key, _)| key).collect();
        let (mut all, unreadable): (Vec<&ObjectInfo>, Vec<&ObjectInfo>) =
            listing.manifests.iter().partition(|manifest| good.contains(&manifest.key));
        let mut kept: BTreeSet<&str> = all.iter().take(keep).map(|m| m.key.as_str()).collect();
        all.sort_by_key(|manifest| std::cmp::Reverse(manifest.modified_ms));
        kept.extend(all.iter().take(keep).map(|manifest| manifest.key.as_str()));
        all.retain(|manifest| !kept.contains(manifest.key.as_str()));
        all.extend(unreadable.into_iter().filter(|manifest| is_old(manifest)));
        Ok(all)
    }

    /// The parts that the manifests of now name; `None` while one of them cannot be read, and so
    /// nobody knows what it names.
    fn used(&self) -> Result<Option<BTreeSet<String>>, SnapshotError> {
        let listing = self.list()?;
        let good = self.read_good(&listing)?;
        let is_known = good.len() == listing.manifests.len();
        let parts = good.iter().flat_map(|(_, manifest)| manifest.parts());
        Ok(is_known.then(|| parts.map(|part| part.key.clone()).collect()))
    }
}
