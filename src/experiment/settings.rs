//! What an arm may serve otherwise: config keys of the pipeline, by name.

use std::collections::BTreeMap;

use super::definition::Refused;
use crate::serving::{ListRules, RankerRules, SourceKind};

/// Values in place of the worker's; `None` for the worker's own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    diversity: Option<f64>,
    max_per_creator: Option<usize>,
    exploration: Option<f64>,
    sources: Option<Vec<SourceKind>>,
    candidates: Option<usize>,
    click: Option<f64>,
    long_view: Option<f64>,
    strength: Option<f64>,
}

/// All keys, and how each is read into its place.
type Reader = fn(&mut Settings, &str) -> Result<(), String>;
const KEYS: [(&str, Reader); 8] = [
    ("serving.diversity", |s, text| share(text).map(|value| s.diversity = Some(value))),
    ("serving.exploration", |s, text| share(text).map(|value| s.exploration = Some(value))),
    ("serving.max_per_creator", |s, text| count(text).map(|value| s.max_per_creator = Some(value))),
    ("serving.sources", |s, text| sources(text).map(|value| s.sources = Some(value))),
    ("ranker.candidates", |s, text| count(text).map(|value| s.candidates = Some(value))),
    ("ranker.click", |s, text| weight(text).map(|value| s.click = Some(value))),
    ("ranker.long_view", |s, text| weight(text).map(|value| s.long_view = Some(value))),
    ("ranker.strength", |s, text| weight(text).map(|value| s.strength = Some(value))),
];

fn number(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let value = text.trim().parse::<f64>().ok().filter(|value| (least..=most).contains(value));
    value.ok_or_else(|| format!("is {text:?}; a number from {least} to {most} is allowed"))
}

fn share(text: &str) -> Result<f64, String> {
    number(text, 0.0, 1.0)
}

fn weight(text: &str) -> Result<f64, String> {
    number(text, 0.0, 100.0)
}

fn count(text: &str) -> Result<usize, String> {
    let value = text.trim().parse::<usize>().ok().filter(|value| (1..=10_000).contains(value));
    value.ok_or_else(|| format!("is {text:?}; a whole number from 1 to 10000 is allowed"))
}

fn sources(text: &str) -> Result<Vec<SourceKind>, String> {
    let mut all = text
        .split(',')
        .map(|name| name.trim().parse::<SourceKind>())
        .collect::<Result<Vec<_>, _>>()?;
    // In the order in which they are asked, each once: the same sources are the same pipeline.
    all.sort_by_key(|kind| SourceKind::ALL.iter().position(|known| known == kind));
    all.dedup();
    Ok(all)
}

impl Settings {
    /// Reads values by their keys.
    ///
    /// # Errors
    /// [`Refused`] where a key is not known, with the one most like it, or a value is not allowed.
    pub fn read(values: &BTreeMap<String, String>) -> Result<Self, Refused> {
        let mut settings = Self::default();
        for (key, text) in values {
            let Some((_, reader)) = KEYS.iter().find(|(known, _)| known == key) else {
                return Err(unknown(key));
            };
            reader(&mut settings, text).map_err(|why| Refused(format!("{key} {why}")))?;
        }
        if settings.click == Some(0.0) && settings.long_view == Some(0.0) {
            return Err(Refused(
                "ranker.click and ranker.long_view are 0: nothing to rank by; to go without the \
                 ranker set ranker.strength to 0"
                    .into(),
            ));
        }
        Ok(settings)
    }

    /// Puts in what is said here and not said yet.
    pub fn fill_in(&mut self, other: &Self) {
        self.diversity = self.diversity.or(other.diversity);
        self.max_per_creator = self.max_per_creator.or(other.max_per_creator);
        self.exploration = self.exploration.or(other.exploration);
        self.sources = self.sources.take().or_else(|| other.sources.clone());
        self.candidates = self.candidates.or(other.candidates);
        self.click = self.click.or(other.click);
        self.long_view = self.long_view.or(other.long_view);
        self.strength = self.strength.or(other.strength);
    }

    /// How lists are made, where the worker's way is `own`.
    pub fn list_rules(&self, own: ListRules) -> ListRules {
        ListRules {
            diversity: self.diversity.unwrap_or(own.diversity),
            max_per_creator: self.max_per_creator.unwrap_or(own.max_per_creator),
            exploration: self.exploration.unwrap_or(own.exploration),
        }
    }

    /// How the ranker is heard, where the worker's way is `own`.
    pub fn ranker_rules(&self, own: RankerRules) -> RankerRules {
        RankerRules {
            candidates: self.candidates.unwrap_or(own.candidates),
            click: self.click.unwrap_or(own.click),
            long_view: self.long_view.unwrap_or(own.long_view),
            strength: self.strength.unwrap_or(own.strength),
            ..own
        }
    }

    /// Which sources are asked.
    pub fn sources(&self) -> &[SourceKind] {
        self.sources.as_deref().unwrap_or(&SourceKind::ALL)
    }
}

fn unknown(key: &str) -> Refused {
    let likeness = |known: &str| strsim::jaro_winkler(known, key);
    let nearest = KEYS.iter().max_by(|a, b| likeness(a.0).total_cmp(&likeness(b.0)));
    let hint = match nearest {
        Some((known, _)) if likeness(known) > 0.75 => format!("did you mean {known}?"),
        _ => format!("use {}", KEYS.map(|(known, _)| known).join(", ")),
    };
    Refused(format!("{key} is no setting that an arm can have; {hint}"))
}
