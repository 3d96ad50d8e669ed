//! The section `[objects]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::objects::ObjectsSettings;

/// The object store: where the lake is, and whatever else must outlive a machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct ObjectsConfig {
    /// `file:///folder`, `file://relative/folder` or `s3://bucket/prefix`.
    pub uri: String,
    /// URL of an S3 that is not Amazon's; empty for Amazon's.
    pub endpoint: String,
    /// Region of the bucket; empty for that of the environment.
    pub region: String,
    /// PEM file of the authorities that may have signed the endpoint's certificate; empty for those
    /// of the system.
    pub tls_ca: PathBuf,
}

impl Default for ObjectsConfig {
    fn default() -> Self {
        Self {
            uri: "file://.driftline/objects".into(),
            endpoint: String::new(),
            region: String::new(),
            tls_ca: PathBuf::new(),
        }
    }
}

impl ObjectsConfig {
    /// What opens the store.
    pub fn settings(&self) -> ObjectsSettings {
        let Self { uri, endpoint, region, tls_ca } = self.clone();
        ObjectsSettings { uri, endpoint, region, tls_ca }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |message: &str| Err(ConfigError::Invalid(message.into()));
        if !self.uri.starts_with("file://") && !self.uri.starts_with("s3://") {
            return wrong("objects.uri must begin with file:// or s3://");
        }
        let is_url = |url: &str| url.starts_with("http://") || url.starts_with("https://");
        if !self.endpoint.is_empty() && !is_url(&self.endpoint) {
            return wrong("objects.endpoint must begin with http:// or https://");
        }
        if self.endpoint.contains('@') || self.uri.contains('@') {
            return wrong(
                "objects.uri and objects.endpoint hold no credentials: set AWS_ACCESS_KEY_ID and \
                 AWS_SECRET_ACCESS_KEY in the environment",
            );
        }
        Ok(())
    }
}
