//! `driftline topics plan|apply`

use std::path::PathBuf;
use std::process::ExitCode;

use super::Failure;
use crate::config::Config;
use crate::kafka::{Admin, Change, Plan, load_topic_files, plan};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline topics plan                    show what apply would do
  driftline topics apply                   do it
  driftline topics apply --replicas 3      for a cluster of three brokers or more
  driftline topics plan --dir my-topics    your own files, in Strimzi's shape")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    /// Folder of KafkaTopic files; the built-in ones without it
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Replication factor in place of the files'; from 3, min.insync.replicas is 2
    #[arg(long, global = true)]
    replicas: Option<i32>,
    /// Number of partitions of new user-keyed and interaction topics in place of the files'
    #[arg(long, global = true)]
    partitions: Option<i32>,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Show the difference between the files and the cluster
    Plan,
    /// Make the cluster as the files want it
    Apply,
}

pub fn run(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    let admin = Admin::new(&config.kafka.client())?;
    let wanted = compute(args, config, &admin)?;
    for change in &wanted.changes {
        println!("{change}");
    }
    if wanted.is_refused() {
        return Ok(ExitCode::FAILURE);
    }
    let count = wanted.changes.len();
    match args.action {
        Action::Plan => println!("{count} to change, {} as they should be", wanted.unchanged),
        Action::Apply => {
            apply(&admin, &wanted)?;
            println!("{count} changed, {} were as they should be", wanted.unchanged);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn compute(args: &Args, config: &Config, admin: &Admin) -> Result<Plan, Failure> {
    let mut files = load_topic_files(args.dir.as_deref(), &config.topics.prefix)?;
    for file in &mut files {
        if let Some(replicas) = args.replicas {
            file.replicas = replicas;
            if replicas >= 3 {
                file.config.insert("min.insync.replicas".into(), "2".into());
            }
        }
        if let Some(partitions) = args.partitions.filter(|_| file.partitions > 1) {
            file.partitions = partitions;
        }
    }
    let names: Vec<&str> = files.iter().map(|f| f.name.as_str()).collect();
    Ok(plan(&files, &admin.describe(&names)?))
}

fn apply(admin: &Admin, wanted: &Plan) -> Result<(), Failure> {
    wanted.changes.iter().try_for_each(|change| admin.apply(change))?;
    let made = wanted.changes.iter().filter_map(|change| match change {
        Change::Create(file) => Some(file.name.as_str()),
        _ => None,
    });
    Ok(admin.wait_for(&made.collect::<Vec<_>>())?)
}

/// What `demo` does first: the topics as the built-in files want them.
pub fn apply_quietly(config: &Config, partitions: Option<i32>) -> Result<usize, Failure> {
    let admin = Admin::new(&config.kafka.client())?;
    let args = Args { action: Action::Apply, dir: None, replicas: None, partitions };
    let wanted = compute(&args, config, &admin)?;
    if let Some(refused) = wanted.changes.iter().find(|c| matches!(c, Change::Refuse { .. })) {
        return Err(refused.to_string().into());
    }
    apply(&admin, &wanted)?;
    Ok(wanted.changes.len())
}
