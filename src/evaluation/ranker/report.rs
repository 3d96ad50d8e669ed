//! What an evaluation of the ranker found, for people and for programs. Pure: returns text and JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::{MODELS, RankerEvaluation};
use crate::evaluation::bootstrap::Interval;
use crate::model::outcomes::{calibration, log_loss};
use crate::ranking::TARGETS;

const TARGET_NAMES: [&str; TARGETS] = ["click", "long view"];
/// Surfaces of fewer judged exposures are not told one by one: their Σp/Σy says little.
const SURFACE_EXPOSURES: usize = 500;

/// How well a model did on a target.
struct Verdict {
    auc: Option<f64>,
    gauc: Option<f64>,
    session: Option<f64>,
    request: Option<f64>,
    log_loss: f64,
    calibration: Option<f64>,
}

impl RankerEvaluation {
    fn verdict(&self, model: usize, target: usize) -> Verdict {
        let judged = self.impressions[target].verdict(model);
        let losses: f64 = self.pairs(model, target, None).map(|(p, y)| log_loss(p, y)).sum();
        Verdict {
            auc: judged.auc,
            gauc: judged.gauc,
            session: judged.session_gauc,
            request: self.requests[target].verdict(model).session_gauc,
            log_loss: losses / self.tested.len().max(1) as f64,
            calibration: calibration(self.pairs(model, target, None)),
        }
    }

    /// Probabilities and what came, on one surface or on all.
    fn pairs<'s>(
        &'s self,
        model: usize,
        target: usize,
        surface: Option<&'s str>,
    ) -> impl Iterator<Item = (f64, bool)> + 's {
        let there = self.tested.iter().filter(move |one| surface.is_none_or(|s| s == one.surface));
        there.map(move |one| {
            let came = one.outcome.targets()[target] > 0.5;
            (one.scores[model].probabilities[target].into(), came)
        })
    }

    /// Expected seconds over seconds watched.
    fn seconds_ratio(&self, model: usize) -> f64 {
        let (expected, watched) = self.tested.iter().fold((0.0, 0.0), |(e, w), one| {
            let seconds = one.outcome.watched_ms as f64 / 1_000.0;
            (e + f64::from(one.scores[model].seconds), w + seconds)
        });
        expected / watched
    }

    /// Surfaces with many judged exposures, and how many.
    fn surfaces(&self) -> Vec<(&str, usize)> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        self.tested.iter().for_each(|one| *counts.entry(&one.surface).or_default() += 1);
        let mut counts: Vec<_> =
            counts.into_iter().filter(|(_, n)| *n >= SURFACE_EXPOSURES).collect();
        counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        counts
    }
}

/// The report as Markdown.
pub fn markdown(data: &str, found: &RankerEvaluation, seed: u64) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text, data, found, seed);
    text
}

fn write(text: &mut String, data: &str, found: &RankerEvaluation, seed: u64) -> std::fmt::Result {
    let judged = found.tested.len();
    let (_, requests) = found.requests[0].mixed_groups();
    writeln!(
        text,
        "{data}: {judged} exposures judged after {} learnt from; what comes of one is known half an \
         hour later. {requests} sessions had clicks and others; as one request each their exposures \
         are ordered for a user and a moment that are held. Scoring {:.1} µs an exposure, each as a request of its own; \
         learning {:.1} µs, of all models.\n",
        found.learnt_before,
        found.scoring_took.as_secs_f64() * 1e6 / (found.learnt_before + judged).max(1) as f64,
        found.learning_took.as_secs_f64() * 1e6 / found.learnt.max(1) as f64,
    )?;
    writeln!(
        text,
        "| target | model | AUC | GAUC | in sessions | in requests | log loss | Σp/Σy |\n\
         |---|---|---|---|---|---|---|---|"
    )?;
    let share = |value: Option<f64>| value.map(|v| format!("{v:.4}")).unwrap_or_default();
    for (target, target_name) in TARGET_NAMES.into_iter().enumerate() {
        for (model, (name, _)) in MODELS.into_iter().enumerate() {
            let verdict = found.verdict(model, target);
            let cells = [verdict.auc, verdict.gauc, verdict.session, verdict.request].map(share);
            writeln!(
                text,
                "| {target_name} | {name} | {} | {:.4} | {} |",
                cells.join(" | "),
                verdict.log_loss,
                share(verdict.calibration)
            )?;
        }
    }
    for (model, (name, _)) in MODELS.into_iter().enumerate() {
        writeln!(
            text,
            "\n{name}: expected over watched seconds {:.4}; Σp/Σy by surface: {}",
            found.seconds_ratio(model),
            surfaces(found, model)
        )?;
    }
    let cell = |gain: Option<Interval>| {
        gain.map(|g| format!("{:+.4} [{:+.4}, {:+.4}]", g.mean, g.low, g.high))
    };
    writeln!(
        text,
        "\nThe last model minus the first, with paired 95 % intervals (users resampled):\n"
    )?;
    writeln!(text, "| target | AUC | GAUC | in sessions | in requests |\n|---|---|---|---|---|")?;
    for (target, name) in TARGET_NAMES.into_iter().enumerate() {
        let gains = found.impressions[target].gains(MODELS.len() - 1, 0, seed);
        let requests = found.requests[target].gains(MODELS.len() - 1, 0, seed);
        let cells = [gains.auc, gains.gauc, gains.session_gauc, requests.session_gauc];
        let cells = cells.map(|gain| cell(gain).unwrap_or_default());
        writeln!(text, "| {name} | {} |", cells.join(" | "))?;
    }
    Ok(())
}

fn surfaces(found: &RankerEvaluation, model: usize) -> String {
    let one = |(surface, exposures): (&str, usize)| {
        let by_target = [0, 1].map(|target| {
            let ratio = calibration(found.pairs(model, target, Some(surface)));
            ratio.map(|r| format!("{r:.3}")).unwrap_or_else(|| "–".to_owned())
        });
        let name = if surface.is_empty() { "none" } else { surface };
        format!("{name} ({exposures}) {}", by_target.join(" and "))
    };
    found.surfaces().into_iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The report as JSON.
pub fn json(data: &str, found: &RankerEvaluation, seed: u64) -> Value {
    let interval = |gain: Option<Interval>| {
        gain.map_or(Value::Null, |g| json!({"mean": g.mean, "low": g.low, "high": g.high}))
    };
    let models = MODELS.iter().enumerate().map(|(model, (name, _))| {
        let targets = TARGET_NAMES.iter().enumerate().map(|(target, target_name)| {
            let verdict = found.verdict(model, target);
            let gains = found.impressions[target].gains(model, 0, seed);
            let surfaces = found.surfaces().into_iter().map(|(surface, exposures)| {
                let ratio = calibration(found.pairs(model, target, Some(surface)));
                json!({"surface": surface, "exposures": exposures, "calibration": ratio})
            });
            json!({
                "target": target_name,
                "auc": verdict.auc,
                "gauc": verdict.gauc,
                "session_gauc": verdict.session,
                "request_gauc": verdict.request,
                "log_loss": verdict.log_loss,
                "calibration": verdict.calibration,
                "surfaces": surfaces.collect::<Vec<_>>(),
                "auc_minus_first": interval(gains.auc),
                "request_gauc_minus_first":
                    interval(found.requests[target].gains(model, 0, seed).session_gauc),
            })
        });
        json!({
            "name": name,
            "targets": targets.collect::<Vec<_>>(),
            "seconds_ratio": found.seconds_ratio(model),
        })
    });
    json!({
        "data": data,
        "judged": found.tested.len(),
        "learnt_before": found.learnt_before,
        "models": models.collect::<Vec<_>>(),
    })
}
