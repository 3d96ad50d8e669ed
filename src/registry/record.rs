//! What is written down, as JSON that says whether it is still what was written: its last field is the
//! SHA-256 of the rest.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::RegistryError;
use crate::objects::sha256_hex;

/// Raised when records can no longer be read as before. A field that older versions need not
/// understand does not raise it: they pass it over.
pub const FORMAT: u32 = 1;

/// The field that holds the hash.
const HASH: &str = "sha256";

/// A record's bytes. The hash is over the compact JSON of all other fields in their order, so that
/// white space does not matter.
pub(super) fn seal(value: &impl Serialize) -> Result<Bytes, serde_json::Error> {
    let mut value = serde_json::to_value(value)?;
    let hash = hash_of(&value)?;
    if let Value::Object(fields) = &mut value {
        fields.insert(HASH.into(), hash.into());
    }
    let mut text = serde_json::to_vec_pretty(&value)?;
    text.push(b'\n');
    Ok(text.into())
}

fn hash_of(value: &Value) -> Result<String, serde_json::Error> {
    Ok(sha256_hex(&serde_json::to_vec(value)?))
}

/// The record that the object `key` holds, if its bytes are those that were sealed.
pub(super) fn open<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, RegistryError> {
    let damaged = |what: String| RegistryError::damaged(key, what);
    let mut value: Value = serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
    // The others keep their order: the hash is over it.
    let hash = value.as_object_mut().and_then(|fields| fields.shift_remove(HASH));
    let found = hash_of(&value).map_err(|e| damaged(e.to_string()))?;
    if hash.as_ref().and_then(Value::as_str) != Some(&found) {
        return Err(damaged("it is not what was written: its SHA-256 is another".into()));
    }
    // Told apart from damage: the bytes are whole, and somebody can read them.
    let format = value.get("format").and_then(Value::as_u64);
    if format != Some(u64::from(FORMAT)) {
        let found = format.map_or("none".to_owned(), |format| format.to_string());
        return Err(RegistryError::Format { key: key.to_owned(), found });
    }
    serde_json::from_value(value).map_err(|e| damaged(e.to_string()))
}
