//! A store in memory that stops in the middle, for tests of what must survive that.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};

use super::Objects;

/// What outlives a store that stops.
pub(crate) type Memory = Arc<InMemory>;

/// A store over `inner` that stops before, or after, its `left`-th write or deletion.
pub(crate) fn mortal(inner: &Memory, left: i64, after: bool) -> Arc<Objects> {
    let left = Arc::new(AtomicI64::new(left));
    let store = Mortal { inner: Arc::clone(inner), left, after };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build();
    let Ok(runtime) = runtime else { unreachable!("tests have threads") };
    Arc::new(Objects { store: Arc::new(store), runtime })
}

/// Ends before, or after, its so-many-th write or deletion, and does nothing from then on.
#[derive(Debug)]
struct Mortal {
    inner: Arc<InMemory>,
    left: Arc<AtomicI64>,
    after: bool,
}

impl std::fmt::Display for Mortal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("mortal")
    }
}

fn dead() -> object_store::Error {
    object_store::Error::Generic { store: "mortal", source: "dead".into() }
}

#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Lives,
    DiesBefore,
    DiesAfter,
}

fn fate(left: &AtomicI64, after: bool) -> Fate {
    match left.fetch_sub(1, Ordering::SeqCst) {
        n if n > 1 => Fate::Lives,
        1 if after => Fate::DiesAfter,
        _ => Fate::DiesBefore,
    }
}

#[async_trait::async_trait]
impl ObjectStore for Mortal {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        match fate(&self.left, self.after) {
            Fate::DiesBefore => Err(dead()),
            Fate::Lives => self.inner.put_opts(location, payload, options).await,
            Fate::DiesAfter => {
                self.inner.put_opts(location, payload, options).await?;
                Err(dead())
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        Err(dead())
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        if self.left.load(Ordering::SeqCst) <= 0 {
            return Err(dead());
        }
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        let (inner, left, after) = (Arc::clone(&self.inner), Arc::clone(&self.left), self.after);
        locations
            .then(move |location| {
                let (inner, fate) = (Arc::clone(&inner), fate(&left, after));
                async move {
                    let location = location?;
                    if fate == Fate::DiesBefore {
                        return Err(dead());
                    }
                    let one = futures_util::stream::once(async { Ok(location) }).boxed();
                    let deleted = inner.delete_stream(one).next().await.unwrap_or(Err(dead()));
                    if fate == Fate::DiesAfter { Err(dead()) } else { deleted }
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> StoreResult<()> {
        Err(dead())
    }
}
