//! Newtypes for the names that cross a room's door. A bare `String` or `u64` never does.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

/// Longest user, item, session or event id accepted, in bytes. Ids are kept once per event in
/// every history, so a larger limit lets one bad client inflate the state of everyone.
pub const MAX_ID_BYTES: usize = 256;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// Takes the text as it is; whether it is a valid id is `event::validate`'s question.
            pub fn new(text: impl Into<Box<str>>) -> Self {
                Self(text.into())
            }

            /// The id's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }
    };
}

id!(
    /// A user, as the platform names them. The key of every user-keyed topic.
    UserId
);
id!(
    /// An item (a video), as the platform names it.
    ItemId
);
id!(
    /// A place in the product where items are shown: `home`, `search`, `up_next`.
    Surface
);

/// A 64-bit hash of an id or of a compound key, stable across processes, machines and versions
/// (XXH3, seed 0). What is hashed is said where it is made.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

/// For tables whose keys are [`stable_hash`]es already: a look-up hashes nothing again.
pub type Prehashed = BuildHasherDefault<PrehashedHasher>;

/// Passes a 64-bit key through.
#[derive(Default)]
pub struct PrehashedHasher(u64);

impl Hasher for PrehashedHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = stable_hash(bytes);
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
