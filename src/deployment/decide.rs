//! What is decided next on a candidate: a function of the last decision, of what workers say, and of what
//! came of lists.
//!
//! PREPARE → SHADOW → CANARY by steps → it serves; or at any of them back to the champion alone. A
//! decision is the next epoch, whole; who carries it out may die before or after.

use crate::event::{CandidateState, ModelAck, ModelControl, Phase, RolloutArm, ServedBy};
use crate::experiment::sequential::{Comparison, Rule};

use super::fleet::{Fleet, quantile_bin};
use super::outcomes::{GUARDED, Outcomes};
use super::routing::ALL_USERS;

/// Probability with which arms that are as they should be are ever found not to be.
const MISMATCH: f64 = 0.001;
/// Users at which a mismatch is found soonest.
const MISMATCH_TUNING: f64 = 1_000.0;
/// Users that an arm would have by its share, at least, to be looked at.
const LEAST_EXPECTED: f64 = 10.0;
/// Requests of each arm from which its median time is compared, and from which its slowest hundredth is.
const MEDIAN_REQUESTS: i64 = 100;
const P99_REQUESTS: i64 = 1_000;
/// Requests from which failures are a share.
const FAILURE_REQUESTS: i64 = 50;
/// Workers that have to refuse a version before it must never serve.
const REFUSALS: usize = 2;

/// How a candidate is tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Fewest workers that must be there.
    pub min_workers: usize,
    /// Milliseconds that loading may take.
    pub prepare_ms: u64,
    /// Lists that nobody sees, before anybody sees one.
    pub shadow_requests: i64,
    /// Of 10,000 users, how many in each step.
    pub steps: Vec<i32>,
    /// Minutes of event time of a step, at least.
    pub step_minutes: i64,
    /// Items that the candidate's lists have to show in a step.
    pub step_impressions: i64,
    /// Minutes of event time after which a phase that has not what it needs is given up.
    pub patience_minutes: i64,
    /// Relative loss of a guarded metric that counts as none.
    pub margin: f64,
    /// Probability that a step turns a candidate down though it is no worse than that.
    pub alpha: f64,
    /// Lists at which intervals are narrowest.
    pub tuning: f64,
    /// How many times slower lists may be.
    pub max_slowdown: f64,
    /// How much larger the share of failed or empty lists may be.
    pub max_failures: f64,
}

/// All that is known at a moment.
pub struct View<'a> {
    /// The last decision.
    pub control: &'a ModelControl,
    /// What workers say.
    pub fleet: &'a Fleet,
    /// What came of lists in this step.
    pub outcomes: &'a Outcomes,
    /// Milliseconds now, by the clock of `fleet`.
    pub now_ms: u64,
    /// Milliseconds since this decision was first seen.
    pub waited_ms: u64,
    /// Whether the candidate's bytes were sent again already.
    pub is_sent_again: bool,
    /// Why somebody asks for the version that served before, and of which version.
    pub rollback: Option<&'a (String, String)>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Nothing, and why.
    Wait(String),
    /// Send the candidate's bytes once more.
    SendAgain,
    /// This, as the next epoch.
    Next(Box<ModelControl>),
}

/// Decides.
pub fn decide(view: &View<'_>, plan: &Plan) -> Decision {
    let control = view.control;
    if let Some((version, why)) = view.rollback
        && let Some(next) = roll_back(control, version, why)
    {
        return Decision::Next(Box::new(next));
    }
    if control.candidate.is_empty() {
        return Decision::Wait("no candidate".into());
    }
    match judge(view, plan) {
        Verdict::Reject { why, for_good } => {
            Decision::Next(Box::new(reject(control, why, for_good)))
        }
        Verdict::SendAgain => Decision::SendAgain,
        Verdict::Wait(why) => Decision::Wait(why),
        Verdict::Pass(why) if control.frozen => Decision::Wait(format!("frozen; else: {why}")),
        Verdict::Pass(why) => Decision::Next(Box::new(advance(view, plan, why))),
    }
}

/// A decision by which a version is to be tried.
pub fn begin(control: &ModelControl, version: &str) -> ModelControl {
    ModelControl {
        phase: Phase::Prepare,
        candidate: version.to_owned(),
        share: 0,
        // The epoch too, so that one that is tried again meets other users.
        salt: format!("{version}@{}", control.epoch + 1),
        since: 0,
        ..control.clone()
    }
}

/// A decision by which a version serves alone.
pub fn promote(control: &ModelControl, version: &str) -> ModelControl {
    let previous = if control.champion == version { &control.previous } else { &control.champion };
    ModelControl { previous: previous.clone(), champion: version.to_owned(), ..alone(control) }
}

/// A decision by which the candidate is turned down; `for_good`, so that it never serves.
pub fn reject(control: &ModelControl, why: String, for_good: bool) -> ModelControl {
    let rejected = control.candidate.clone();
    ModelControl { rejected, quarantine: for_good, reason: why, ..alone(control) }
}

/// A decision by which a version that serves, or is tried, does so no longer; none where it does not.
pub fn roll_back(control: &ModelControl, version: &str, why: &str) -> Option<ModelControl> {
    if version.is_empty() {
        return None;
    }
    if control.candidate == version {
        return Some(reject(control, why.to_owned(), true));
    }
    (control.champion == version && !control.previous.is_empty()).then(|| ModelControl {
        champion: control.previous.clone(),
        previous: String::new(),
        rejected: version.to_owned(),
        quarantine: true,
        reason: why.to_owned(),
        ..alone(control)
    })
}

/// The champion without a candidate.
fn alone(control: &ModelControl) -> ModelControl {
    ModelControl {
        phase: Phase::Serving,
        candidate: String::new(),
        share: 0,
        salt: String::new(),
        since: 0,
        begun_at: 0,
        rejected: String::new(),
        quarantine: false,
        ..control.clone()
    }
}

enum Verdict {
    Wait(String),
    SendAgain,
    Pass(String),
    Reject { why: String, for_good: bool },
}

fn judge(view: &View<'_>, plan: &Plan) -> Verdict {
    if let Some(verdict) = refused(view) {
        return verdict;
    }
    match view.control.phase {
        Phase::Prepare => prepare(view, plan),
        Phase::Shadow => shadow(view, plan),
        Phase::Canary => canary(view, plan),
        Phase::Serving | Phase::Unknown => {
            Verdict::Wait(format!("a candidate in phase {}", view.control.phase.name()))
        }
    }
}

/// Those who follow the decision and live.
fn followers<'a>(view: &'a View<'_>) -> impl Iterator<Item = &'a ModelAck> {
    let epoch = view.control.epoch;
    view.fleet.leased(view.now_ms).filter(move |ack| ack.epoch == epoch)
}

/// Where workers cannot load the candidate.
fn refused(view: &View<'_>) -> Option<Verdict> {
    let failed: Vec<&ModelAck> =
        followers(view).filter(|ack| ack.state == CandidateState::Failed).collect();
    if !failed.is_empty() && !view.is_sent_again {
        return Some(Verdict::SendAgain);
    }
    let twice: Vec<_> = failed.into_iter().filter(|ack| ack.attempts > 1).collect();
    let all = view.fleet.leased(view.now_ms).count();
    // Of one among several the fault may be that worker's.
    let first = twice.first().filter(|_| twice.len() >= REFUSALS.min(all))?;
    let why = format!("{} of {all} workers cannot load it: {}", twice.len(), first.error);
    Some(Verdict::Reject { why, for_good: true })
}

/// Whether all who live have loaded it; else how many have.
fn gate(view: &View<'_>, plan: &Plan) -> Result<(), String> {
    let all = view.fleet.leased(view.now_ms).count();
    let ready = followers(view).filter(|ack| ack.state == CandidateState::Loaded).count();
    if all < plan.min_workers.max(1) {
        return Err(format!("{all} workers are there, {} are needed", plan.min_workers.max(1)));
    }
    if ready < all {
        return Err(format!("{ready} of {all} workers have loaded it"));
    }
    Ok(())
}

fn prepare(view: &View<'_>, plan: &Plan) -> Verdict {
    match gate(view, plan) {
        Ok(()) => Verdict::Pass("every worker has loaded it".into()),
        Err(why) if view.waited_ms >= plan.prepare_ms => {
            Verdict::Reject { why: format!("{why} in time"), for_good: false }
        }
        Err(why) => Verdict::Wait(why),
    }
}

/// Whether a phase has lasted for longer, in event time, than it may without what it needs.
fn is_over(view: &View<'_>, plan: &Plan) -> bool {
    let since = view.control.since;
    let lasted = view.fleet.event_time().max(since) - since;
    since > 0 && lasted > plan.patience_minutes * crate::time::MINUTE_MS
}

fn missing(view: &View<'_>, plan: &Plan, why: String) -> Verdict {
    if is_over(view, plan) {
        let patience = plan.patience_minutes;
        let why = format!("{why} after {patience} minutes: what is not known is a failure");
        return Verdict::Reject { why, for_good: false };
    }
    Verdict::Wait(why)
}

fn shadow(view: &View<'_>, plan: &Plan) -> Verdict {
    let served = view.fleet.served(view.control.epoch);
    let (shadow, champion) = (served.get(&RolloutArm::Shadow), served.get(&RolloutArm::Champion));
    let empty = ServedBy::default();
    let (shadow, champion) = (shadow.unwrap_or(&empty), champion.unwrap_or(&empty));
    if let Some(why) = misbehaves(shadow, champion, plan) {
        return Verdict::Reject { why, for_good: true };
    }
    // Fewer could not have been found to be slow.
    let needs = plan.shadow_requests.max(MEDIAN_REQUESTS);
    let has = shadow.requests.min(champion.requests);
    if has < needs {
        return missing(view, plan, format!("{has} of {needs} lists that nobody sees"));
    }
    match gate(view, plan) {
        Ok(()) => Verdict::Pass(format!(
            "{} lists that nobody saw: none worse made, {} of {} items as answered",
            shadow.requests, shadow.overlap_items, shadow.items
        )),
        Err(why) => missing(view, plan, why),
    }
}

/// What is wrong with how lists are made, whatever comes of them.
fn misbehaves(candidate: &ServedBy, champion: &ServedBy, plan: &Plan) -> Option<String> {
    let share = |count: i64, of: &ServedBy| count as f64 / of.requests.max(1) as f64;
    if candidate.requests >= FAILURE_REQUESTS && champion.requests > 0 {
        for (what, ours, theirs) in [
            ("fail", candidate.failures, champion.failures),
            ("are empty", candidate.empty_lists, champion.empty_lists),
        ] {
            let (ours, theirs) = (share(ours, candidate), share(theirs, champion));
            if ours > theirs + plan.max_failures {
                let (ours, theirs) = (100.0 * ours, 100.0 * theirs);
                return Some(format!("{ours:.1} % of its lists {what}, {theirs:.1} % of the rest"));
            }
        }
    }
    for (what, quantile, least) in [("half", 0.5, MEDIAN_REQUESTS), ("99 %", 0.99, P99_REQUESTS)] {
        if candidate.requests < least || champion.requests < least {
            continue;
        }
        let bins = quantile_bin(&candidate.latency, quantile)
            .zip(quantile_bin(&champion.latency, quantile));
        // Bins are half octaves.
        if let Some((ours, theirs)) = bins
            && 2f64.powf((ours as f64 - theirs as f64) / 2.0) > plan.max_slowdown
        {
            let micros = |bin: usize| 2f64.powf((bin + 1) as f64 / 2.0);
            return Some(format!(
                "{what} of its lists take up to {:.0} µs, of the rest {:.0} µs",
                micros(ours),
                micros(theirs)
            ));
        }
    }
    None
}

fn canary(view: &View<'_>, plan: &Plan) -> Verdict {
    let served = view.fleet.served(view.control.epoch);
    let empty = ServedBy::default();
    let candidate = served.get(&RolloutArm::Canary).unwrap_or(&empty);
    let champion = served.get(&RolloutArm::Champion).unwrap_or(&empty);
    if let Some(why) = misbehaves(candidate, champion, plan) {
        return Verdict::Reject { why, for_good: true };
    }
    let share = f64::from(view.control.share) / f64::from(ALL_USERS);
    let users = candidate.users + champion.users;
    if is_mismatch(candidate.users, users, share) {
        let (has, share) = (candidate.users, 100.0 * share);
        let why = format!(
            "{has} users of {users} got it, where {share:.1} % should: what is compared is not alike"
        );
        return Verdict::Reject { why, for_good: false };
    }
    let checks = (plan.steps.len().max(1) * GUARDED.len()) as f64;
    let rule = Rule { alpha: plan.alpha / checks, tuning: plan.tuning };
    let compared = view.outcomes.compare(rule);
    for (name, comparison) in &compared {
        if let Some(known) = comparison
            && known.upper < -plan.margin
        {
            let why = format!("{name}: {}", told(known));
            return Verdict::Reject { why, for_good: true };
        }
    }
    let (minutes, shown) = (view.outcomes.minutes(), view.outcomes.impressions());
    if minutes < plan.step_minutes || shown < plan.step_impressions {
        let why = format!(
            "{minutes} of {} minutes, {shown} of {} items shown",
            plan.step_minutes, plan.step_impressions
        );
        return missing(view, plan, why);
    }
    if let Err(why) = gate(view, plan) {
        return missing(view, plan, why);
    }
    let is_last = plan.steps.iter().all(|step| *step <= view.control.share);
    for (name, comparison) in &compared {
        match comparison {
            _ if !is_last => {}
            Some(known) if known.lower > -plan.margin => {}
            Some(known) => return missing(view, plan, format!("{name}: {}", told(known))),
            None => return missing(view, plan, format!("{name}: too little is known")),
        }
    }
    let click_rate = compared.iter().find_map(|(_, comparison)| comparison.as_ref()).map(told);
    Verdict::Pass(match click_rate {
        Some(told) => format!("{:.0} % of users: click rate {told}", 100.0 * share),
        None => format!("{:.0} % of users: nothing against it", 100.0 * share),
    })
}

/// Whether so many of so many users cannot be by chance, at any number of looks: the normal mixture over
/// independent users, each in the arm with probability `share` (Robbins 1970).
fn is_mismatch(has: i64, of: i64, share: f64) -> bool {
    let (has, of) = (has as f64, of as f64);
    let distance = has - share * of;
    let variance = share * (1.0 - share);
    let evidence = distance * distance / (2.0 * variance * (of + MISMATCH_TUNING))
        + (MISMATCH_TUNING / (of + MISMATCH_TUNING)).ln() / 2.0;
    // Few users in the smaller arm are not normal yet.
    of * share.min(1.0 - share) >= LEAST_EXPECTED && evidence >= -MISMATCH.ln()
}

fn told(known: &Comparison) -> String {
    format!(
        "{:.4} next to {:.4}, {:+.1} % [{:+.1}, {:+.1}]",
        known.treatment,
        known.control,
        100.0 * known.uplift,
        100.0 * known.lower,
        100.0 * known.upper
    )
}

fn advance(view: &View<'_>, plan: &Plan, why: String) -> ModelControl {
    let control = view.control;
    let next_share = plan.steps.iter().copied().filter(|step| *step > control.share).min();
    // The minute after what is known: lists of before were made by another split.
    let minute = crate::time::MINUTE_MS;
    let since = match view.fleet.event_time() {
        0 => 0,
        newest => (newest.div_euclid(minute) + 1) * minute,
    };
    let next = match (control.phase, next_share) {
        (Phase::Prepare, _) => {
            ModelControl { phase: Phase::Shadow, share: 0, since, ..control.clone() }
        }
        (_, Some(share)) => ModelControl { phase: Phase::Canary, share, since, ..control.clone() },
        (_, None) => promote(control, &control.candidate),
    };
    ModelControl { reason: why, ..next }
}
