use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use super::event;
use crate::event::datum::Datum;
use crate::event::user_event::{ClickWire, WatchWire};
use crate::event::{Encoding, Source, codec, schema};

fn reads_by_position(source: Source, bytes: &[u8]) -> bool {
    match source {
        Source::Watch => Datum::read::<WatchWire<'_>>(&bytes[10..]).is_some(),
        Source::Click => Datum::read::<ClickWire<'_>>(&bytes[10..]).is_some(),
    }
}

/// Where a datum reads by position, it reads by name, and as the same.
fn by_position_as_by_name(source: Source, bytes: &[u8]) -> Result<(), TestCaseError> {
    let json = |wire: Result<Value, serde_json::Error>| wire.unwrap();
    let (fast, general) = match source {
        Source::Watch => (
            Datum::read::<WatchWire<'_>>(&bytes[10..]).map(serde_json::to_value),
            codec::decode::<WatchWire<'_>>(&schema::WATCH_EVENT, bytes)
                .map(|(wire, _)| serde_json::to_value(wire)),
        ),
        Source::Click => (
            Datum::read::<ClickWire<'_>>(&bytes[10..]).map(serde_json::to_value),
            codec::decode::<ClickWire<'_>>(&schema::CLICK_EVENT, bytes)
                .map(|(wire, _)| serde_json::to_value(wire)),
        ),
    };
    if let Some(fast) = fast {
        prop_assert_eq!(Ok(json(fast)), general.map(json));
    }
    Ok(())
}

proptest! {
    #[test]
    fn an_event_reads_by_position_as_it_reads_by_name(event in event()) {
        let bytes = event.encode(Encoding::AvroSingleObject).unwrap();
        by_position_as_by_name(event.source(), &bytes)?;
        prop_assert!(reads_by_position(event.source(), &bytes));
    }

    #[test]
    fn damaged_events_read_by_position_only_as_they_read_by_name(
        event in event(),
        changes in vec((10..200usize, any::<u8>()), 0..4),
        cut in 0..4usize,
    ) {
        let mut bytes = event.encode(Encoding::AvroSingleObject).unwrap();
        for (at, byte) in changes {
            let at = at.min(bytes.len() - 1);
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - cut);
        by_position_as_by_name(event.source(), &bytes)?;
    }
}
