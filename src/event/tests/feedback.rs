//! What is and what is no feedback.

use super::*;

fn feedback() -> impl Strategy<Value = Feedback<'static>> {
    let at = prop_oneof![Just(EARLIEST), Just(APPENDED + 3_600_000), EARLIEST..APPENDED];
    let names = (id(), id(), id(), optional(), optional(), proptest::option::of(optional()));
    (names, at, any::<bool>(), 0..3usize).prop_map(|(names, at, undo, subject)| {
        let (event_id, user, about, surface, session, request) = names;
        Feedback {
            id: event_id.into(),
            user: user.into(),
            at: EventTime::from_millis(at),
            kind: if undo { FeedbackKind::Undo } else { FeedbackKind::NotInterested },
            subject_kind: SubjectKind::ALL[subject],
            subject: about.into(),
            request: request.map(Cow::Owned),
            surface: surface.into(),
            session: session.into(),
        }
    })
}

proptest! {
    #[test]
    fn feedback_reads_back_as_it_was_written_in_both_encodings(feedback in feedback()) {
        for encoding in [Encoding::AvroSingleObject, Encoding::Json] {
            let bytes = feedback.encode(encoding).unwrap();
            prop_assert_eq!(Feedback::decode(&bytes, &RULES).unwrap(), feedback.clone());
        }
    }

    #[test]
    fn arbitrary_bytes_are_feedback_or_a_rejection(bytes in vec(any::<u8>(), 0..100)) {
        prop_assert!(Feedback::decode(&bytes, &RULES).is_err());
    }
}

#[test]
fn what_is_no_feedback_is_refused_and_says_what_would_be() {
    let valid = json!({
        "event_id": "e", "user": "u", "event_time": APPENDED, "kind": "NOT_INTERESTED",
        "subject_kind": "CREATOR", "subject": "c",
    });
    let decode = |value: &Value| {
        let bytes = value.to_string().into_bytes();
        Feedback::decode(&bytes, &RULES).map(drop)
    };
    assert_eq!(decode(&valid), Ok(()));
    for (field, value, class, word) in [
        ("event_id", json!(""), "EmptyId", "event_id"),
        ("user", json!(""), "EmptyId", "user"),
        ("subject", json!(""), "EmptyId", "subject"),
        ("subject", json!("x".repeat(MAX_ID_BYTES + 1)), "OversizedId", "subject"),
        ("surface", json!("x".repeat(MAX_ID_BYTES + 1)), "OversizedId", "surface"),
        ("kind", json!("LOVED"), "UnknownKind", "NOT_INTERESTED or UNDO"),
        ("kind", json!("UNKNOWN"), "UnknownKind", "NOT_INTERESTED or UNDO"),
        ("subject_kind", json!("PLAYLIST"), "UnknownSubject", "ITEM, CREATOR or CATEGORY"),
        ("event_time", json!(APPENDED / 1_000), "AbsurdTime", "milliseconds"),
        ("event_time", json!(APPENDED + 3_600_001), "FutureTime", "are allowed"),
        ("kind", json!(3), "Json", "feedback-event"),
    ] {
        let mut broken = valid.clone();
        broken[field] = value;
        let rejection = decode(&broken).unwrap_err();
        assert_eq!(rejection.class, class, "{broken}");
        assert!(rejection.message.contains(word), "{}", rejection.message);
        let mut missing = valid.clone();
        missing.as_object_mut().unwrap().remove(field);
        let needed = !matches!(field, "surface");
        assert_eq!(decode(&missing).is_err(), needed, "without {field}");
    }
}
