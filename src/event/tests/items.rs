//! What workers tell each other about items: old bytes.

use super::super::*;
use crate::time::DAY_MS;

#[test]
fn interactions_that_version_1_wrote_are_still_read() {
    let one = Interaction {
        source: Source::Click,
        offset: 42,
        user: -1,
        session: 2,
        event: -3,
        item: "video-1",
        event_time: 1_650_000_000_123,
        fraction: 0.5,
        surface: "home",
        history: None,
    };
    let batch =
        |one: &Interaction<'static>| Interactions { shard: 7, interactions: vec![one.clone()] };
    let bytes = crate::fixtures::bytes("interactions.v1.avro", || batch(&one).encode().unwrap());
    let read = Interactions::decode(&bytes).unwrap();
    assert_eq!((read.shard, read.interactions), (7, vec![one.clone()]));

    let one = Interaction { history: Some(History::of([1, u64::MAX])), ..one };
    let bytes = crate::fixtures::bytes("interactions.v2.avro", || batch(&one).encode().unwrap());
    let read = Interactions::decode(&bytes).unwrap();
    assert_eq!((read.shard, read.interactions), (7, vec![one]));
}

#[test]
fn impressions_that_earlier_versions_wrote_are_still_read() {
    let shown = ShownItem {
        item: "video-1",
        position: 1,
        score: 0.25,
        propensity: 0.5,
        explored: false,
        sources: vec![SourceScore { source: "trending", score: 7.5, rank: 3 }],
        features: vec![Some(0.125), None],
        ..ShownItem::default()
    };
    let impression = Impression {
        request_id: "request",
        user: "user",
        event_time: 1_650_000_000_123,
        answered_at: 1_650_000_000_456,
        surface: "home",
        context_item: Some("video-2"),
        model_version: "untrained",
        arm: "default",
        blend: "unseen",
        blend_observed: 42,
        weights: vec![SourceWeight { source: "trending", weight: 0.75 }],
        degraded: vec!["count"],
        feature_schema: "mixture.v1",
        items: vec![shown],
        ..Impression::default()
    };
    let bytes = crate::fixtures::bytes("impression.v1.avro", || impression.encode().unwrap());
    assert_eq!(Impression::decode(&bytes).as_ref(), Ok(&impression));

    let shown = ShownItem { explored: true, ..impression.items[0].clone() };
    let impression = Impression { items: vec![shown], ..impression };
    let bytes = crate::fixtures::bytes("impression.v2.avro", || impression.encode().unwrap());
    assert_eq!(Impression::decode(&bytes).as_ref(), Ok(&impression));

    let shown = ShownItem {
        creator: "creator",
        category: "category",
        duration_ms: 61_000,
        ranked: vec![0.5, -4.0, 77.0],
        probabilities: vec![0.25, 0.125],
        ..impression.items[0].clone()
    };
    let impression = Impression {
        ranker_schema: "00ff00ff00ff00ff",
        ranker_examples: 5_001,
        ranker_watermark: 1_650_000_000_000,
        items: vec![shown],
        ..impression
    };
    let bytes = crate::fixtures::bytes("impression.v3.avro", || impression.encode().unwrap());
    assert_eq!(Impression::decode(&bytes), Ok(impression));
}

#[test]
fn what_version_1_wrote_of_items_is_still_read() {
    let vector = LiveVector { basis: -2, vector: Bytes::from(vec![1, 2, 255]) };
    let embedding = EmbeddingRecord { vectors: vec![vector] };
    let bytes = crate::fixtures::bytes("item-embedding.v1.avro", || embedding.encode().unwrap());
    assert_eq!(EmbeddingRecord::decode(&bytes), Ok(embedding));

    let day = DecayedCounts { half_life_ms: DAY_MS, watches: 3.5, long_views: 1.25, clicks: 0.5 };
    let features = FeaturesRecord {
        event_time: 1_650_000_000_123,
        watches: 5,
        long_views: 2,
        clicks: 1,
        decayed: vec![day],
        co_watched: vec![CoWatched { item: -7, weight: 0.75 }],
    };
    let bytes = crate::fixtures::bytes("item-features.v1.avro", || features.encode().unwrap());
    assert_eq!(FeaturesRecord::decode(&bytes), Ok(features));
}

#[test]
fn what_versions_1_to_3_wrote_of_a_basis_is_still_read() {
    let manifest = ModelManifest {
        version: -3,
        trained_by: FIRST_BASIS.into(),
        chunks: 2,
        bytes: 600_000,
        sha256: "ab".repeat(32),
        offsets: vec![5, 0],
        watermark: 1_650_000_000_123,
        users: 60,
        items: 30,
        interactions: 1_200,
        ..ModelManifest::default()
    };
    let bytes = crate::fixtures::bytes("model-manifest.v1.avro", || manifest.encode().unwrap());
    assert_eq!(ModelManifest::decode(&bytes), Ok(manifest.clone()));

    let trial = |settings: &str, recall| SettingsTrial { settings: settings.into(), recall };
    let manifest = ModelManifest {
        settings: "sessions".into(),
        targets: 1_900,
        trials: vec![trial("videos", 0.0375), trial("sessions", 0.41)],
        ..manifest
    };
    let bytes = crate::fixtures::bytes("model-manifest.v2.avro", || manifest.encode().unwrap());
    assert_eq!(ModelManifest::decode(&bytes), Ok(manifest.clone()));

    let golden = GoldenList {
        history: vec!["v1".into()],
        items: vec!["v2".into(), "v3".into()],
        scores: vec![0.5, -0.25],
    };
    let manifest =
        ModelManifest { parent: "0000000000000001".into(), golden: vec![golden], ..manifest };
    let bytes = crate::fixtures::bytes("model-manifest.v3.avro", || manifest.encode().unwrap());
    assert_eq!(ModelManifest::decode(&bytes), Ok(manifest));
}

#[test]
fn what_version_1_wrote_of_a_training_run_is_still_read() {
    let run = TrainingRun {
        trigger: "7f".into(),
        state: RunState::Collapsed,
        at: 1_650_000_000_123,
        attempt: 2,
        version: "00000000000000a1".into(),
        blessed: true,
        promoted: true,
        reasons: vec!["it was".into(), "so".into()],
        collapsed_into: "80".into(),
    };
    let bytes = crate::fixtures::bytes("training-run.v1.avro", || run.encode().unwrap());
    assert_eq!(TrainingRun::decode(&bytes), Ok(run));
    assert!(RunState::Refused.is_final() && !RunState::Failed.is_final());
}

#[test]
fn what_version_1_wrote_of_a_decision_is_still_read() {
    let control = ModelControl {
        epoch: 3,
        champion: "00000000000000a1".into(),
        previous: "00000000000000a0".into(),
        by: "alice".into(),
        reason: "better on the hold-out".into(),
        decided_at: 1_650_000_000_123,
        ..ModelControl::default()
    };
    let bytes = crate::fixtures::bytes("model-control.v1.avro", || control.encode().unwrap());
    assert_eq!(ModelControl::decode(&bytes), Ok(control.clone()));
    let control = ModelControl {
        phase: Phase::Canary,
        candidate: "00000000000000a2".into(),
        share: 500,
        salt: "00000000000000a2@4".into(),
        since: 1_650_000_000_000,
        begun_at: 1_650_000_000_100,
        rejected: "00000000000000a3".into(),
        quarantine: true,
        frozen: true,
        ..control
    };
    let bytes = crate::fixtures::bytes("model-control.v2.avro", || control.encode().unwrap());
    assert_eq!(ModelControl::decode(&bytes), Ok(control));
}

#[test]
fn what_version_1_wrote_of_what_a_worker_made_of_it_is_still_read() {
    let served = ServedBy {
        arm: RolloutArm::Shadow,
        version: "00000000000000a2".into(),
        requests: 9,
        failures: 1,
        empty_lists: 2,
        users: 8,
        overlap_items: 70,
        items: 90,
        latency: vec![0, 4, 5],
    };
    let ack = ModelAck {
        worker: "w1".into(),
        boot: "b".into(),
        epoch: 4,
        champion: "00000000000000a1".into(),
        loaded: vec!["00000000000000a1".into()],
        candidate: "00000000000000a2".into(),
        state: CandidateState::Failed,
        error: "it is torn".into(),
        attempts: 2,
        lease_ms: 15_000,
        event_time: 1_650_000_000_000,
        sent_at: 1_650_000_000_123,
        served: vec![served],
    };
    let bytes = crate::fixtures::bytes("model-ack.v1.avro", || ack.encode().unwrap());
    assert_eq!(ModelAck::decode(&bytes), Ok(ack));
}

#[test]
fn what_version_1_wrote_of_a_ranker_is_still_read_and_examples_have_an_order() {
    let place = |event_time, list, position| ExamplePlace { event_time, list, position };
    let manifest = RankerManifest {
        version: 3,
        chunks: 2,
        bytes: 600_000,
        sha256: "ab".repeat(32),
        feature_schema: "00ff00ff00ff00ff".into(),
        examples: 5_001,
        watermark: 1_650_000_000_123,
        offsets: vec![5, 0],
        last: vec![place(1_650_000_000_123, -7, 3), ExamplePlace::default()],
    };
    let bytes = crate::fixtures::bytes("ranker-manifest.v1.avro", || manifest.encode().unwrap());
    assert_eq!(RankerManifest::decode(&bytes), Ok(manifest));
    let rising = [ExamplePlace::default(), place(0, 0, 0), place(5, 1, 9), place(5, -1, 0)];
    assert!(rising.windows(2).all(|two| two[1].is_after(&two[0]) && !two[0].is_after(&two[1])));
    assert!(!rising[1].is_after(&rising[1]));
}
