//! A steady load of events and requests while a test disturbs what serves them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::dice::Dice;
use super::events::Stream;
use super::installation::Installation;
use super::requests::{Ask, Client};

/// Users of the load.
pub const USERS: u64 = 400;

/// What was sent.
pub struct Sent {
    pub events: usize,
    pub requests: Vec<Vec<u8>>,
}

/// Sends events and requests for as long as `disturb` runs.
pub fn during(
    site: &Installation,
    client: &Client,
    dice: &mut Dice,
    disturb: impl FnOnce(),
) -> Sent {
    let done = AtomicBool::new(false);
    let stream = Stream::new(Dice::of(dice.next()), USERS, 40_000);
    let asking = Dice::of(dice.next());
    std::thread::scope(|scope| {
        let events = scope.spawn(|| send_events(site, stream, &done));
        let requests = scope.spawn(|| send_requests(client, asking, &done));
        // Ends the load also where the disturbance fails.
        let end = EndOf(&done);
        disturb();
        drop(end);
        Sent {
            events: events.join().expect("the events were sent"),
            requests: requests.join().expect("the requests were sent"),
        }
    })
}

pub struct EndOf<'a>(pub &'a AtomicBool);

impl Drop for EndOf<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// About 1,000 events a second.
fn send_events(site: &Installation, mut stream: Stream, done: &AtomicBool) -> usize {
    let mut sent = 0;
    while !done.load(Ordering::Acquire) {
        for _ in 0..50 {
            drop(site.kafka.send(&site.out(&stream.draw())));
            sent += 1;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    site.kafka.flush();
    sent
}

/// About 50 requests a second.
fn send_requests(client: &Client, mut dice: Dice, done: &AtomicBool) -> Vec<Vec<u8>> {
    let mut sent = Vec::new();
    while !done.load(Ordering::Acquire) {
        let ask = Ask::of(&format!("user-{}", dice.below(USERS)));
        client.send(&ask);
        sent.push(ask.correlation);
        std::thread::sleep(Duration::from_millis(20));
    }
    sent
}

/// Every request has an answer: a list, or an error that says what to do. Returns how many
/// got a list.
pub fn assert_answered(client: &Client, requests: &[Vec<u8>]) -> usize {
    let mut lists = 0;
    for correlation in requests {
        let answer = client.reply(correlation);
        let expected = ["", "EXPIRED", "OVERLOADED", "NOT_READY"];
        assert!(expected.contains(&answer.error()), "{answer:?}");
        lists += usize::from(answer.error().is_empty());
    }
    lists
}
