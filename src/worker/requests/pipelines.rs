//! The pipelines that answer: the worker's own, and one for each other way in which arms serve.

use std::sync::{Arc, PoisonError, RwLock};

use crate::experiment::settings::Settings;
use crate::serving::{self, ListRules, Pipeline, SourceKind};
use crate::worker::Context;
use crate::worker::impressions::{Impressions, Note, NoteShadow};

/// Most pipelines that are kept beside the worker's own: those of more arms than run at once. Beyond,
/// all are made anew.
const MOST: usize = 64;

/// What a pipeline follows from.
type Way = (ListRules, Vec<SourceKind>);

/// Pipelines by what they follow from.
pub(super) struct Pipelines {
    context: Context,
    impressions: Option<Arc<Impressions>>,
    own: Arc<Pipeline>,
    others: RwLock<Vec<(Way, Arc<Pipeline>)>>,
    /// Makes lists that nobody sees.
    pub(super) shadow: Pipeline,
}

impl Pipelines {
    /// The worker's own, and no other yet; lists that nobody sees go to `unseen`.
    pub(super) fn new(
        context: Context,
        impressions: Option<Arc<Impressions>>,
        unseen: Option<Arc<Impressions>>,
    ) -> Self {
        let rules = context.config.serving.list_rules();
        let shadow = serving::untrained(rules).without_side_effects();
        let shadow = match unseen {
            Some(unseen) => shadow.side_effect(NoteShadow(unseen)),
            None => shadow,
        };
        let mut pipelines = Self {
            context,
            impressions,
            own: Arc::new(Pipeline::new()),
            others: RwLock::default(),
            shadow,
        };
        pipelines.own = pipelines.make(&(rules, SourceKind::ALL.to_vec()));
        pipelines
    }

    fn make(&self, (rules, sources): &Way) -> Arc<Pipeline> {
        let note = Note { context: self.context.clone(), impressions: self.impressions.clone() };
        Arc::new(serving::untrained_of(sources, *rules).side_effect(note))
    }

    /// The one for these settings.
    pub(super) fn of(&self, settings: &Settings) -> Arc<Pipeline> {
        let own = self.context.config.serving.list_rules();
        let rules = settings.list_rules(own);
        let sources = settings.sources();
        if rules == own && sources == SourceKind::ALL {
            return Arc::clone(&self.own);
        }
        let is_it = |(way, _): &&(Way, Arc<Pipeline>)| way.0 == rules && way.1 == sources;
        let known = self.others.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, pipeline)) = known.iter().find(is_it) {
            return Arc::clone(pipeline);
        }
        drop(known);
        let way = (rules, sources.to_vec());
        let pipeline = self.make(&way);
        let mut others = self.others.write().unwrap_or_else(PoisonError::into_inner);
        if others.len() >= MOST {
            others.clear();
        }
        others.push((way, Arc::clone(&pipeline)));
        pipeline
    }
}
