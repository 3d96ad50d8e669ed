//! A store in memory that asks before each step, for tests of what may come in between.

use std::sync::Arc;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};

use super::Objects;
use super::mortal::Memory;

/// A store over `inner` that calls `ask`, and waits for it, before each read, write, deletion and
/// listing.
pub(crate) fn staged(inner: &Memory, ask: impl Fn() + Send + Sync + 'static) -> Arc<Objects> {
    let store = Staged { inner: Arc::clone(inner), ask: Arc::new(ask) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build();
    let Ok(runtime) = runtime else { unreachable!("tests have threads") };
    Arc::new(Objects { store: Arc::new(store), runtime })
}

struct Staged {
    inner: Memory,
    ask: Arc<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for Staged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("staged")
    }
}

impl std::fmt::Display for Staged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("staged")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Staged {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        (self.ask)();
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        (self.ask)();
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        let (inner, ask) = (Arc::clone(&self.inner), Arc::clone(&self.ask));
        let one = move |location| {
            ask();
            inner.delete_stream(stream::once(async { location }).boxed())
        };
        locations.map(one).flatten().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        (self.ask)();
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        (self.ask)();
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        (self.ask)();
        self.inner.copy_opts(from, to, options).await
    }
}
