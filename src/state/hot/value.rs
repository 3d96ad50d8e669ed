//! What is stored for one user: where it comes from, how far it is folded, the state's bytes.

use crate::event::EventTopic;
use crate::feature::{FoldRules, STATE_VERSION};
use crate::ids::stable_hash;

/// Version of the layout below. Values of another version are overwritten, and not read.
const FORMAT: u8 = 2;
/// Format (1), checksum (8), identity (8), next offsets of watch, click and feedback
/// events (8 each), shard (4); big-endian. `put.lua` reads the same.
const HEADER: usize = 45;

/// Bytes in Redis that are no value of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a value of the hot tier: {0}")]
pub struct HotDamage(&'static str);

/// How far a state is folded: the next offsets of the event topics. States of one identity are
/// comparable by it alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// Every watch event below this offset is in the state.
    pub watch: i64,
    /// Every click event below this offset is in the state.
    pub click: i64,
    /// Every feedback event below this offset is in the state.
    pub feedback: i64,
}

impl Version {
    /// Whether every event of `other` is in this one too.
    pub fn covers(self, other: Self) -> bool {
        EventTopic::ALL.iter().all(|&topic| self.of(topic) >= other.of(topic))
    }

    /// Of one topic.
    pub fn of(self, topic: EventTopic) -> i64 {
        match topic {
            EventTopic::Watch => self.watch,
            EventTopic::Click => self.click,
            EventTopic::Feedback => self.feedback,
        }
    }

    /// How far a topic is folded, for each.
    pub fn new(next_offset: impl Fn(EventTopic) -> i64) -> Self {
        let [watch, click, feedback] = EventTopic::ALL.map(next_offset);
        Self { watch, click, feedback }
    }
}

/// What a state is folded from, and how: cluster, topics, partition, rules. States of another
/// identity have nothing to do with this log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HotIdentity(u64);

impl HotIdentity {
    /// Of a store's identity and rules.
    pub fn of(folded_from: &str, rules: &FoldRules) -> Self {
        let FoldRules { history_limit, ttl_days } = rules;
        let text = format!("{folded_from}; {history_limit}, {ttl_days}; {STATE_VERSION}");
        Self(stable_hash(text.as_bytes()))
    }
}

/// A user's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HotValue<'a> {
    /// What it is folded from.
    pub identity: HotIdentity,
    /// How far.
    pub version: Version,
    /// The user's shard.
    pub shard: i32,
    /// The bytes of a [`UserState`](crate::feature::UserState).
    pub state: &'a [u8],
}

impl<'a> HotValue<'a> {
    /// As it is stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + self.state.len());
        out.push(FORMAT);
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.identity.0.to_be_bytes());
        let offsets = EventTopic::ALL.map(|topic| self.version.of(topic).to_be_bytes());
        out.extend_from_slice(offsets.as_flattened());
        out.extend_from_slice(&self.shard.to_be_bytes());
        out.extend_from_slice(self.state);
        let checksum = stable_hash(&out[9..]).to_be_bytes();
        out[1..9].copy_from_slice(&checksum);
        out
    }

    /// Reads a value, borrowing the state.
    ///
    /// # Errors
    /// [`HotDamage`] where the bytes are none of ours: cut, changed, or of another format.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, HotDamage> {
        let (&[format, ref rest @ ..], state) =
            bytes.split_first_chunk::<HEADER>().ok_or(HotDamage("it is cut"))?;
        if format != FORMAT {
            return Err(HotDamage("another format"));
        }
        let word = |n: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&rest[n * 8..n * 8 + 8]);
            u64::from_be_bytes(word)
        };
        if word(0) != stable_hash(&bytes[9..]) {
            return Err(HotDamage("its checksum is wrong"));
        }
        let offset = |n| i64::try_from(word(n)).map_err(|_| HotDamage("an offset is negative"));
        Ok(Self {
            identity: HotIdentity(word(1)),
            version: Version { watch: offset(2)?, click: offset(3)?, feedback: offset(4)? },
            shard: i32::from_be_bytes([rest[40], rest[41], rest[42], rest[43]]),
            state,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identity() -> HotIdentity {
        HotIdentity::of("cluster a, partition 3 of 8", &FoldRules::default())
    }

    proptest! {
        #[test]
        fn a_value_reads_back(
            offsets in any::<[u32; 3]>(), shard in any::<i32>(),
            state in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let version = Version::new(|topic| i64::from(offsets[topic as usize]) << 31);
            let value = HotValue { identity: identity(), version, shard, state: &state };
            let bytes = value.encode();
            prop_assert_eq!(HotValue::decode(&bytes), Ok(value));
        }

        #[test]
        fn a_value_that_is_changed_or_cut_anywhere_is_an_error(
            at in 0..65_usize, by in 1..=255_u8, cut in 0..65_usize,
        ) {
            let version = Version { watch: 5, click: 7, feedback: 9 };
            let value = HotValue { identity: identity(), version, shard: 3, state: &[9; 20] };
            let mut bytes = value.encode();
            prop_assert!(HotValue::decode(&bytes[..cut]).is_err());
            bytes[at] ^= by;
            prop_assert!(HotValue::decode(&bytes).is_err());
        }

        #[test]
        fn any_bytes_are_a_value_or_an_error(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            prop_assert!(HotValue::decode(&bytes).is_err());
        }
    }

    #[test]
    fn other_rules_and_other_logs_are_other_identities() {
        let rules = FoldRules::default();
        let longer = FoldRules { ttl_days: rules.ttl_days + 1, ..rules };
        assert_ne!(HotIdentity::of("a", &rules), HotIdentity::of("a", &longer));
        assert_ne!(HotIdentity::of("a", &rules), HotIdentity::of("b", &rules));
    }

    #[test]
    fn a_version_covers_another_only_in_all_topics() {
        let at = |watch, click| Version { watch, click, feedback: 5 };
        assert!(!at(6, 6).covers(Version { feedback: 6, ..at(5, 5) }));
        assert!(at(5, 5).covers(at(5, 5)));
        assert!(at(6, 5).covers(at(5, 5)));
        assert!(!at(6, 4).covers(at(5, 5)));
        assert!(!at(4, 9).covers(at(5, 5)));
    }
}
