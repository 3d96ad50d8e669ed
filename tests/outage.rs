//! A broker that dies under load and comes back.

mod common;

use std::time::Duration;

use common::broker;
use common::dice::Dice;
use common::installation::Installation;
use common::load;
use common::oracle::{self, DEFAULT_RULES};
use common::requests::{Ask, Client};

#[test]
fn a_broker_that_dies_and_comes_back_costs_no_event_and_no_answer() {
    let mut dice = Dice::printed("outage");
    let broker = broker::start_new("outage");
    let site = Installation::on(&broker.address, "outage", &[]);
    let client = Client::new(&site);
    let mut worker = site.ready_worker("a");
    let pause = |ms| std::thread::sleep(Duration::from_millis(ms));
    let sent = load::during(&site, &client, &mut dice, || {
        for away in [1_000, 5_000] {
            pause(2_000);
            broker.kill();
            pause(away);
            assert!(worker.is_running(), "it waits for the broker:\n{}", worker.log_text());
            broker.start();
            let answer = client.ask(&Ask::of("user-1").deadline_in(100_000));
            assert_eq!(answer.error(), "", "it answers again");
        }
        pause(2_000);
    });
    site.wait_folded(&mut worker);
    let lists = load::assert_answered(&client, &sent.requests);
    eprintln!("{} events; {lists} of {} requests got a list", sent.events, sent.requests.len());
    worker.wait_ready();
    worker.drain();
    let events = site.read_events(|_| true);
    assert_eq!(events.len(), sent.events, "the producer's own events are all there, once");
    assert!(site.dead_letters().is_empty());
    let expected = oracle::fold(&events, DEFAULT_RULES);
    oracle::assert_same(&site.dump(&site.data_dir("a")), &expected);
}
