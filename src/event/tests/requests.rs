//! Kinds of requests: about a user, about an item, and from sessions without a user.

use super::*;

/// Requests of every kind, from users and from sessions that bring their own history.
pub fn any_request() -> impl Strategy<Value = Request> {
    let recent = proptest::option::of(vec(id(), 0..6));
    (request(), any::<[bool; 2]>(), recent).prop_map(|(request, [related, unknown], recent)| {
        let recent: Option<Vec<ItemId>> =
            recent.map(|items| items.into_iter().map(ItemId::new).collect());
        let related = related && request.context_item.is_some();
        let unknown = unknown && (related || recent.is_some());
        Request {
            kind: if related { RequestKind::Related } else { RequestKind::Personal },
            user: if unknown { UserId::from("") } else { request.user.clone() },
            recent_items: recent,
            ..request
        }
    })
}

#[test]
fn requests_that_are_about_nobody_or_nothing_are_refused_with_what_to_mend() {
    let recent = |n: usize| json!(vec!["v"; n]);
    let cases = [
        (json!({}), Some("recent_items")),
        (json!({"recent_items": null}), Some("recent_items")),
        (json!({"recent_items": []}), None),
        (json!({"recent_items": recent(50)}), None),
        (json!({"recent_items": recent(51)}), Some("newest 50")),
        (json!({"recent_items": ["a", ""]}), Some("recent_items")),
        (json!({"kind": "related"}), Some("context_item")),
        (json!({"kind": "related", "user": "u"}), Some("context_item")),
        (json!({"kind": "related", "context_item": "v"}), None),
        (json!({"kind": "personal", "context_item": "v"}), Some("user")),
        (json!({"kind": "RELATED", "user": "u"}), Some("personal or related")),
        (json!({"kind": "", "user": "u"}), Some("personal or related")),
        (json!({"kind": "personal", "user": "u"}), None),
    ];
    for (fields, expected) in cases {
        let found = decode_request(fields.to_string().as_bytes()).1;
        match (expected, found) {
            (None, found) => assert!(found.is_ok(), "{fields}: {found:?}"),
            (Some(word), Ok(_)) => panic!("{fields} was accepted; expected a word on {word}"),
            (Some(word), Err(found)) => {
                assert!(found.message.contains(word), "{fields}: {}", found.message);
            }
        }
    }
}

#[test]
fn requests_that_version_3_wrote_are_still_read() {
    let request = Request {
        kind: RequestKind::Related,
        context_item: Some(ItemId::from("video-1")),
        recent_items: Some(vec![ItemId::from("video-2"), ItemId::from("video-3")]),
        ..Request::new("request-1", UserId::from(""), 50)
    };
    let bytes = crate::fixtures::bytes("recommendation-request.v3.avro", || {
        encode_request(&request, Encoding::AvroSingleObject).unwrap()
    });
    assert_eq!(decode_request(&bytes).1, Ok(request));
}
