//! Scenarios: what happens to a world or to what is told of it, and what a closed loop ought to make
//! of that. Enters: a name and an event time. Leaves: [`Shift`]s, [`Fault`]s and the ground truth.

use std::fmt;
use std::str::FromStr;

use crate::time::{DAY_MS, EventTime, HOUR_MS};

use super::fault::Fault;
use super::shift::Shift;

/// Share of people who turn to other tastes, and by how many categories.
const TURNING: (f64, usize) = (0.8, 5);
/// How long a gradual shift takes.
const GRADUAL_MS: i64 = 2 * DAY_MS;
/// Share of what people find that goes with the creators who leave.
const LEAVING: f64 = 0.3;
/// What hour and weekday do to the log-odds of a click: half as many clicks at the worst hour as at
/// the best, a quarter more at weekends.
const SEASON: (f64, f64) = (0.4, 0.25);
/// How long clicks and watches are lost.
const LOSS_MS: i64 = 6 * HOUR_MS;
/// How long a flash crowd lasts, and by how much it multiplies sessions.
const CROWD: (i64, f64) = (HOUR_MS, 5.0);
/// The app that breaks: most people use it.
const BROKEN_DEVICE: &str = "phone";

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scenario {
    /// Most people turn to other categories at once.
    TasteShift,
    /// The same, over days.
    Gradual,
    /// The best-known creators take their items away.
    CreatorLeaves,
    /// Clicks from phones can no longer be read.
    BrokenClient,
    /// Somebody has a model tried whose vectors are scrambled.
    BadModel,
    /// A worker hardly gets to work.
    SlowWorker,
    /// Clicks and watches are lost for hours.
    DataLoss,
    /// Clicks follow hour and weekday, and nothing changes.
    SeasonalOnly,
    /// Five times the traffic, for one item, for an hour.
    FlashCrowd,
}

/// What a loop may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A new model.
    Retrain,
    /// The model before.
    Rollback,
    /// People to look.
    Investigate,
}

impl Asked {
    /// As triggers say it.
    pub fn name(self) -> &'static str {
        match self {
            Asked::Retrain => "RETRAIN",
            Asked::Rollback => "ROLLBACK",
            Asked::Investigate => "INVESTIGATE",
        }
    }
}

/// What happens, when, and what ought to come of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    /// Which scenario.
    pub scenario: Scenario,
    /// When it begins.
    pub at: EventTime,
    /// When it is over; none where it stays.
    pub until: Option<EventTime>,
}

/// What a scenario does.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// To the world.
    pub shifts: Vec<Shift>,
    /// To what is told of it.
    pub faults: Vec<Fault>,
    /// For whoever judges.
    pub truth: Truth,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Scenario; 9] = [
        Scenario::TasteShift,
        Scenario::Gradual,
        Scenario::CreatorLeaves,
        Scenario::BrokenClient,
        Scenario::BadModel,
        Scenario::SlowWorker,
        Scenario::DataLoss,
        Scenario::SeasonalOnly,
        Scenario::FlashCrowd,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Scenario::TasteShift => "taste-shift",
            Scenario::Gradual => "gradual",
            Scenario::CreatorLeaves => "creator-leaves",
            Scenario::BrokenClient => "broken-client",
            Scenario::BadModel => "bad-model",
            Scenario::SlowWorker => "slow-worker",
            Scenario::DataLoss => "data-loss",
            Scenario::SeasonalOnly => "seasonal-only",
            Scenario::FlashCrowd => "flash-crowd",
        }
    }

    /// What happens, for people.
    pub fn about(self) -> &'static str {
        match self {
            Scenario::TasteShift => "80 % of people turn to other categories, at once",
            Scenario::Gradual => "the same, one after another over two days",
            Scenario::CreatorLeaves => "the best-known creators leave with 30 % of what is found",
            Scenario::BrokenClient => "clicks from phones can no longer be read",
            Scenario::BadModel => "a model with scrambled vectors is tried (by whoever runs this)",
            Scenario::SlowWorker => "a worker hardly gets to work (by whoever runs this)",
            Scenario::DataLoss => "clicks and watches are lost for 6 hours",
            Scenario::SeasonalOnly => {
                "from the beginning clicks follow hour and weekday, and nothing changes"
            }
            Scenario::FlashCrowd => "5 times the sessions for an hour, for one item",
        }
    }

    /// What has to be asked for; none where nothing has to.
    pub fn wanted(self) -> Option<Asked> {
        match self {
            Scenario::TasteShift | Scenario::Gradual => Some(Asked::Retrain),
            Scenario::BrokenClient | Scenario::DataLoss => Some(Asked::Investigate),
            Scenario::BadModel => Some(Asked::Rollback),
            _ => None,
        }
    }

    /// Whether asking for this once it has begun is no false alarm. Creators who leave make lists
    /// worse, and people may be told of a worker that is slow and of a model that is bad.
    pub fn allows(self, asked: Asked) -> bool {
        self.wanted() == Some(asked)
            || match self {
                Scenario::CreatorLeaves => asked == Asked::Retrain,
                Scenario::SlowWorker | Scenario::BadModel => asked == Asked::Investigate,
                _ => false,
            }
    }

    /// What it does in a world that begins at `start`, where it is to happen at `at`.
    pub fn plan(self, start: EventTime, at: EventTime) -> Plan {
        let (share, by) = TURNING;
        let mut plan = Plan {
            shifts: Vec::new(),
            faults: Vec::new(),
            truth: Truth { scenario: self, at, until: None },
        };
        match self {
            Scenario::TasteShift => plan.shifts.push(Shift::TasteShift { at, share, by }),
            Scenario::Gradual => {
                let until = at.plus_millis(GRADUAL_MS);
                plan.shifts.push(Shift::TasteDrift { from: at, until, share, by });
            }
            Scenario::CreatorLeaves => {
                plan.shifts.push(Shift::CreatorsLeave { at, share: LEAVING });
            }
            Scenario::BrokenClient => {
                plan.faults.push(Fault::BrokenClient { from: at, device: BROKEN_DEVICE });
            }
            Scenario::DataLoss => {
                let until = at.plus_millis(LOSS_MS);
                plan.faults.push(Fault::DataLoss { from: at, until });
                plan.truth.until = Some(until);
            }
            Scenario::SeasonalOnly => {
                let (daily, weekly) = SEASON;
                plan.shifts.push(Shift::Season { at: start, daily, weekly });
                plan.truth.at = start;
            }
            Scenario::FlashCrowd => {
                let (length, times) = CROWD;
                let until = at.plus_millis(length);
                plan.shifts.push(Shift::Crowd { from: at, until, times });
                plan.truth.until = Some(until);
            }
            // What happens here happens to the platform.
            Scenario::BadModel | Scenario::SlowWorker => {}
        }
        plan
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Scenario::ALL.into_iter().find(|scenario| scenario.name() == text);
        found.ok_or_else(|| {
            let names: Vec<&str> = Scenario::ALL.iter().map(|scenario| scenario.name()).collect();
            format!("{text:?} is no scenario: {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ItemId;
    use crate::simulation::{Action, Fate, Intent, Visit, World, WorldConfig};
    use crate::time::MINUTE_MS;

    const SHOWN: usize = 10;

    fn world(scenario: Scenario, days: f64) -> (World, Plan) {
        let config =
            WorldConfig { users: 300, items: 600, creators: 60, days: 5, ..WorldConfig::default() };
        let at = config.start.plus_millis((days * DAY_MS as f64) as i64);
        let plan = scenario.plan(config.start, at);
        let mut world = World::new(config).unwrap();
        plan.shifts.iter().for_each(|shift| world.apply(*shift));
        (world, plan)
    }

    /// Lets people come and be shown nothing, until a time.
    fn pass(world: &mut World, until: EventTime) {
        while world.now() < until && world.next_visit().is_some() {}
    }

    /// What lists that were best at their time would get now, and what the best lists of now would.
    fn rates(world: &World, lists: &[(crate::ids::UserId, Vec<ItemId>)]) -> (f64, f64) {
        let at = world.now();
        let (mut old, mut best) = (0.0, 0.0);
        for (user, list) in lists {
            old += world.expected_click_rate(user, list, at).unwrap();
            let now = world.best_items(user, SHOWN, at);
            best += world.expected_click_rate(user, &now, at).unwrap();
        }
        (old / lists.len() as f64, best / lists.len() as f64)
    }

    fn best_lists(world: &World) -> Vec<(crate::ids::UserId, Vec<ItemId>)> {
        let at = world.now();
        let list = |user: &crate::ids::UserId| (user.clone(), world.best_items(user, SHOWN, at));
        world.people().iter().map(|person| list(&person.id)).collect()
    }

    /// Clicks that lists made a minute before would get, and the best there are: before and after a
    /// scenario of noon on the second day, looked at a given time later.
    fn around(scenario: Scenario, after_ms: i64) -> [(f64, f64); 2] {
        let (mut world, plan) = world(scenario, 1.5);
        pass(&mut world, plan.truth.at.plus_millis(-MINUTE_MS));
        let lists = best_lists(&world);
        let before = rates(&world, &lists);
        pass(&mut world, plan.truth.at.plus_millis(after_ms));
        [before, rates(&world, &lists)]
    }

    #[test]
    fn a_taste_shift_leaves_as_much_to_be_found_and_makes_old_lists_worse_by_half() {
        let [before, after] = around(Scenario::TasteShift, MINUTE_MS);
        assert!((before.0 - before.1).abs() < 1e-9, "{before:?}");
        assert!((after.1 / before.1 - 1.0).abs() < 0.1, "{before:?} {after:?}");
        assert!(after.0 < 0.5 * after.1, "{before:?} {after:?}");
    }

    #[test]
    fn a_gradual_shift_is_half_way_after_half_of_its_time() {
        let at_once = around(Scenario::TasteShift, MINUTE_MS)[1].0;
        let [before, half] = around(Scenario::Gradual, GRADUAL_MS / 2);
        let done = around(Scenario::Gradual, GRADUAL_MS + HOUR_MS)[1].0;
        let middle = (before.0 + at_once) / 2.0;
        assert!((half.0 / middle - 1.0).abs() < 0.1, "{before:?} {half:?} {at_once}");
        assert!((done / at_once - 1.0).abs() < 0.1, "{done} {at_once}");
    }

    #[test]
    fn when_creators_leave_their_items_are_neither_found_nor_clicked_and_the_best_is_less() {
        let [before, after] = around(Scenario::CreatorLeaves, MINUTE_MS);
        assert!(after.1 < 0.98 * before.1 && after.0 < 0.9 * after.1, "{before:?} {after:?}");
        let (mut world, _) = world(Scenario::CreatorLeaves, 1.5);
        let all: Vec<ItemId> = world.items().iter().map(|item| item.id.clone()).collect();
        while let Some(visit) = world.next_visit() {
            let response = match visit.intent {
                Intent::Search => world.organic(&visit),
                Intent::Feed => world.respond(&visit, &all[..200], visit.at),
            };
            for action in &response.actions {
                let gone = world.item(action.item()).unwrap().withdrawn;
                assert!(gone.is_none_or(|gone| visit.at < gone));
            }
        }
        let known = world.items().iter().map(|item| item.popularity).sum::<f64>();
        let gone = world.items().iter().filter(|item| item.withdrawn.is_some());
        let gone = gone.map(|item| item.popularity).sum::<f64>() / known;
        assert!((LEAVING..LEAVING + 0.2).contains(&gone), "{gone}");
    }

    #[test]
    fn a_season_moves_clicks_with_the_hour_and_lists_stay_as_good() {
        let (mut world, plan) = world(Scenario::SeasonalOnly, 2.0);
        let start = plan.truth.at;
        assert_eq!(start, world.config().start);
        pass(&mut world, start.plus_millis(DAY_MS + 6 * HOUR_MS));
        let lists = best_lists(&world);
        let morning = rates(&world, &lists);
        pass(&mut world, start.plus_millis(DAY_MS + 18 * HOUR_MS));
        let evening = rates(&world, &lists);
        assert!(evening.1 > 1.2 * morning.1, "{morning:?} {evening:?}");
        assert!(evening.0 > 0.9 * evening.1, "{evening:?}");
        // The world begins on a Monday.
        pass(&mut world, start.plus_millis(4 * DAY_MS + 18 * HOUR_MS));
        let friday = rates(&world, &lists);
        assert!((friday.0 / evening.0 - 1.0).abs() < 0.05, "{friday:?} {evening:?}");
    }

    fn visits(scenario: Scenario) -> (Vec<Visit>, World, Plan) {
        let (mut world, plan) = world(scenario, 1.5);
        let mut visits = Vec::new();
        while let Some(visit) = world.next_visit() {
            visits.push(visit);
        }
        (visits, world, plan)
    }

    #[test]
    fn a_crowd_multiplies_sessions_for_an_hour_and_looks_for_one_item() {
        let (calm, ..) = visits(Scenario::SlowWorker);
        let (mut world, plan) = world(Scenario::FlashCrowd, 1.5);
        let until = plan.truth.until.unwrap();
        let in_hour = |at: EventTime| at >= plan.truth.at && at < until;
        let usual = calm.iter().filter(|visit| in_hour(visit.at)).count();
        let (mut came, mut found) = (0, std::collections::HashMap::new());
        let mut sessions = std::collections::HashSet::new();
        while let Some(visit) = world.next_visit() {
            let is_new = visit.page == 0;
            assert!(!is_new || sessions.insert(visit.session.clone()), "{}", visit.session);
            came += usize::from(in_hour(visit.at));
            if in_hour(visit.at) && visit.intent == Intent::Search {
                for action in world.organic(&visit).actions {
                    *found.entry(action.item().clone()).or_insert(0) += 1;
                }
            }
        }
        assert!((3..7).contains(&(came / usual)), "{came} instead of {usual}");
        let most = found.values().max().unwrap();
        let all: i32 = found.values().sum();
        assert!(3 * most > all, "{most} of {all}");
    }

    #[test]
    fn the_same_people_come_whatever_happens_to_the_platform() {
        let names = |scenario| {
            let (visits, ..) = visits(scenario);
            visits.into_iter().map(|visit| (visit.session, visit.at)).collect::<Vec<_>>()
        };
        let calm = names(Scenario::SlowWorker);
        assert!(calm.len() > 500);
        for scenario in [Scenario::BrokenClient, Scenario::DataLoss, Scenario::TasteShift] {
            assert!(names(scenario) == calm, "{scenario}");
        }
    }

    #[test]
    fn a_broken_client_damages_its_own_clicks_and_a_loss_ends() {
        for scenario in [Scenario::BrokenClient, Scenario::DataLoss] {
            let (mut world, plan) = world(scenario, 1.5);
            let mut fates = std::collections::BTreeMap::new();
            while let Some(visit) = world.next_visit() {
                let list = world.best_items(&visit.user, SHOWN, visit.at);
                for action in &world.respond(&visit, &list, visit.at).actions {
                    let fate = Fault::fate_of_all(&plan.faults, &visit, action);
                    let is_on = visit.at >= plan.truth.at
                        && plan.truth.until.is_none_or(|until| visit.at < until);
                    let is_click = matches!(action, Action::Click { .. });
                    let name = format!("{is_on} {} {is_click} {fate:?}", visit.device == "phone");
                    *fates.entry(name).or_insert(0) += 1;
                }
            }
            let hit = match scenario {
                Scenario::BrokenClient => "true true true Damaged",
                _ => "true true true Lost",
            };
            assert!(fates[hit] > 100, "{fates:?}");
            let untouched = |name: &String| name.starts_with("false") && !name.ends_with("Sent");
            assert!(!fates.keys().any(untouched), "{fates:?}");
            let of_others = fates.keys().any(|name| name.starts_with("true false true Damaged"));
            assert!(!of_others, "{fates:?}");
        }
        let (mut world, _) = world(Scenario::BrokenClient, 0.0);
        let visit = world.next_visit().unwrap();
        let response = world.organic(&visit);
        let action = response.actions.first().unwrap();
        assert_eq!(Fault::fate_of_all(&[], &visit, action), Fate::Sent);
    }

    #[test]
    fn each_scenario_is_found_by_its_name_and_what_is_wanted_is_allowed() {
        for scenario in Scenario::ALL {
            assert_eq!(scenario.name().parse(), Ok(scenario));
            assert!(scenario.wanted().is_none_or(|asked| scenario.allows(asked)));
            let mends = scenario.wanted() == Some(Asked::Retrain);
            assert!(
                mends || scenario == Scenario::CreatorLeaves || !scenario.allows(Asked::Retrain)
            );
        }
        assert!("tastes".parse::<Scenario>().unwrap_err().contains("flash-crowd"));
    }
}
