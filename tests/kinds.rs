//! Requests that are about an item, and those of visitors who are not known.

mod common;

use common::events::Event;
use common::eventually;
use common::installation::Installation;
use common::requests::{Answer, Ask, Client};
use serde_json::json;

/// JSON: the fields are of the newest schema, which needs no library.
fn related(user: &str, item: &str) -> Ask {
    Ask::of(user).json().with("kind", "related").with("context_item", item)
}

fn anonymous(items: &[&str]) -> Ask {
    Ask::of("").json().with("recent_items", json!(items))
}

fn reason(answer: &Answer) -> (&str, &str) {
    let reason = &answer.body["items"][0]["reasons"][0];
    (reason["kind"].as_str().unwrap_or_default(), reason["item"].as_str().unwrap_or_default())
}

#[test]
fn what_goes_with_an_item_is_told_to_known_and_unknown_visitors_and_old_clients_go_on() {
    let site = Installation::new("kinds", &[]);
    let _worker = site.ready_worker("a");
    let client = Client::new(&site);
    let together = (0..6).flat_map(|n| {
        let user = format!("other-{n}");
        [Event::click(&user, "film"), Event::click(&user, "sequel")]
    });
    let elsewhere = (0..20).map(|n| Event::click(&format!("fan-{n}"), "hit"));
    let mine = Event::click("me", "sequel");
    site.deliver(&together.chain(elsewhere).chain([mine]).collect::<Vec<_>>());

    let answer = eventually("the tables know what goes together", || {
        let answer = client.ask(&related("", "film"));
        (answer.error().is_empty() && answer.items() == ["sequel"]).then_some(answer)
    });
    assert_eq!(reason(&answer), ("because_you_are_watching", "film"));
    assert_eq!(answer.degraded(), ["count"], "it is not filled up with what trends");

    eventually("the click shows", || {
        client.ask(&related("me", "film")).items().is_empty().then_some(())
    });
    let seen_too = client.ask(&related("me", "film").with("include_seen", true));
    assert_eq!(seen_too.items(), ["sequel"]);

    eventually("it is ranked what trends", || {
        client.ask(&anonymous(&[])).items().contains(&"hit".to_owned()).then_some(())
    });
    let visitor = client.ask(&anonymous(&["film"]));
    let sequel = visitor.body["items"].as_array().expect("items").iter();
    let sequel = sequel.clone().find(|item| item["item"] == "sequel").expect("the sequel");
    let reasons = sequel["reasons"].as_array().expect("reasons");
    let because = |r: &&serde_json::Value| r["kind"] == "because_you_watched";
    assert_eq!(reasons.iter().find(because).expect("a cause")["item"], "film", "{sequel}");
    assert!(!visitor.items().contains(&"film".to_owned()), "{visitor:?}");
    let in_place_of_state = Ask::of("me").json().with("recent_items", json!(["film"]));
    assert!(client.ask(&in_place_of_state).items().contains(&"sequel".to_owned()));

    // Avro of the first version, which knows of no kinds.
    let old = client.ask(&Ask::of("me"));
    assert_eq!(old.error(), "");
    assert!(!old.items().contains(&"sequel".to_owned()), "{old:?}");

    for (ask, word) in [
        (Ask::of("").json(), "recent_items"),
        (Ask::of("me").json().with("kind", "related"), "context_item"),
        (Ask::of("me").json().with("kind", "similar"), "personal or related"),
        (anonymous(&["x"; 51]), "newest 50"),
        (anonymous(&[]).header("after", format!("{}-0@0", site.topic("watch-events"))), "after"),
    ] {
        let answer = client.ask(&ask);
        assert_eq!(answer.error(), "BAD_REQUEST", "{word}: {answer:?}");
        assert!(answer.message().contains(word), "{word}: {}", answer.message());
    }
}

#[test]
fn explored_places_say_so_and_by_which_probability() {
    let site = Installation::new("explored", &[("serving.exploration", "0.5")]);
    let _worker = site.ready_worker("a");
    let client = Client::new(&site);
    let rare = (0..30).map(|n| Event::click(&format!("u{n}"), &format!("rare-{n}")));
    site.deliver(&rare.collect::<Vec<_>>());
    eventually("all items are known", || {
        let count = client.ask(&Ask::of("somebody").with("count", 30)).items().len();
        (count == 30).then_some(())
    });
    let mut explored = 0;
    for seed in 0..20 {
        let answer = client.ask(&Ask::of("somebody").with("count", 5).with("seed", seed));
        for item in answer.body["items"].as_array().expect("items") {
            let propensity = item["propensity"].as_f64().expect("a propensity");
            if item["source"] == "exploration" {
                explored += 1;
                assert_eq!(item["reasons"][0]["kind"], "exploration");
                // Half of a place, shared by the 25 that are not on the list; those whose click
                // is known by now have a little more of it.
                assert!((0.01..0.04).contains(&propensity), "{item}");
            } else {
                assert!((propensity - 0.5).abs() < 1e-9, "{item}");
            }
        }
    }
    // 100 places, each with probability 1/2: below 20 or above 80 once in 10^9.
    assert!((20..=80).contains(&explored), "{explored} of 100 places");
}
