//! Texts that are never shown.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(super) const MASK: &str = "********";

/// A text that is never shown.
#[derive(Clone, Default)]
pub struct Secret(String);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Serde's own message would quote what it found.
        let wrong = |_| serde::de::Error::custom("a secret must be a text, in quotes");
        String::deserialize(deserializer).map(Self).map_err(wrong)
    }
}

impl Secret {
    /// The text itself, for the client that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn shown(&self) -> &'static str {
        if self.0.is_empty() { "" } else { MASK }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.shown())
    }
}

/// librdkafka properties, shown with their secrets masked.
#[derive(Clone, Default)]
pub struct Properties(pub BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Any of them may be a secret.
        let texts = BTreeMap::<String, Secret>::deserialize(deserializer)?;
        Ok(Self(texts.into_iter().map(|(key, Secret(value))| (key, value)).collect()))
    }
}

impl Properties {
    fn shown(&self) -> BTreeMap<&str, &str> {
        let secret = |key: &str| {
            ["password", "secret", "pem", "jaas", "token", "oauthbearer.config"]
                .iter()
                .any(|word| key.to_ascii_lowercase().contains(word))
        };
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), if secret(key) { MASK } else { value.as_str() }))
            .collect()
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown().fmt(f)
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.shown().serialize(serializer)
    }
}
