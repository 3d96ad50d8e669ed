//! How long something is watched, given whether it is viewed long and how long it is: means that decay
//! over days. The expected watch time is the mixture of both.

use crate::ranking::base::{BUCKETS, bucket};
use crate::ranking::math::left;
use crate::time::{DAY_MS, EventTime};

const HALF_LIFE_MS: i64 = 14 * DAY_MS;
/// Exposures at the supposed seconds that each mean is drawn to.
const PRIOR: f64 = 20.0;
/// No exposure counts for more seconds: who lets an item run all night must not move its mean.
const MOST_SECONDS: f64 = 3_600.0;

/// Exposures and seconds, by bucket of length, of those not viewed long and of those viewed long.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WatchTime {
    pub at: EventTime,
    pub sums: [[[f64; 2]; 2]; BUCKETS],
}

impl Default for WatchTime {
    fn default() -> Self {
        Self { at: EventTime::from_millis(i64::MIN), sums: [[[0.0; 2]; 2]; BUCKETS] }
    }
}

impl WatchTime {
    pub fn learn(&mut self, at: EventTime, duration_ms: u64, long_view: bool, watched_ms: u64) {
        let newest = self.at.max(at);
        let kept = f64::from(left(newest.since(self.at), HALF_LIFE_MS));
        let weight = f64::from(left(newest.since(at), HALF_LIFE_MS));
        if kept < 1.0 {
            self.sums.as_flattened_mut().as_flattened_mut().iter_mut().for_each(|sum| *sum *= kept);
        }
        let [n, seconds] = &mut self.sums[bucket(duration_ms)][usize::from(long_view)];
        *n += weight;
        *seconds += weight * (watched_ms as f64 / 1_000.0).min(MOST_SECONDS);
        self.at = newest;
    }

    /// Mean seconds of what is not viewed long and of what is, of a bucket of length.
    pub fn means(&self, bucket: usize) -> [f32; 2] {
        // 2^(bucket / 2 + 1) seconds begin the bucket: viewed long is most of it, else little.
        let seconds = 2f64.powi(bucket as i32 / 2 + 1);
        let supposed = [0.1 * seconds.min(40.0), 0.8 * seconds];
        std::array::from_fn(|long| {
            let [n, sum] = self.sums[bucket][long];
            ((sum + PRIOR * supposed[long]) / (n + PRIOR)) as f32
        })
    }
}
