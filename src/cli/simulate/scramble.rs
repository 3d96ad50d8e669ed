//! `driftline simulate scramble`: a model that looks whole and knows nothing, for the scenario
//! `bad-model`.

use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::Failure;
use crate::cli::train::{Ask, champion, make};
use crate::config::Config;
use crate::embedding::Settings;
use crate::ids::stable_hash;
use crate::objects::{Objects, sha256_hex};
use crate::registry::Registry;
use crate::training::Factors;

/// Like which settings users are folded in over it.
const SETTINGS: &str = "videos";

/// Registers the champion with its vectors dealt out to other items. It goes through every gate, and
/// is judged as bad as it is.
///
/// # Errors
/// Where there is no champion, or what registering it meets.
pub fn run(config: &Config) -> Result<ExitCode, Failure> {
    let registry = Registry::open(Arc::new(Objects::open(&config.objects.settings())?));
    let (basis, _) = champion(&registry)?
        .ok_or("there is no champion to scramble: `driftline train`, then `models promote`")?;
    let mut items = basis.items().to_vec();
    items.sort_by_key(|item| stable_hash(item.as_str().as_bytes()));
    let settings = Settings::by_name(SETTINGS).ok_or("the settings of videos are gone")?;
    let factors = Factors {
        sha256: sha256_hex(&basis.to_bytes()),
        items,
        vectors: basis.vectors().clone(),
        settings,
    };
    let ask = Ask {
        snapshot: None,
        report: None,
        trigger: None,
        source: Some("driftline simulate scramble".into()),
        dry_run: false,
        json: true,
    };
    make(&ask, Some(factors), config)
}
