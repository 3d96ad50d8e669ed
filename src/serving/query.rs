//! What flows through the pipeline.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use crate::catalog::{Catalog, Listing, Standing};
use crate::embedding::ItemTables;
use crate::event::{Degradation, Reason, Request, RequestKind, Source, SubjectKind};
use crate::feature::UserState;
use crate::global::{GlobalTables, POSITIVE_FRACTION};
use crate::ids::{ItemId, Prehashed, stable_hash};
use crate::model::BasisVersion;
use crate::time::EventTime;

use super::blend::Blends;
use super::ranked::{Look, Ranking};
use super::shown::Shown;
use super::{DEFAULT_ARM, UNTRAINED};

/// What a request is answered from.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// The user's state; empty for a user never seen, or where it is missing. Of an anonymous
    /// session whose user is named, only what they refused is looked at.
    pub user: &'a UserState<'a>,
    /// Tables over all users.
    pub global: &'a GlobalTables,
    /// What the platform says about items.
    pub catalog: &'a Catalog,
    /// Vectors and statistics of all items.
    pub items: &'a ItemTables,
    /// What the word of each source counts.
    pub blends: &'a Blends,
    /// What the user was lately shown; empty for a user never answered, or where it is missing.
    pub shown: &'a Shown,
    /// What the ranker knows; none where nothing is ranked by it.
    pub ranking: Option<Ranking<'a>>,
}

/// A request on its way through the pipeline.
pub struct Query<'a> {
    /// What was asked.
    pub request: &'a Request,
    /// What it is answered from.
    pub world: World<'a>,
    /// Decides what the state leaves open: the order of equals.
    pub seed: u64,
    /// The time for which the list is wanted: the request's; where it names none, the newest
    /// event time that the tables have learnt.
    pub at: EventTime,
    /// The basis of item vectors that serves, asked for once: all stages use the same.
    pub basis: Option<BasisVersion>,
    /// The model's version, as replies and impressions name it.
    pub model_version: Cow<'static, str>,
    /// The arm, as they name it.
    pub arm: Cow<'static, str>,
    /// ISO 3166-1 alpha-2 in upper case; empty where not known.
    pub country: String,
    /// What the list is made from, oldest first: the user's history, or that of an anonymous
    /// session, without what the user refused; the context item alone where what is related to it is
    /// wanted. Filled by a hydrator.
    pub history: Vec<HistoryItem<'a>>,
    /// Hashes of what the user, or the anonymous session, has had. Filled by a hydrator.
    pub known: HashSet<u64, Prehashed>,
    /// What the user has said that they do not want.
    pub refused: Refused<'a>,
    /// What the history says of what the user likes. Filled by a hydrator.
    pub taste: Taste<'a>,
    /// The user's vector; none where nothing in the history has one. Filled by a hydrator.
    pub user_vector: Option<UserVector>,
    /// What could not contribute.
    pub degraded: Vec<Degradation>,
    /// Items that a source puts forward beyond those known to be needed.
    spare: usize,
}

/// Candidates that a source puts forward beyond what filters can take: for those that other
/// requests of the same user exclude.
const SPARE: usize = 30;
/// The same for what was shown, at most: some ten lists.
const SPARE_FOR_SHOWN: usize = 100;
/// The same where too few were left: all of a trending list. Half a millisecond more, which only
/// lists pay for that would be short otherwise.
const SPARE_WHERE_SHORT: usize = 1_000;

/// One event of the user's history.
#[derive(Clone, Copy, Debug)]
pub struct HistoryItem<'a> {
    /// The item.
    pub item: &'a str,
    /// XXH3-64 of the item.
    pub hash: u64,
    /// When.
    pub at: EventTime,
    /// Watched or clicked.
    pub source: Source,
    /// Watched part of the duration; 0 for a click and where not known.
    pub fraction: f32,
    /// Seconds; 0 where not known.
    pub duration_s: u32,
    /// The session's key.
    pub session: u64,
    /// Whether vectors learn from it, as `feature::Positives` has it.
    pub is_positive: bool,
}

/// A user's vector.
#[derive(Clone, Debug, PartialEq)]
pub struct UserVector {
    /// The basis over which it was folded in.
    pub basis: BasisVersion,
    /// Its components.
    pub vector: Vec<f32>,
}

impl<'a> HistoryItem<'a> {
    /// An item of which no more is known than that the user chose it.
    pub fn chosen(item: &'a str, at: EventTime, session: u64) -> Self {
        Self {
            item,
            hash: stable_hash(item.as_bytes()),
            at,
            source: Source::Click,
            fraction: 0.0,
            duration_s: 0,
            session,
            is_positive: true,
        }
    }

    /// Whether it was clicked, or watched for long enough that it says something.
    pub fn is_liked(&self) -> bool {
        self.source == Source::Click || self.duration_s == 0 || self.fraction >= POSITIVE_FRACTION
    }
}

/// What a user leans to: shares of a decayed history, the largest first.
#[derive(Clone, Debug, Default)]
pub struct Taste<'a> {
    /// By label of the catalog.
    pub labels: Vec<Leaning<'a>>,
    /// By creator of whom more than one item was liked.
    pub creators: Vec<Leaning<'a>>,
}

/// How much a user leans to a label or a creator.
#[derive(Clone, Copy, Debug)]
pub struct Leaning<'a> {
    /// The catalog's number of it.
    pub number: u32,
    /// Its share, 0 to 1.
    pub weight: f32,
    /// The newest item of the history that has it.
    pub because: &'a str,
}

/// What a user does not want: single items, and all of creators and categories.
#[derive(Clone, Debug, Default)]
pub struct Refused<'a> {
    /// Hashes of the items.
    items: HashSet<u64, Prehashed>,
    creators: HashSet<&'a str>,
    categories: HashSet<&'a str>,
}

impl<'a> Refused<'a> {
    fn by(user: &'a UserState<'_>) -> Self {
        let mut refused = Self::default();
        for subject in user.refused() {
            match subject.kind {
                SubjectKind::Item => refused.items.insert(stable_hash(subject.id.as_bytes())),
                SubjectKind::Creator => refused.creators.insert(subject.id),
                SubjectKind::Category => refused.categories.insert(subject.id),
            };
        }
        refused
    }

    /// Whether it holds for an item: itself, or its creator or a category as the catalog has them.
    pub fn has(&self, item: u64, catalog: &Catalog) -> bool {
        if self.items.contains(&item) {
            return true;
        }
        if self.creators.is_empty() && self.categories.is_empty() {
            return false;
        }
        let Standing::Listed(listing) = catalog.find(item) else { return false };
        self.creators.contains(listing.creator())
            || listing.categories().any(|category| self.categories.contains(category))
    }
}

/// As replies, impressions and metrics name what ranks: a champion, or that none was ever chosen.
pub fn model_version(champion: Option<BasisVersion>) -> Cow<'static, str> {
    champion.map_or(UNTRAINED.into(), |version| version.to_string().into())
}

impl<'a> Query<'a> {
    /// The items of the history that were liked, newest first, each once.
    pub fn liked(&self) -> impl Iterator<Item = &HistoryItem<'a>> {
        let mut before = HashSet::<u64, Prehashed>::default();
        self.history.iter().rev().filter(move |h| h.is_liked() && before.insert(h.hash))
    }

    /// A query at the pipeline's entrance.
    pub fn new(request: &'a Request, world: World<'a>) -> Self {
        let seed = match request.seed {
            Some(seed) => seed as u64,
            None => stable_hash(request.request_id.as_bytes()),
        };
        let country = request.device.as_ref().map(|device| device.country.to_ascii_uppercase());
        let champion = world.items.champion();
        Self {
            request,
            seed,
            basis: champion.or_else(|| world.items.serving()),
            model_version: model_version(champion),
            arm: DEFAULT_ARM.into(),
            at: request.at.unwrap_or(world.global.watermark()),
            country: country.unwrap_or_default(),
            refused: Refused::by(world.user),
            world,
            history: Vec::new(),
            known: HashSet::default(),
            taste: Taste::default(),
            user_vector: None,
            degraded: Vec::new(),
            spare: SPARE,
        }
    }

    /// Lets another version than the champion answer, under an arm's name.
    pub fn serve_by(&mut self, version: BasisVersion, arm: impl Into<Cow<'static, str>>) {
        self.basis = Some(version);
        self.model_version = model_version(Some(version));
        self.arm = arm.into();
    }

    /// Whether what is related to the context item is wanted.
    pub fn is_related(&self) -> bool {
        self.request.kind == RequestKind::Related
    }

    /// The history that a session without state carries, oldest first; none where the user's
    /// counts.
    pub fn recent_items(&self) -> Option<&'a [ItemId]> {
        self.request.recent_items.as_deref()
    }

    /// Whether the user, or the anonymous session, has had an item.
    pub fn has_had(&self, candidate: &Candidate) -> bool {
        self.known.contains(&candidate.hash)
            || (self.request.recent_items.is_none()
                && self.world.user.has_seen_before(&candidate.item))
    }

    /// Lets sources put more forward, where filters have left too few.
    pub(super) fn widen(&mut self) {
        self.spare = SPARE_WHERE_SHORT;
        // Sources say again what they lack.
        self.degraded.retain(|d| SourceKind::ALL.iter().all(|source| source.name() != d.part));
    }

    /// Whether an item, given by its XXH3-64, may be put forward: not where the user refused it, nor
    /// where they have had it, unless that is wanted. Sources ask it, so that all they put forward
    /// is of use.
    pub fn wants(&self, hash: u64) -> bool {
        let is_new = self.request.include_seen || !self.known.contains(&hash);
        is_new && !self.refused.items.contains(&hash)
    }

    /// How many items a source puts forward: enough for a full list, whatever the filters take,
    /// and for another one than the user was shown.
    pub fn proposals(&self) -> usize {
        let shown = self.world.shown.len().min(SPARE_FOR_SHOWN);
        let known = if self.request.include_seen { self.known.len() } else { 0 };
        self.request.count + known + self.request.exclude.len() + shown + self.spare
    }

    /// Says that a part could not contribute.
    pub fn degrade(&mut self, part: &str, reason: impl Into<String>) {
        self.degraded.push(Degradation { part: part.into(), reason: reason.into() });
    }
}

/// The sources, for weights and reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceKind {
    /// Sessions like this one.
    Neighbours,
    /// What many watch.
    Trending,
    /// The user's own unfinished watches.
    Unfinished,
    /// What is watched under the labels that the user likes.
    Content,
    /// More of the creators whom the user follows by habit.
    Creators,
    /// What was published lately.
    Fresh,
    /// Items whose vectors fit the user's.
    Nearest,
    /// What goes together with what the user liked last.
    CoWatched,
    /// What follows a history like the user's.
    Transitions,
}

impl SourceKind {
    /// All of them, in the order in which they are asked.
    pub const ALL: [SourceKind; 9] = [
        SourceKind::Neighbours,
        SourceKind::Trending,
        SourceKind::Unfinished,
        SourceKind::Content,
        SourceKind::Creators,
        SourceKind::Fresh,
        SourceKind::Nearest,
        SourceKind::CoWatched,
        SourceKind::Transitions,
    ];

    /// Whether it puts forward what goes with a single item.
    pub fn is_about_an_item(self) -> bool {
        matches!(
            self,
            SourceKind::Neighbours
                | SourceKind::CoWatched
                | SourceKind::Transitions
                | SourceKind::Nearest
                | SourceKind::Content
                | SourceKind::Creators
        )
    }

    /// As replies and metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            SourceKind::Neighbours => "neighbours",
            SourceKind::Trending => "trending",
            SourceKind::Unfinished => "unfinished",
            SourceKind::Content => "content",
            SourceKind::Creators => "creators",
            SourceKind::Fresh => "fresh",
            SourceKind::Nearest => "nearest",
            SourceKind::CoWatched => "co_watched",
            SourceKind::Transitions => "transitions",
        }
    }
}

impl std::str::FromStr for SourceKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|kind| kind.name()).collect();
            format!("unknown source {name:?}; use some of {}", known.join(", "))
        })
    }
}

/// What one source says for one item.
#[derive(Clone, Debug)]
pub struct Contribution {
    /// Who says it.
    pub source: SourceKind,
    /// The source's own score.
    pub score: f32,
    /// From 0, within the source.
    pub rank: usize,
    /// What this adds to the mixture's guess at the candidate; 0 until scored.
    pub share: f64,
    /// Why.
    pub why: Why,
}

/// Why a source puts an item forward. Becomes a [`Reason`] only for items that are served:
/// hundreds are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The user liked this item.
    BecauseYouWatched(Arc<str>),
    /// Its vector is close to that of this item, which the user liked.
    CloseTo(Arc<str>),
    /// Its vector fits the user's.
    Fitting,
    /// Many watch it, on the surface of the request or over all.
    Trending {
        /// Whether on the surface of the request.
        here: bool,
    },
    /// The user has seen so much of it, in percent.
    Unfinished(u8),
    /// It has a label of something that the user liked.
    MoreLike {
        /// The label.
        label: Arc<str>,
        /// What the user liked.
        cause: Arc<str>,
    },
    /// Its creator made several things that the user liked.
    FromCreator {
        /// One of them.
        cause: Arc<str>,
    },
    /// It was published lately.
    New {
        /// Under a label that the user likes; none where under any.
        label: Option<Arc<str>>,
    },
}

impl Why {
    /// As a reply says it of an item, to somebody who is on a surface, watching something or not.
    pub fn reason(&self, item: &str, surface: &str, watching: Option<&str>) -> Reason {
        let (kind, cause, text) = match self {
            Why::BecauseYouWatched(cause) | Why::CloseTo(cause) if Some(&**cause) == watching => {
                let text = format!("Because you are watching {cause}");
                ("because_you_are_watching", Some(cause.to_string()), text)
            }
            Why::BecauseYouWatched(cause) => {
                let text = format!("Because you watched {cause}");
                ("because_you_watched", Some(cause.to_string()), text)
            }
            Why::CloseTo(cause) => {
                let text = format!("People who like {cause} like it");
                ("people_like_you", Some(cause.to_string()), text)
            }
            Why::Fitting => ("people_like_you", None, "People like you like it".to_owned()),
            Why::Trending { here: true } => ("trending", None, format!("Trending on {surface}")),
            Why::Trending { here: false } => ("trending", None, "Trending".to_owned()),
            Why::Unfinished(percent) => {
                let text = format!("Continue watching, {percent} % seen");
                ("continue_watching", Some(item.to_owned()), text)
            }
            Why::MoreLike { label, cause } => {
                let text = format!("More of {label}, as {cause}");
                ("similar_content", Some(cause.to_string()), text)
            }
            Why::FromCreator { cause } => {
                let text = format!("From the creator of {cause}");
                ("creator", Some(cause.to_string()), text)
            }
            Why::New { label: Some(label) } => ("new", None, format!("New in {label}")),
            Why::New { label: None } => ("new", None, "New".to_owned()),
        };
        Reason { kind: kind.into(), item: cause, text }
    }
}

/// An item that may be recommended.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The item.
    pub item: Arc<str>,
    /// XXH3-64 of the item.
    pub hash: u64,
    /// In the order of the sources.
    pub contributions: Vec<Contribution>,
    /// What it is ranked by; 0 until scored.
    pub score: f64,
    /// What the ranker saw of it, where it looked.
    pub ranked: Option<Box<Look>>,
}

impl Candidate {
    /// What the catalog says about it.
    pub fn standing<'a>(&self, query: &Query<'a>) -> Standing<'a> {
        query.world.catalog.find(self.hash)
    }

    /// Its record in the catalog, where it has one.
    pub fn listing<'a>(&self, query: &Query<'a>) -> Option<Listing<'a>> {
        self.standing(query).listing()
    }

    /// Whether a source put it forward.
    pub fn is_from(&self, source: SourceKind) -> bool {
        self.contributions.iter().any(|c| c.source == source)
    }
}
