//! By which version a worker makes a list.

use crate::event::{ModelControl, Phase, RolloutArm};
use crate::experiment::hash::bucket;
use crate::model::BasisVersion;

/// All users, in the parts in which shares are counted.
pub const ALL_USERS: i32 = 10_000;

/// What a decision means for requests, given what is loaded. A request asks it once and keeps to what
/// it said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// The decision's.
    pub epoch: i64,
    /// The candidate, where it is loaded.
    candidate: Option<BasisVersion>,
    phase: Phase,
    share: i32,
    salt: String,
}

/// Who answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The epoch of the decision.
    pub epoch: i64,
    /// The arm.
    pub arm: RolloutArm,
    /// The version; none for the one that serves.
    pub version: Option<BasisVersion>,
}

impl Routing {
    /// What a decision means here: a candidate that `is_ready` does not know serves nobody.
    pub fn new(control: &ModelControl, is_ready: impl Fn(BasisVersion) -> bool) -> Self {
        let candidate = BasisVersion::parse(&control.candidate);
        Self {
            epoch: control.epoch,
            candidate: candidate.filter(|version| is_ready(*version)),
            phase: control.phase,
            share: control.share,
            salt: control.salt.clone(),
        }
    }

    /// Who answers what a user asks, or a request of nobody in particular: `unit` is either's name.
    pub fn route(&self, unit: &str) -> Route {
        let chosen = match self.candidate {
            Some(candidate) if self.phase == Phase::Canary => {
                let share = f64::from(self.share) / f64::from(ALL_USERS);
                (bucket(&self.salt, unit) < share).then_some(candidate)
            }
            _ => None,
        };
        let arm = if chosen.is_some() { RolloutArm::Canary } else { RolloutArm::Champion };
        Route { epoch: self.epoch, arm, version: chosen }
    }

    /// Who makes a list that nobody sees, beside the answer.
    pub fn shadow(&self) -> Option<Route> {
        let version = self.candidate.filter(|_| self.phase == Phase::Shadow)?;
        Some(Route { epoch: self.epoch, arm: RolloutArm::Shadow, version: Some(version) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CANDIDATE: BasisVersion = BasisVersion(0xa2);

    fn control(phase: Phase, share: i32) -> ModelControl {
        let (candidate, salt) = (CANDIDATE.to_string(), "00000000000000a2@7".to_owned());
        ModelControl { epoch: 7, phase, candidate, share, salt, ..ModelControl::default() }
    }

    #[test]
    fn a_candidate_serves_its_share_and_only_where_it_is_loaded_and_on_trial() {
        let served = |phase, share, ready| {
            let routing = Routing::new(&control(phase, share), |_| ready);
            let chosen =
                (0..20_000).filter(|n| routing.route(&format!("u{n}")).version.is_some()).count();
            (chosen as f64 / 20_000.0, routing.shadow().is_some())
        };
        let (share, _) = served(Phase::Canary, 1_000, true);
        assert!((share - 0.1).abs() < 0.01, "{share}");
        assert_eq!(served(Phase::Canary, 1_000, false), (0.0, false));
        for phase in [Phase::Serving, Phase::Prepare, Phase::Unknown] {
            assert_eq!(served(phase, 1_000, true), (0.0, false));
        }
        assert_eq!(served(Phase::Shadow, 1_000, true), (0.0, true));
        assert_eq!(served(Phase::Shadow, 1_000, false), (0.0, false));
    }

    proptest! {
        #[test]
        fn who_is_in_stays_in_while_the_share_grows(user in "[a-z0-9]{1,12}", shares in prop::collection::vec(0..=ALL_USERS, 2..6)) {
            let mut shares = shares;
            shares.sort_unstable();
            let of = |share| Routing::new(&control(Phase::Canary, share), |_| true).route(&user);
            let arms: Vec<bool> = shares.into_iter().map(|share| of(share).version.is_some()).collect();
            prop_assert!(arms.is_sorted());
        }
    }
}
