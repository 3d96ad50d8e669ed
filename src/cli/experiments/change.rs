//! What changes an experiment: read to the end, change, write one revision more.

use super::{ApplyArgs, OverrideArgs, RampArgs, StopArgs, find, read, read_file};
use crate::cli::Failure;
use crate::config::Config;
use crate::event::{Encoding, ExperimentRecord, ExperimentStatus};
use crate::experiment::definition::Definition;
use crate::experiment::running::Experiments;
use crate::kafka::ExclusiveWriter;
use crate::time::wall_now;

/// What a command wants of the newest state.
type Change<'a> = &'a dyn Fn(&Experiments) -> Result<ExperimentRecord, Failure>;

/// Nobody can write between what is read here and what is written.
fn write(change: Change<'_>, config: &Config) -> Result<ExperimentRecord, Failure> {
    let topic = config.topics.experiments();
    let writer = ExclusiveWriter::open(&config.kafka.client(), &topic, "driftline-experiments")?;
    let experiments = read(config)?;
    let mut record = change(&experiments)?;
    record.revision = experiments.get(&record.name).map_or(0, |(known, _)| known.revision) + 1;
    record.written_at = wall_now();
    let by = std::env::var("USER").ok().filter(|user| !user.is_empty());
    record.by = by.unwrap_or_else(|| "driftline experiments".into());
    let definition = Definition::read(&record)?;
    if definition.status == ExperimentStatus::Running {
        experiments.check(&definition)?;
    }
    writer.write(&topic, record.name.as_bytes(), &record.encode(Encoding::AvroSingleObject)?)?;
    Ok(record)
}

pub(super) fn apply(args: &ApplyArgs, config: &Config) -> Result<(), Failure> {
    let wanted = read_file(&args.file)?;
    let written = write(
        &|experiments| {
            let known = experiments.get(&wanted.name).map(|(_, known)| known);
            check_change(known, &wanted)?;
            let begun = known.map_or(0, |known| known.begun_at);
            let (status, begun_at) = match args.draft {
                true if begun > 0 => {
                    return Err(format!("{} runs already: stop it instead", wanted.name).into());
                }
                true => (ExperimentStatus::Draft, 0),
                false if begun > 0 => (ExperimentStatus::Running, begun),
                false => (ExperimentStatus::Running, wall_now()),
            };
            Ok(ExperimentRecord { status, begun_at, ..wanted.clone() })
        },
        config,
    )?;
    let share = written.coverage * 100.0;
    match written.status {
        ExperimentStatus::Draft => println!("{} is kept as a draft", written.name),
        _ => println!("{} runs for {share:.1} % of its users", written.name),
    }
    Ok(())
}

/// What would make lists of before and after two different things.
fn check_change(
    known: Option<&ExperimentRecord>,
    wanted: &ExperimentRecord,
) -> Result<(), Failure> {
    let Some(known) = known.filter(|known| known.status != ExperimentStatus::Draft) else {
        return Ok(());
    };
    if known.status == ExperimentStatus::Stopped {
        return Err(format!(
            "{} was stopped: give what comes next a name of its own, so that its lists are told apart",
            known.name
        )
        .into());
    }
    let same = known.arms == wanted.arms
        && known.seed == wanted.seed
        && known.namespace == wanted.namespace
        && known.namespace_start == wanted.namespace_start
        && known.namespace_end == wanted.namespace_end;
    if same {
        return Ok(());
    }
    Err(format!(
        "{} runs: its arms, seed and namespace stay as they are, or users would change arms in the midst; \
         stop it and begin another",
        known.name
    )
    .into())
}

fn running(experiments: &Experiments, name: &str) -> Result<ExperimentRecord, Failure> {
    let record = find(experiments, name)?;
    match record.status {
        ExperimentStatus::Running => Ok(record.clone()),
        other => Err(format!("{name} is {}: it has to run for that", other.name()).into()),
    }
}

pub(super) fn ramp(args: &RampArgs, config: &Config) -> Result<(), Failure> {
    let change = |experiments: &Experiments| {
        let record = running(experiments, &args.name)?;
        Ok(ExperimentRecord { coverage: args.coverage, ..record })
    };
    let written = write(&change, config)?;
    println!("{} runs for {:.1} % of its users", written.name, written.coverage * 100.0);
    Ok(())
}

pub(super) fn put(args: &OverrideArgs, config: &Config) -> Result<(), Failure> {
    let change = |experiments: &Experiments| {
        let mut record = running(experiments, &args.name)?;
        match &args.arm {
            Some(arm) => record.overrides.insert(args.user.clone(), arm.clone()),
            None => record.overrides.remove(&args.user),
        };
        Ok(record)
    };
    write(&change, config)?;
    match &args.arm {
        Some(arm) => println!("{} is served by {arm} of {}", args.user, args.name),
        None => println!("{} is served by their hash in {}", args.user, args.name),
    }
    Ok(())
}

pub(super) fn stop(args: &StopArgs, config: &Config) -> Result<(), Failure> {
    let change = |experiments: &Experiments| {
        let record = find(experiments, &args.name)?.clone();
        let stopped_at = if record.stopped_at > 0 { record.stopped_at } else { wall_now() };
        let kept = args.keep.clone().unwrap_or_default();
        Ok(ExperimentRecord { status: ExperimentStatus::Stopped, stopped_at, kept, ..record })
    };
    write(&change, config)?;
    match &args.keep {
        Some(arm) => println!("{} is stopped; everybody is served by {arm}", args.name),
        None => println!("{} is stopped; everybody is served as before", args.name),
    }
    Ok(())
}

pub(super) fn forget(name: &str, config: &Config) -> Result<(), Failure> {
    let topic = config.topics.experiments();
    let writer = ExclusiveWriter::open(&config.kafka.client(), &topic, "driftline-experiments")?;
    if find(&read(config)?, name)?.status == ExperimentStatus::Running {
        return Err(format!("{name} runs: stop it first").into());
    }
    writer.write(&topic, name.as_bytes(), b"")?;
    println!("{name} is forgotten");
    Ok(())
}
