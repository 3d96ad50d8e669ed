//! Streaming detectors by name: one value in, a verdict out.
//!
//! Known by the names that River and MOA use, and conformant with River 0.26: on the same streams
//! they tell the same positions (`tests/data/drift/`). After drift each begins anew, but for
//! [`adwin::AfterDrift::Shrink`] and `kswin`. They know no season: what has one is for
//! [`seasonal`](super::seasonal).

pub mod adwin;
pub mod ddm;
pub mod eddm;
pub mod hddm_a;
pub mod hddm_w;
pub mod kswin;
mod mean;
pub mod page_hinkley;

use serde::{Deserialize, Serialize};

use adwin::Adwin;
use ddm::Ddm;
use eddm::Eddm;
use hddm_a::HddmA;
use hddm_w::HddmW;
use kswin::Kswin;
use page_hinkley::PageHinkley;

/// What a detector says of the newest value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing has changed that could be told from chance.
    Stable,
    /// Something may have changed. Only `ddm`, `eddm` and `hddm_*` say so.
    Warning,
    /// Something has changed.
    Drift,
}

/// A parameter that is out of its range, or a name that no detector has.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refused {
    /// Out of range.
    #[error("{detector}: {parameter} is {value}, and must be {rule}")]
    Parameter {
        /// The detector's name.
        detector: &'static str,
        /// The parameter's name.
        parameter: &'static str,
        /// What it was set to.
        value: f64,
        /// What is allowed.
        rule: &'static str,
    },
    /// No such detector.
    #[error("there is no detector \"{0}\"; take one of: {known}", known = NAMES.join(", "))]
    Name(String),
}

/// A value that a detector cannot take. Its state is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{detector} takes {domain}, not {value}")]
pub struct BadValue {
    detector: &'static str,
    domain: &'static str,
    value: f64,
}

/// Checks the parameters of the detector of this name.
struct Rule(&'static str);

impl Rule {
    fn check(
        &self,
        parameter: &'static str,
        value: f64,
        holds: bool,
        rule: &'static str,
    ) -> Result<(), Refused> {
        let refused = Refused::Parameter { detector: self.0, parameter, value, rule };
        if holds { Ok(()) } else { Err(refused) }
    }

    fn probability(&self, name: &'static str, value: f64) -> Result<(), Refused> {
        self.check(name, value, value > 0.0 && value < 1.0, "above 0 and below 1")
    }

    fn share(&self, name: &'static str, value: f64) -> Result<(), Refused> {
        self.check(name, value, value > 0.0 && value <= 1.0, "above 0 and at most 1")
    }

    fn positive(&self, name: &'static str, value: f64) -> Result<(), Refused> {
        self.check(name, value, value > 0.0 && value.is_finite(), "above 0 and finite")
    }

    fn not_negative(&self, name: &'static str, value: f64) -> Result<(), Refused> {
        self.check(name, value, value >= 0.0 && value.is_finite(), "at least 0 and finite")
    }

    fn at_least(&self, name: &'static str, value: u32, least: u32) -> Result<(), Refused> {
        let rule = if least == 1 { "at least 1" } else { "at least 2" };
        self.check(name, f64::from(value), value >= least, rule)
    }
}

/// A detector by name, with its parameters: `{ name = "adwin", delta = 0.001 }` in a configuration.
/// What is left out has the default of River.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Parameters {
    /// Adaptive windowing.
    Adwin(adwin::Parameters),
    /// Page–Hinkley.
    PageHinkley(page_hinkley::Parameters),
    /// Drift detection method.
    Ddm(ddm::Parameters),
    /// Early drift detection method.
    Eddm(eddm::Parameters),
    /// Hoeffding bounds on averages.
    HddmA(hddm_a::Parameters),
    /// Hoeffding bounds on weighted averages.
    HddmW(hddm_w::Parameters),
    /// Kolmogorov–Smirnov windowing.
    Kswin(kswin::Parameters),
}

/// Names of all detectors.
pub const NAMES: [&str; 7] = ["adwin", "page_hinkley", "ddm", "eddm", "hddm_a", "hddm_w", "kswin"];

impl Parameters {
    /// The defaults of the detector of this name. Refuses a name that is not in [`NAMES`].
    pub fn by_name(name: &str) -> Result<Self, Refused> {
        Ok(match name {
            "adwin" => Self::Adwin(Default::default()),
            "page_hinkley" => Self::PageHinkley(Default::default()),
            "ddm" => Self::Ddm(Default::default()),
            "eddm" => Self::Eddm(Default::default()),
            "hddm_a" => Self::HddmA(Default::default()),
            "hddm_w" => Self::HddmW(Default::default()),
            "kswin" => Self::Kswin(Default::default()),
            _ => return Err(Refused::Name(name.to_owned())),
        })
    }

    /// The detector's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Adwin(_) => "adwin",
            Self::PageHinkley(_) => "page_hinkley",
            Self::Ddm(_) => "ddm",
            Self::Eddm(_) => "eddm",
            Self::HddmA(_) => "hddm_a",
            Self::HddmW(_) => "hddm_w",
            Self::Kswin(_) => "kswin",
        }
    }
}

/// A detector and all that it knows. Written and read back, it goes on with the same verdicts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Detector {
    /// Adaptive windowing.
    Adwin(Adwin),
    /// Page–Hinkley.
    PageHinkley(PageHinkley),
    /// Drift detection method.
    Ddm(Ddm),
    /// Early drift detection method.
    Eddm(Eddm),
    /// Hoeffding bounds on averages.
    HddmA(HddmA),
    /// Hoeffding bounds on weighted averages.
    HddmW(HddmW),
    /// Kolmogorov–Smirnov windowing.
    Kswin(Kswin),
}

impl Detector {
    /// One that has seen nothing. Refuses parameters out of range.
    pub fn new(parameters: &Parameters) -> Result<Self, Refused> {
        Ok(match parameters {
            Parameters::Adwin(own) => Self::Adwin(Adwin::new(own)?),
            Parameters::PageHinkley(own) => Self::PageHinkley(PageHinkley::new(own)?),
            Parameters::Ddm(own) => Self::Ddm(Ddm::new(own)?),
            Parameters::Eddm(own) => Self::Eddm(Eddm::new(own)?),
            Parameters::HddmA(own) => Self::HddmA(HddmA::new(own)?),
            Parameters::HddmW(own) => Self::HddmW(HddmW::new(own)?),
            Parameters::Kswin(own) => Self::Kswin(Kswin::new(own)?),
        })
    }

    /// Takes in the next value: any finite one for `adwin`, `page_hinkley` and `kswin`, one in
    /// [0, 1] for `ddm` and `hddm_*` (an error, a click), 0 or 1 for `eddm`.
    pub fn update(&mut self, value: f64) -> Result<Verdict, BadValue> {
        let is_unit = (0.0..=1.0).contains(&value);
        let take = |detector, domain, holds| {
            if holds { Ok(()) } else { Err(BadValue { detector, domain, value }) }
        };
        let finite = |detector| take(detector, "finite values", value.is_finite());
        let unit = |detector| take(detector, "values in [0, 1]", is_unit);
        Ok(match self {
            Self::Adwin(own) => finite("adwin").map(|()| own.update(value))?,
            Self::PageHinkley(own) => finite("page_hinkley").map(|()| own.update(value))?,
            Self::Kswin(own) => finite("kswin").map(|()| own.update(value))?,
            Self::Ddm(own) => unit("ddm").map(|()| own.update(value))?,
            Self::HddmA(own) => unit("hddm_a").map(|()| own.update(value))?,
            Self::HddmW(own) => unit("hddm_w").map(|()| own.update(value))?,
            Self::Eddm(own) => {
                take("eddm", "0 or 1", value == 0.0 || value == 1.0)?;
                own.update(value)
            }
        })
    }
}
