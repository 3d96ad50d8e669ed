//! Who may do what: one key, shown as `authorization: bearer KEY`.

use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};

use super::answer::Refusal;
use crate::config::GatewayConfig;

/// What a call is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Asks for a list, or for users to ask for: tells what people watch.
    Ask,
    /// Sends an event or starts an action.
    Change,
}

/// Knows the key.
pub struct Keeper {
    /// Of the key; none where nobody may do anything. Hashes are of one length and tell nothing by how
    /// far they agree, so that they can be compared as they are, and in constant time.
    key: Option<[u8; 32]>,
    open_recommendations: bool,
}

impl Keeper {
    /// As it is configured.
    pub fn new(config: &GatewayConfig) -> Self {
        let key = config.api_key.expose();
        Self {
            key: (!key.is_empty()).then(|| Sha256::digest(key).into()),
            open_recommendations: config.open_recommendations,
        }
    }

    /// Whether nothing can be changed through it at all.
    pub fn is_read_only(&self) -> bool {
        self.key.is_none()
    }

    /// What lists cost: `open`, `key`, or `closed` where there is no key to show.
    pub fn recommendations(&self) -> &'static str {
        match (self.open_recommendations, self.key) {
            (true, _) => "open",
            (false, Some(_)) => "key",
            (false, None) => "closed",
        }
    }

    /// Lets a call pass.
    ///
    /// # Errors
    /// 403 where nobody may, 401 where the key is missing or another.
    pub fn admit(&self, deed: Deed, headers: &HeaderMap) -> Result<(), Refusal> {
        if deed == Deed::Ask && self.open_recommendations {
            return Ok(());
        }
        let Some(key) = &self.key else {
            return Err(Refusal::forbidden(
                "this gateway is read-only: set gateway.api_key (DRIFTLINE_GATEWAY__API_KEY) and \
                 start it again",
            ));
        };
        let Some(given) = bearer(headers) else {
            return Err(Refusal::unauthorized(
                "show the key: send the header `authorization: bearer KEY`, with gateway.api_key",
            ));
        };
        let given: [u8; 32] = Sha256::digest(given).into();
        if openssl::memcmp::eq(key, &given) {
            Ok(())
        } else {
            Err(Refusal::unauthorized("the key is another than gateway.api_key"))
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}
