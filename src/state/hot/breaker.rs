//! A circuit breaker: stops asking a server that fails, and finds out by itself when it is back.
//!
//! A pure state machine. Time is whatever the caller counts, as long as it does not run backwards.

use std::time::Duration;

/// How a breaker waits.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// Failures in a row at which it opens. One would open on a single lost packet; many let
    /// that many callers wait for their timeouts.
    pub failures: u32,
    /// The first wait; it doubles with each failed probe.
    pub first: Duration,
    /// The longest wait: how late a server that is back may be noticed.
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { failures: 3, first: Duration::from_millis(100), longest: Duration::from_secs(5) }
    }
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// All goes through.
    Closed,
    /// One attempt is out; it decides.
    HalfOpen,
    /// Nothing goes through for a while.
    Open,
}

/// What a caller may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Go on.
    Attempt,
    /// Not before this long from now.
    Wait(Duration),
}

/// A circuit breaker.
#[derive(Debug)]
pub struct Breaker {
    backoff: Backoff,
    state: BreakerState,
    /// In a row, while closed.
    failures: u32,
    /// Probes failed in a row.
    rounds: u32,
    /// When the next probe may go out, while open.
    retry_at: Duration,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(backoff: Backoff) -> Self {
        let (state, retry_at) = (BreakerState::Closed, Duration::ZERO);
        Self { backoff, state, failures: 0, rounds: 0, retry_at }
    }

    /// Where it stands.
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// Asks to make an attempt, whose outcome must then be told.
    pub fn permit(&mut self, now: Duration) -> Permit {
        if self.state == BreakerState::Open {
            if now < self.retry_at {
                return Permit::Wait(self.retry_at - now);
            }
            self.state = BreakerState::HalfOpen;
        }
        Permit::Attempt
    }

    /// The attempt went well.
    pub fn succeeded(&mut self) {
        self.state = BreakerState::Closed;
        self.failures = 0;
        self.rounds = 0;
    }

    /// The attempt failed. `jitter` is a random number in 0..1: the wait is between half and all
    /// of what doubling says, so that workers do not come back all at once.
    pub fn failed(&mut self, now: Duration, jitter: f64) {
        if self.state == BreakerState::Closed {
            self.failures += 1;
            if self.failures < self.backoff.failures {
                return;
            }
        }
        let doubled = self.backoff.first.saturating_mul(2_u32.saturating_pow(self.rounds));
        let wait = doubled.min(self.backoff.longest);
        self.retry_at = now + wait.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        self.rounds += 1;
        self.failures = 0;
        self.state = BreakerState::Open;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn it_opens_at_the_third_failure_in_a_row_only() {
        let mut breaker = Breaker::new(Backoff::default());
        for _ in 0..5 {
            breaker.failed(ms(0), 0.5);
            breaker.failed(ms(0), 0.5);
            assert_eq!(breaker.permit(ms(0)), Permit::Attempt);
            breaker.succeeded();
        }
        (0..3).for_each(|_| breaker.failed(ms(0), 1.0));
        assert_eq!(breaker.state(), BreakerState::Open);
        assert_eq!(breaker.permit(ms(40)), Permit::Wait(ms(60)));
    }

    #[test]
    fn a_probe_closes_it_or_doubles_the_wait_up_to_the_longest() {
        let mut breaker = Breaker::new(Backoff::default());
        (0..3).for_each(|_| breaker.failed(ms(0), 1.0));
        let mut now = ms(0);
        for wait in [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
            assert_eq!(breaker.permit(now), Permit::Wait(ms(wait)));
            now += ms(wait);
            assert_eq!(breaker.permit(now), Permit::Attempt);
            assert_eq!(breaker.state(), BreakerState::HalfOpen);
            breaker.failed(now, 1.0);
        }
        assert_eq!(breaker.permit(now + ms(5_000)), Permit::Attempt);
        breaker.succeeded();
        assert_eq!(breaker.state(), BreakerState::Closed);
        (0..3).for_each(|_| breaker.failed(now, 1.0));
        assert_eq!(breaker.permit(now), Permit::Wait(ms(100)), "it starts over");
    }

    proptest! {
        #[test]
        fn a_dead_server_is_tried_ever_less_often_and_never_forgotten(
            jitters in prop::collection::vec(0.0..1.0_f64, 50), step in 1..50_u64,
        ) {
            let mut breaker = Breaker::new(Backoff::default());
            let (mut attempts, mut last, mut at) = (0, ms(0), ms(0));
            let mut jitter = jitters.iter().cycle();
            while at < Duration::from_secs(100) {
                if breaker.permit(at) == Permit::Attempt {
                    prop_assert!(at - last <= ms(5_000 + step), "forgotten for too long");
                    attempts += 1;
                    last = at;
                    breaker.failed(at, *jitter.next().unwrap());
                }
                at += ms(step);
            }
            // Three, six while it doubles, then one in 2.5 to 5 s.
            prop_assert!((20..=60).contains(&attempts), "{} attempts", attempts);
        }
    }
}
