//! `driftline recommend`

use std::process::ExitCode;
use std::time::Duration;

use super::{Failure, cluster, output, parse_duration};
use crate::client::{Asking, RequestClient};
use crate::config::Config;
use crate::event::{After, Reply, Request, RequestKind};
use crate::ids::{ItemId, Surface, UserId};
use crate::kafka::TopicPartition;
use crate::time::wall_now;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  driftline recommend --user alice
  driftline recommend --user alice --count 5 --surface home --json
  driftline recommend --user alice --context v17 --exclude v3,v9
  driftline recommend --user alice --related v17            what goes with v17
  driftline recommend --recent v3,v9,v17                    for a visitor who is not known
  driftline recommend --user alice --after watch-events-3@120   answered once event 120 is folded")]
pub struct Args {
    /// For whom; may be left out with --related or --recent
    #[arg(long, default_value = "", required_unless_present_any = ["related", "recent"])]
    user: String,
    /// How many items
    #[arg(long, default_value_t = 10)]
    count: usize,
    /// Where the list will be shown
    #[arg(long, default_value = "")]
    surface: String,
    /// The item being watched now
    #[arg(long)]
    context: Option<String>,
    /// What goes with this item, which is being watched now
    #[arg(long, value_name = "ITEM", conflicts_with = "context")]
    related: Option<String>,
    /// An anonymous session: what it has watched or clicked, oldest first, in place of the user's
    /// own history
    #[arg(long, value_name = "ITEM,…", value_delimiter = ',', conflicts_with = "after")]
    recent: Option<Vec<String>>,
    /// Items that must not be in the list
    #[arg(long, value_delimiter = ',')]
    exclude: Vec<String>,
    /// Let items that the user has seen be in the list
    #[arg(long)]
    include_seen: bool,
    /// Makes the answer reproducible
    #[arg(long)]
    seed: Option<i64>,
    /// Positions that the answer must know: topic-partition@offset,…
    #[arg(long, value_delimiter = ',')]
    after: Vec<String>,
    /// How long to wait for the reply
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    timeout: Duration,
    /// The reply as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    // Says what to do where no broker answers.
    cluster::connect(config)?;
    let client = RequestClient::connect(config)?;
    let request = Request {
        surface: Surface::from(args.surface.as_str()),
        kind: if args.related.is_some() { RequestKind::Related } else { RequestKind::Personal },
        context_item: args.related.as_deref().or(args.context.as_deref()).map(ItemId::from),
        recent_items: args
            .recent
            .as_ref()
            .map(|items| items.iter().map(|item| ItemId::from(item.as_str())).collect()),
        exclude: args.exclude.iter().map(|i| ItemId::from(i.as_str())).collect(),
        include_seen: args.include_seen,
        seed: args.seed,
        ..Request::new("", UserId::from(args.user.as_str()), args.count)
    };
    let after = args.after.iter().map(|text| parse_position(text)).collect::<Result<_, _>>()?;
    let limit = i64::try_from(args.timeout.as_millis()).unwrap_or(i64::MAX);
    let asking = Asking { deadline_ms: Some(wall_now().saturating_add(limit)), after };
    let reply = client.ask(&request, &asking, args.timeout + Duration::from_secs(1))?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&reply)?);
    } else {
        print(&reply);
    }
    Ok(if reply.error.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn parse_position(text: &str) -> Result<(TopicPartition, i64), Failure> {
    let wrong = || format!("--after {text}: expected topic-partition@offset").into();
    TopicPartition::at(text).ok_or_else(wrong)
}

/// Prints a reply as a table.
pub fn print(reply: &Reply) {
    if let Some(error) = &reply.error {
        println!("{}: {}", error.kind.name(), error.message);
        return;
    }
    let rows: Vec<Vec<String>> = reply
        .items
        .iter()
        .enumerate()
        .map(|(place, item)| {
            let why = item.reasons.first().map_or("", |r| r.text.as_str());
            vec![
                (place + 1).to_string(),
                item.item.clone(),
                format!("{:.4}", item.score),
                item.source.clone(),
                why.to_owned(),
            ]
        })
        .collect();
    output::table(&["#", "item", "score", "source", "why"], &rows);
    for degraded in &reply.degraded {
        println!("degraded: {}: {}", degraded.part, degraded.reason);
    }
    if reply.after == After::Missed {
        println!("the answer may lack the events named by --after");
    }
    let took_ms = reply.took_us as f64 / 1000.0;
    println!(
        "{} items, {took_ms:.1} ms in the worker, model {}",
        reply.items.len(),
        reply.model_version
    );
}
