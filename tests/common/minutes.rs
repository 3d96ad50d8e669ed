//! Minutes of metrics of a world that is made up, as shards would tell them.

use serde_json::json;

use super::avro;
use super::dice::Dice;
use super::events::{DAY, SECOND};
use super::installation::Installation;
use super::kafka::Out;

pub const MINUTE: i64 = 60 * SECOND;
const SHARDS: i64 = 2;

/// A world in which 5 % of what is shown is clicked, a fifth more or less over the day.
pub struct World {
    dice: Dice,
    begin: i64,
    /// Minutes since it began.
    pub now: i64,
    pub clicks: f64,
    /// Whether a ranker has predicted 5 % for every item.
    pub predicts: bool,
}

impl World {
    /// Begins at this time.
    pub fn new(begin: i64) -> Self {
        Self { dice: Dice::of(7), begin, now: 0, clicks: 1.0, predicts: false }
    }

    /// The next minutes, of both shards.
    pub fn minutes(&mut self, site: &Installation, count: i64) -> Vec<Out> {
        (0..count).flat_map(|_| self.minute(site)).collect()
    }

    fn minute(&mut self, site: &Installation) -> Vec<Out> {
        let start = self.begin + self.now * MINUTE;
        self.now += 1;
        let day = (start.rem_euclid(DAY) as f64 / DAY as f64) * std::f64::consts::TAU;
        let rate = 0.05 * (1.0 + 0.2 * day.sin());
        (0..SHARDS).map(|shard| self.window(site, start, shard, rate)).collect()
    }

    fn window(&mut self, site: &Installation, start: i64, shard: i64, rate: f64) -> Out {
        let impressions = 1_000;
        let mut draw = |rate: f64| {
            let (mean, deviation) = (impressions as f64 * rate, (impressions as f64 * rate).sqrt());
            // Twelve uniform draws make a normal one.
            let normal: f64 =
                (0..12).map(|_| self.dice.below(10_000) as f64 / 1e4).sum::<f64>() - 6.0;
            (mean + deviation * normal).round().max(0.0) as i64
        };
        let (clicks, long_views) = (draw(rate * self.clicks), draw(2.0 * rate));
        let mut window = json!({"shard": shard, "start": start, "length_ms": MINUTE,
            "model_version": "m1", "arm": "a", "surface": if shard == 0 { "home" } else { "search" },
            "revision": 1, "lists": 50, "impressions": impressions, "clicks": clicks,
            "watches": 4 * clicks, "long_views": long_views, "completions": long_views / 2,
            "watched_ms": long_views * 30_000});
        if self.predicts {
            let loss =
                -(clicks as f64 * 0.05f64.ln() + (impressions - clicks) as f64 * 0.95f64.ln());
            window["predicted"] = impressions.into();
            window["predicted_clicks_e6"] = (50_000 * impressions).into();
            window["predicted_long_views_e6"] = (100_000 * impressions).into();
            window["clicks_predicted"] = clicks.into();
            window["long_views_predicted"] = long_views.into();
            window["click_log_loss_e6"] = ((loss * 1e6) as i64).into();
            window["ranked_lists"] = 50.into();
            window["staleness_ms"] = (50 * 90_000).into();
        }
        Out {
            topic: site.topic("metrics"),
            key: Some(format!("{start}/{shard}/m1/a/").into_bytes()),
            value: Some(avro::METRICS.encode(&window)),
            ..Out::default()
        }
    }
}
