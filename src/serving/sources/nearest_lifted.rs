//! Nearest, lifted by what is popular: u·v · (1 + n)^a, where n is the decayed count on the surface.
//! Never serves: with vectors that do not move it is what online ones are held against
//! (`evaluation/`), since much of what they learn is the trend.

use crate::serving::pipeline::{CandidateSource, Proposal};
use crate::serving::query::{Query, SourceKind, Why};

/// Items that are looked at beyond those put forward: those that popularity may lift.
const REACH: usize = 1_000;

/// See the module.
pub struct NearestLifted {
    /// a.
    pub exponent: f32,
}

impl CandidateSource for NearestLifted {
    fn kind(&self) -> SourceKind {
        SourceKind::Nearest
    }

    fn candidates(&self, query: &Query<'_>) -> Result<Vec<Proposal>, String> {
        let Some(user) = &query.user_vector else { return Ok(Vec::new()) };
        let (items, global) = (query.world.items, query.world.global);
        let wanted = query.proposals();
        let mut found = items
            .nearest(user.basis, &user.vector, wanted + REACH, |hash| query.wants(hash))
            .map_err(|error| error.to_string())?;
        for near in &mut found {
            let item = global.items().find_hash(near.hash);
            let surface = query.request.surface.as_str();
            let count = item.map_or(0.0, |item| global.trending().count(surface, item));
            // What does not fit is not made to by being popular.
            near.score = near.score.max(0.0) * (1.0 + count).powf(self.exponent);
        }
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        found.truncate(wanted);
        let proposal = |near: crate::embedding::Nearest| Proposal {
            item: near.item,
            hash: near.hash,
            score: near.score,
            why: Why::Fitting,
        };
        Ok(found.into_iter().map(proposal).collect())
    }
}
