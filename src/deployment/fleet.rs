//! The workers, as far as they are heard of.

use std::collections::{BTreeMap, HashMap};

use crate::event::{ModelAck, RolloutArm, ServedBy};

/// What workers said last, and when it was heard: by the clock of who listens, which only has to go on.
#[derive(Debug, Default)]
pub struct Fleet {
    workers: BTreeMap<String, Heard>,
}

#[derive(Debug)]
struct Heard {
    ack: ModelAck,
    at_ms: u64,
}

impl Fleet {
    /// Takes in what a worker says, under its key; nothing where it has ended.
    pub fn take(&mut self, key: &str, ack: Option<ModelAck>, now_ms: u64) {
        match ack {
            Some(ack) => drop(self.workers.insert(key.to_owned(), Heard { ack, at_ms: now_ms })),
            None => drop(self.workers.remove(key)),
        }
    }

    /// Those who have said something as lately as they said they would.
    pub fn leased(&self, now_ms: u64) -> impl Iterator<Item = &ModelAck> {
        let is_leased = move |heard: &&Heard| {
            now_ms < heard.at_ms + u64::try_from(heard.ack.lease_ms).unwrap_or_default()
        };
        self.workers.values().filter(is_leased).map(|heard| &heard.ack)
    }

    /// The newest event time that any of them knows of, milliseconds since the Unix epoch.
    pub fn event_time(&self) -> i64 {
        self.workers.values().map(|heard| heard.ack.event_time).max().unwrap_or_default()
    }

    /// What was answered in an epoch, by arm: of those whose lease has run out too.
    pub fn served(&self, epoch: i64) -> HashMap<RolloutArm, ServedBy> {
        let mut all: HashMap<RolloutArm, ServedBy> = HashMap::new();
        let acks = self.workers.values().map(|heard| &heard.ack).filter(|ack| ack.epoch == epoch);
        for served in acks.flat_map(|ack| &ack.served) {
            let sum = all.entry(served.arm).or_default();
            sum.arm = served.arm;
            sum.version.clone_from(&served.version);
            sum.requests += served.requests;
            sum.failures += served.failures;
            sum.empty_lists += served.empty_lists;
            sum.users += served.users;
            sum.overlap_items += served.overlap_items;
            sum.items += served.items;
            if sum.latency.len() < served.latency.len() {
                sum.latency.resize(served.latency.len(), 0);
            }
            sum.latency.iter_mut().zip(&served.latency).for_each(|(sum, count)| *sum += count);
        }
        all
    }
}

/// The bin that a share of requests is not beyond, of latencies in half octaves; none where there were none.
pub fn quantile_bin(latency: &[i64], share: f64) -> Option<usize> {
    let all: i64 = latency.iter().sum();
    let wanted = (share * all as f64).ceil().max(1.0) as i64;
    let mut seen = 0;
    latency.iter().position(|count| {
        seen += count;
        seen >= wanted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(worker: &str, epoch: i64, requests: i64) -> ModelAck {
        let served = ServedBy {
            arm: RolloutArm::Champion,
            requests,
            latency: vec![0, requests],
            ..ServedBy::default()
        };
        let worker = worker.to_owned();
        ModelAck { worker, epoch, lease_ms: 100, served: vec![served], ..ModelAck::default() }
    }

    #[test]
    fn who_is_silent_for_longer_than_their_lease_or_has_ended_does_not_count() {
        let mut fleet = Fleet::default();
        fleet.take("m/a", Some(ack("a", 1, 1)), 0);
        fleet.take("m/b", Some(ack("b", 1, 1)), 50);
        let leased =
            |fleet: &Fleet, at| fleet.leased(at).map(|a| a.worker.clone()).collect::<String>();
        assert_eq!(leased(&fleet, 99), "ab");
        assert_eq!(leased(&fleet, 100), "b");
        fleet.take("m/b", None, 60);
        assert_eq!(leased(&fleet, 61), "a");
    }

    #[test]
    fn what_was_served_is_added_up_over_workers_of_one_epoch() {
        let mut fleet = Fleet::default();
        fleet.take("m/a", Some(ack("a", 2, 5)), 0);
        fleet.take("m/a", Some(ack("a", 2, 7)), 0);
        fleet.take("m/b", Some(ack("b", 2, 1)), 0);
        fleet.take("m/c", Some(ack("c", 1, 9)), 0);
        let served = fleet.served(2);
        assert_eq!(served[&RolloutArm::Champion].requests, 8);
        assert_eq!(served[&RolloutArm::Champion].latency, [0, 8]);
    }

    #[test]
    fn a_quantile_is_the_bin_in_which_it_falls() {
        assert_eq!(quantile_bin(&[], 0.5), None);
        assert_eq!(quantile_bin(&[98, 0, 2], 0.5), Some(0));
        assert_eq!(quantile_bin(&[98, 0, 2], 0.99), Some(2));
    }
}
