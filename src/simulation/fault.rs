//! What goes wrong between people and the platform. Enters: a visit and an action of it. Leaves: what
//! the platform gets of it. People behave as ever: only what is told of them is wrong.

use crate::time::EventTime;

use super::behaviour::Action;
use super::world::Visit;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// The app on a kind of device sends clicks that nobody can read.
    BrokenClient {
        /// From this time of visits on.
        from: EventTime,
        /// `phone`, `tv`, `desktop` or `tablet`.
        device: &'static str,
    },
    /// Clicks and watches are lost on their way.
    DataLoss {
        /// From this time of visits on.
        from: EventTime,
        /// To before this one.
        until: EventTime,
    },
}

/// What becomes of an action on its way to the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives.
    Sent,
    /// It arrives damaged.
    Damaged,
    /// It does not arrive.
    Lost,
}

impl Fault {
    /// What it does to an action.
    pub fn fate(&self, visit: &Visit, action: &Action) -> Fate {
        match *self {
            Fault::BrokenClient { from, device } => {
                let is_click = matches!(action, Action::Click { .. });
                let is_hit = is_click && visit.device == device && visit.at >= from;
                if is_hit { Fate::Damaged } else { Fate::Sent }
            }
            Fault::DataLoss { from, until } => {
                if visit.at >= from && visit.at < until {
                    Fate::Lost
                } else {
                    Fate::Sent
                }
            }
        }
    }

    /// What all of them together do to an action: the worst that one of them does.
    pub fn fate_of_all(faults: &[Fault], visit: &Visit, action: &Action) -> Fate {
        let fates = faults.iter().map(|fault| fault.fate(visit, action));
        fates.max_by_key(|fate| *fate as u8).unwrap_or(Fate::Sent)
    }
}
