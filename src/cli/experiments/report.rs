//! `driftline experiments report`: what came of an experiment so far.

use std::path::PathBuf;

use super::find;
use crate::cli::{Failure, metrics, output};
use crate::config::Config;
use crate::experiment::report::{ALPHA, Report, TUNING};
use crate::experiment::running::Experiments;
use crate::experiment::sequential::{Comparison, Rule};
use crate::experiment::tallies::Tallies;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline experiments report diversity
  driftline experiments report diversity --plot diversity.svg
  driftline experiments report diversity --json | jq .verdict

Intervals hold at all looks together: look as often as you like, and stop whenever you like. A list
counts when its label windows have passed.")]
pub(super) struct Args {
    /// The experiment
    name: String,
    /// Probability that the verdict is ever wrong, where arms are alike
    #[arg(long, default_value_t = ALPHA)]
    alpha: f64,
    /// Lists at which intervals are narrowest; decide on it before you look
    #[arg(long, default_value_t = TUNING, value_name = "LISTS")]
    tuning: f64,
    /// Draws the intervals, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

pub(super) fn run(
    args: &Args,
    experiments: &Experiments,
    config: &Config,
    as_json: bool,
) -> Result<(), Failure> {
    if !(args.alpha > 0.0 && args.alpha < 1.0) {
        return Err(format!("--alpha is {}; it must be between 0 and 1", args.alpha).into());
    }
    if !(args.tuning >= 1.0 && args.tuning.is_finite()) {
        return Err(format!("--tuning is {}; it must be 1 or more", args.tuning).into());
    }
    let record = find(experiments, &args.name)?;
    let (definition, _) = experiments.get(&args.name).ok_or("it is gone")?;
    let until = if record.stopped_at > 0 { record.stopped_at } else { i64::MAX };
    let mut tallies = Tallies::new(record.begun_at, until);
    let came = |window| {
        tallies.take(&window);
    };
    metrics::each(config, came, |_| {})?;
    let rule = Rule { alpha: args.alpha, tuning: args.tuning };
    let report = Report::new(definition, &tallies, rule);
    if let Some(path) = &args.plot {
        std::fs::write(path, super::plot::svg(&report))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if as_json {
        println!("{}", report.to_json());
    } else {
        show(&report, &record.hypothesis);
    }
    Ok(())
}

fn percent(value: f64) -> String {
    format!("{:+.1} %", value * 100.0)
}

fn against(comparison: Option<&Comparison>) -> [String; 2] {
    match comparison {
        Some(c) => [
            format!("{} ({} to {})", percent(c.uplift), percent(c.lower), percent(c.upper)),
            format!("{:.4}", c.p_value),
        ],
        None => ["-".into(), "-".into()],
    }
}

fn show(report: &Report, hypothesis: &str) {
    if !hypothesis.is_empty() {
        println!("{hypothesis}\n");
    }
    let mut rows = Vec::new();
    for arm in &report.arms {
        for measured in &arm.measured {
            let [uplift, p] = against(measured.comparison.as_ref());
            let is_primary = measured.metric == report.primary;
            rows.push(vec![
                arm.name.clone(),
                arm.total.lists.to_string(),
                arm.total.impressions.to_string(),
                format!("{}{}", measured.metric.name, if is_primary { " *" } else { "" }),
                measured.value.map_or("-".into(), |value| format!("{value:.5}")),
                uplift,
                p,
            ]);
        }
    }
    let header =
        ["arm", "lists", "shown", "metric", "value", "against the control, at any look", "p"];
    output::table(&header, &rows);
    println!("\n* decides. {}", report.in_words());
    match report.mismatch {
        Some(p) => println!("Sizes of the arms: p {p:.4}; below 0.001 nothing could be believed."),
        None => println!("Sizes of the arms: too few users to say."),
    }
    println!(
        "Intervals hold with probability {:.0} % for all looks and all arms together, of one metric: looking \
         often and stopping when it shows is no cheating. The first metric decides because it was named before; \
         to choose another by what it shows would be.",
        (1.0 - report.rule.alpha) * 100.0
    );
}
