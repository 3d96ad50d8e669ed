//! An object store: a local directory or S3, named by one URI. Blocking.
//!
//! Enters: keys (`a/b/c`, relative to the URI) and bytes. Leaves: the bytes of then. What is under a
//! key is whole or not there, and is only ever made, never changed: writers that race find out who
//! was first. Knows nothing about what objects mean.

#[cfg(test)]
pub(crate) mod mortal;
mod openssl_crypto;
#[cfg(test)]
pub(crate) mod staged;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    ClientOptions, Error as StoreError, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions,
    RetryConfig,
};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;

use self::openssl_crypto::OpensslCrypto;

/// How long a connection to S3 may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one request to S3 may take. Shorter: a large object over a slow line never arrives.
/// Longer: a server that hangs is noticed later.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// How long S3 is tried again before an operation fails: the caller tries again by its own rule.
const RETRY_FOR: Duration = Duration::from_secs(30);
/// Requests under way at a time where many objects are read or deleted.
const CONCURRENT: usize = 16;

/// Where objects are, and how to reach it.
#[derive(Clone, Default)]
pub struct ObjectsSettings {
    /// `file:///folder` or `s3://bucket/prefix`.
    pub uri: String,
    /// URL of an S3 that is not Amazon's; empty for Amazon's.
    pub endpoint: String,
    /// Region of the bucket.
    pub region: String,
    /// PEM file of the authorities that may have signed the endpoint's certificate; empty for those
    /// of the system.
    pub tls_ca: PathBuf,
}

/// Why an object could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The settings make no sense: stop.
    #[error("{0}")]
    Settings(String),
    /// The store does not let us: stop, and mend the credentials or permissions.
    #[error("{what}: the object store refuses: {reason}")]
    Refused {
        /// What was tried.
        what: String,
        /// What the store said.
        reason: String,
    },
    /// Anything that may pass (no connection, no answer in time, no space left): try again.
    #[error("{what}: {reason}")]
    Unavailable {
        /// What was tried.
        what: String,
        /// What the store said.
        reason: String,
    },
}

impl ObjectError {
    /// Whether trying again later may help.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    fn of(what: String, error: &StoreError) -> Self {
        // The store's own text names the cause after a colon, once a layer.
        let reason = error.to_string();
        match error {
            StoreError::PermissionDenied { .. }
            | StoreError::Unauthenticated { .. }
            | StoreError::NotSupported { .. }
            | StoreError::InvalidPath { .. } => Self::Refused { what, reason },
            _ => Self::Unavailable { what, reason },
        }
    }
}

/// What came of making an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is ours.
    New,
    /// There was one of this key before; it is unchanged.
    Exists,
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectInfo {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// When the store took it, by its clock: milliseconds since the epoch.
    pub modified_ms: i64,
}

/// A store of objects.
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    runtime: Runtime,
}

impl Objects {
    /// Opens the store that `settings` name. A local folder is made; S3 is first asked when an
    /// object is. Credentials come from the environment (`AWS_ACCESS_KEY_ID` and its like, or an
    /// instance's role).
    ///
    /// # Errors
    /// [`ObjectError::Settings`] where the URI names no store, or its folder cannot be made.
    pub fn open(settings: &ObjectsSettings) -> Result<Self, ObjectError> {
        let uri = settings.uri.as_str();
        let store: Arc<dyn ObjectStore> = if let Some(folder) = uri.strip_prefix("file://") {
            Arc::new(open_folder(folder)?)
        } else if let Some(rest) = uri.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let s3 = open_s3(settings, bucket)?;
            Arc::new(PrefixStore::new(s3, Path::from(prefix)))
        } else {
            let message = format!(
                "objects.uri is {uri:?}; give file:///an/absolute/folder, file://a/relative/one or \
                 s3://bucket/prefix"
            );
            return Err(ObjectError::Settings(message));
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("objects")
            .enable_all()
            .build()
            .map_err(|e| ObjectError::Settings(format!("starting a thread for objects: {e}")))?;
        Ok(Self { store, runtime })
    }

    /// Makes an object, whole and durable, unless there is one of this key.
    ///
    /// # Errors
    /// [`ObjectError`]; the object may still have been made, where only the answer was lost.
    pub fn create(&self, key: &str, bytes: Bytes) -> Result<Created, ObjectError> {
        self.runtime.block_on(write(&*self.store, key, bytes))
    }

    /// Makes several objects side by side: a store takes its time for each. What came of each, in
    /// their order.
    ///
    /// # Errors
    /// The first [`ObjectError`]; others may have been made.
    pub fn create_all(&self, all: Vec<(&str, Bytes)>) -> Result<Vec<Created>, ObjectError> {
        let writes = all.into_iter().map(|(key, bytes)| write(&*self.store, key, bytes));
        self.runtime.block_on(futures_util::stream::iter(writes).buffered(CONCURRENT).try_collect())
    }

    /// An object's bytes; `None` where there is none.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn get(&self, key: &str) -> Result<Option<Bytes>, ObjectError> {
        self.runtime.block_on(read(&*self.store, key))
    }

    /// Several objects in the order of their keys, read side by side.
    ///
    /// # Errors
    /// The first [`ObjectError`].
    pub fn get_all(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, ObjectError> {
        let reads = keys.iter().map(|key| read(&*self.store, key));
        self.runtime.block_on(futures_util::stream::iter(reads).buffered(CONCURRENT).try_collect())
    }

    /// Hands several objects on, one after the other in the order of their keys, each with the SHA-256
    /// of its bytes, while up to `ahead` more are being read and hashed.
    ///
    /// # Errors
    /// The first [`ObjectError`], or what `each` returns.
    pub fn get_each<E: From<ObjectError>>(
        &self,
        keys: &[String],
        ahead: usize,
        mut each: impl FnMut(Option<(Bytes, String)>) -> Result<(), E>,
    ) -> Result<(), E> {
        let one = |key: String| {
            let store = Arc::clone(&self.store);
            // On threads of its own: whoever takes the bytes has enough to do.
            self.runtime.spawn(async move {
                let Some(bytes) = read(&*store, &key).await? else { return Ok(None) };
                let hashed = tokio::task::spawn_blocking(move || (sha256_hex(&bytes), bytes));
                let (sha256, bytes) = hashed.await.map_err(|error| died(&key, &error))?;
                Ok(Some((bytes, sha256)))
            })
        };
        let reads = futures_util::stream::iter(keys.iter().cloned()).map(|key| {
            let name = key.clone();
            let task = one(key);
            async move { task.await.map_err(|error| died(&name, &error))? }
        });
        let mut reads = std::pin::pin!(reads.buffered(ahead.max(1)));
        while let Some(found) = self.runtime.block_on(reads.next()) {
            each(found?)?;
        }
        Ok(())
    }

    /// All objects below `folder`, by key.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn list(&self, folder: &str) -> Result<Vec<ObjectInfo>, ObjectError> {
        let folder = Path::from(folder);
        let all = self.store.list(Some(&folder)).map_ok(|object| ObjectInfo {
            key: object.location.to_string(),
            bytes: object.size,
            modified_ms: object.last_modified.timestamp_millis(),
        });
        let mut all: Vec<ObjectInfo> = self
            .runtime
            .block_on(all.try_collect())
            .map_err(|error| ObjectError::of(format!("listing {folder}"), &error))?;
        all.sort();
        Ok(all)
    }

    /// Deletes an object; one that is not there is as well.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn delete(&self, key: &str) -> Result<(), ObjectError> {
        match self.runtime.block_on(self.store.delete(&Path::from(key))) {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(ObjectError::of(format!("deleting {key}"), &error)),
        }
    }
}

/// A task that did not end as tasks do.
fn died(key: &str, error: &tokio::task::JoinError) -> ObjectError {
    ObjectError::Unavailable { what: format!("reading {key}"), reason: error.to_string() }
}

async fn write(store: &dyn ObjectStore, key: &str, bytes: Bytes) -> Result<Created, ObjectError> {
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    match store.put_opts(&Path::from(key), bytes.into(), options).await {
        Ok(_) => Ok(Created::New),
        // S3 says Precondition where If-None-Match fails, also to a repeated request whose first
        // answer was lost.
        Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
            Ok(Created::Exists)
        }
        Err(error) => Err(ObjectError::of(format!("writing {key}"), &error)),
    }
}

async fn read(store: &dyn ObjectStore, key: &str) -> Result<Option<Bytes>, ObjectError> {
    let read = async { store.get(&Path::from(key)).await?.bytes().await };
    match read.await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(ObjectError::of(format!("reading {key}"), &error)),
    }
}

fn open_folder(folder: &str) -> Result<LocalFileSystem, ObjectError> {
    let failed = |e: String| {
        ObjectError::Settings(format!("objects.uri: the folder {folder:?} cannot be used: {e}"))
    };
    if folder.is_empty() {
        return Err(failed("it has no name".into()));
    }
    std::fs::create_dir_all(folder).map_err(|e| failed(e.to_string()))?;
    let store = LocalFileSystem::new_with_prefix(folder).map_err(|e| failed(e.to_string()))?;
    // Progress is what the store says, so what it said must survive a power cut.
    Ok(store.with_fsync(true))
}

fn open_s3(
    settings: &ObjectsSettings,
    bucket: &str,
) -> Result<object_store::aws::AmazonS3, ObjectError> {
    let wrong = |e: String| ObjectError::Settings(format!("objects: {e}"));
    let mut client = ClientOptions::new()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_timeout(REQUEST_TIMEOUT)
        .with_allow_http(settings.endpoint.starts_with("http://"));
    if !settings.tls_ca.as_os_str().is_empty() {
        let shown = settings.tls_ca.display();
        let pem = std::fs::read(&settings.tls_ca)
            .map_err(|e| wrong(format!("tls_ca {shown} cannot be read: {e}")))?;
        let all = object_store::Certificate::from_pem_bundle(&pem)
            .map_err(|e| wrong(format!("tls_ca {shown} is no PEM file of certificates: {e}")))?;
        client = all.into_iter().fold(client, ClientOptions::with_root_certificate);
    }
    let retry = RetryConfig { retry_timeout: RETRY_FOR, ..RetryConfig::default() };
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(client)
        .with_crypto_provider(Arc::new(OpensslCrypto))
        .with_checksum_algorithm(Checksum::SHA256)
        .with_retry(retry);
    if !settings.endpoint.is_empty() {
        builder = builder.with_endpoint(&settings.endpoint);
    }
    if !settings.region.is_empty() {
        builder = builder.with_region(&settings.region);
    } else if builder.get_config_value(&AmazonS3ConfigKey::Region).is_none() {
        builder = builder.with_region("us-east-1");
    }
    builder.build().map_err(|e| wrong(e.to_string()))
}

/// SHA-256 of bytes, in lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
