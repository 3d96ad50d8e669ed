//! What users refuse and take back, against an oracle that looks at all they ever said.

use super::*;
use crate::event::{FeedbackKind, Subject, SubjectKind};

/// Time, whether it is taken back, kind of subject, number of subject.
type Word = (i64, bool, u8, u8);

fn word() -> impl Strategy<Value = Word> {
    (at(), any::<bool>(), 0..3u8, 0..5u8)
}

fn subject_kind(kind: u8) -> SubjectKind {
    SubjectKind::ALL[usize::from(kind)]
}

fn operand((at, undo, kind, number): Word) -> Vec<u8> {
    // As long as ids are: empty ones are refused before.
    let id = format!("item-{number}");
    let verdict = Verdict {
        at: EventTime::from_millis(at),
        kind: if undo { FeedbackKind::Undo } else { FeedbackKind::NotInterested },
        subject: Subject { kind: subject_kind(kind), id: &id },
    };
    let mut bytes = Vec::new();
    FoldRecord::Verdict(verdict).encode(&mut bytes);
    bytes
}

/// Folds operands in groups of the given sizes; every state but the last is written and read.
fn fold_all(operands: &[Vec<u8>], sizes: &[usize], rules: &FoldRules) -> Vec<u8> {
    let mut bytes = UserState::default().encode();
    let (mut sizes, mut rest) = (sizes.iter().cycle(), operands);
    while !rest.is_empty() {
        let (now, later) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
        let (before, operand) = (bytes.clone(), now.concat());
        let mut user = UserState::decode(&before).unwrap();
        user.fold(&operand, rules).unwrap();
        (bytes, rest) = (user.encode(), later);
    }
    bytes
}

fn refused(bytes: &[u8]) -> BTreeSet<(SubjectKind, String)> {
    let user = UserState::decode(bytes).unwrap();
    user.refused().map(|subject| (subject.kind, subject.id.to_owned())).collect()
}

/// The subjects whose last word is a refusal, of words that are not too old.
fn naive(words: &[Word], rules: &FoldRules) -> BTreeSet<(SubjectKind, String)> {
    let newest = words.iter().map(|word| word.0).max().unwrap_or(0);
    let floor = (newest - i64::from(rules.ttl_days) * DAY_MS).div_euclid(PERIOD_MS) * PERIOD_MS;
    let mut last: BTreeMap<(u8, u8), (i64, bool)> = BTreeMap::new();
    for &(at, undo, kind, number) in words {
        let word = last.entry((kind, number)).or_insert((at, undo));
        *word = (*word).max((at, undo));
    }
    let held = last.into_iter().filter(|(_, (at, undo))| !undo && *at >= floor);
    held.map(|((kind, n), _)| (subject_kind(kind), format!("item-{n}"))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_refused_is_the_last_word_on_each_subject_in_whichever_order_words_arrive(
        words in vec((word(), any::<u64>()), 0..40),
        events in log(),
        sizes in vec(1..9usize, 1..6),
        rules in rules(),
    ) {
        let said: Vec<Word> = words.iter().map(|(word, _)| *word).collect();
        let mut plain: Vec<Vec<u8>> = events
            .iter()
            .map(|event| {
                let mut bytes = Vec::new();
                event.operand(Source::Watch, &mut bytes);
                bytes
            })
            .collect();
        // The events in their order, the words anywhere among them, each sent twice.
        let mut mixed = plain.clone();
        for (word, place) in words.iter().chain(&words) {
            mixed.insert((*place % (mixed.len() as u64 + 1)) as usize, operand(*word));
        }
        plain.extend(said.iter().map(|word| operand(*word)));
        let bytes = fold_all(&mixed, &sizes, &rules);
        prop_assert_eq!(&bytes, &fold_all(&plain, &[usize::MAX], &rules));
        prop_assert_eq!(refused(&bytes), naive(&said, &rules));
        // What was done is as it would be without a word.
        let mut user = UserState::decode(&bytes).unwrap();
        let heard = UserState::last_heard(&bytes).unwrap();
        prop_assert_eq!(heard.feedback, said.iter().map(|w| EventTime::from_millis(w.0)).max());
        user.forget_refusals();
        let silent = fold_plainly(&[events, vec![]], &rules);
        prop_assert_eq!(user.encode(), silent.clone());
        let mut user = UserState::decode(&silent).unwrap();
        user.forget_events();
        prop_assert_eq!(user.encode(), UserState::default().encode());
    }

    #[test]
    fn damaged_refusals_are_an_error_or_read_but_never_panic(
        words in vec(word(), 1..20),
        damage in vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..4),
    ) {
        let operands: Vec<Vec<u8>> = words.iter().map(|word| operand(*word)).collect();
        let mut bytes = fold_all(&operands, &[3], &FoldRules::default());
        for (place, byte, insert) in damage {
            let at = place.index(bytes.len());
            if insert {
                bytes.insert(at, byte);
            } else {
                bytes[at] = byte;
            }
        }
        let _ = UserState::last_heard(&bytes);
        if let Ok(mut user) = UserState::decode(&bytes) {
            let operand = operands.concat();
            let _ = user.fold(&operand, &FoldRules::default());
            user.encode();
        }
    }
}

#[test]
fn the_newest_refusals_are_kept_and_the_same_in_any_order() {
    let count = MAX_REFUSALS as u32 + 200;
    let rules = FoldRules::default();
    let operand = |n: u32| {
        let mut bytes = Vec::new();
        let subject = Subject { kind: SubjectKind::Creator, id: &format!("c{n}") };
        // The creators at the ends are named again, the oldest among the newest.
        let at = EventTime::from_millis(BASE + i64::from(if n < 10 { n + count } else { n }));
        let verdict = Verdict { at, kind: FeedbackKind::NotInterested, subject };
        FoldRecord::Verdict(Verdict { at: EventTime::from_millis(BASE), ..verdict })
            .encode(&mut bytes);
        FoldRecord::Verdict(verdict).encode(&mut bytes);
        bytes
    };
    let forward: Vec<Vec<u8>> = (0..count).map(operand).collect();
    let backward: Vec<Vec<u8>> = (0..count).rev().map(operand).collect();
    let bytes = fold_all(&forward, &[7], &rules);
    assert_eq!(bytes, fold_all(&backward, &[100], &rules));
    let kept: BTreeSet<String> = refused(&bytes).into_iter().map(|(_, id)| id).collect();
    let newest = (0..10).chain(count - (MAX_REFUSALS as u32 - 10)..count);
    assert_eq!(kept, newest.map(|n| format!("c{n}")).collect());
}

#[test]
fn a_state_in_which_nothing_was_refused_has_the_bytes_that_it_always_had() {
    let bytes = fold_plainly(&[vec![watch(BASE, 1, 1)], vec![]], &FoldRules::default());
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "0281d095ffbc3101000104686f6d6501010000000000000080d095ffbc310100\
               00066974656d2d31b464000001009ee91c010090bf05000001be05808080020100"
    );
}
