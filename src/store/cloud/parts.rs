//! Large objects in parts, with bounded memory: a part is read, sent and forgotten.
//!
//! 1. Where the key must be free, look first: nobody waits for hours to hear that it is taken.
//! 2. Begin the upload; from here on, every way out but success ends it, so that no parts are left
//!    that cost money and that no listing shows.
//! 3. Fill a part, take memory for it, send it. Several parts are on their way at the same time.
//! 4. Complete the upload under the condition. When that fails, its outcome is unknown: look.
//! 5. Prove the whole.

use crate::store::{
    BlobStore, Condition, StoreError, Stored,
    address::Cloud,
    cloud::{
        CloudStore,
        call::Call,
        sums::Sums,
        upload::{Gatherer, Writing},
    },
    config::{ConditionalWrites, ProofChoice},
    proof::{Checksum, Proof},
    transfer::part_bytes,
};
use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, header::IF_NONE_MATCH};
use object_store::{
    MultipartUpload, PutMultipartOptions, PutPayload, PutResult,
    retry::{RetryContext, RetryFailure, RetryPolicy as PartRetries},
};
use std::sync::Arc;
use tokio::task::JoinSet;

/// Parts of one object that are on their way at the same time.
const PARTS_AT_ONCE: usize = 8;

const GENERATION_MATCH: HeaderName = HeaderName::from_static("x-goog-if-generation-match");

/// An upload that is ended when it is dropped without being completed.
struct Open {
    upload: Option<Box<dyn MultipartUpload>>,
    call: Arc<Call>,
}

impl Open {
    fn upload(&mut self) -> &mut dyn MultipartUpload {
        &mut **self.upload.as_mut().expect("an upload is taken only at its end")
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(mut upload) = self.upload.take() else { return };
        let call = self.call.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = call.run(upload.abort()).await {
                    // A rule of the bucket for incomplete uploads clears it away.
                    tracing::debug!(%error, "an unfinished upload could not be ended");
                }
            });
        }
    }
}

impl CloudStore {
    pub(super) async fn write_parts(
        &self,
        writing: Writing<'_>,
        mut body: Gatherer,
    ) -> Result<Stored, StoreError> {
        let Writing { key, size_bytes, condition, .. } = writing;
        match condition {
            Condition::None => {}
            Condition::IfAbsent => self.must_be_absent(key).await?,
            Condition::IfMatch(_) => {
                let what = "objects in parts cannot be compared and replaced";
                return Err(StoreError::refused(self.name(), key, what));
            }
        }
        let mut open = self.begin(&writing).await?;
        let (sums, all_proven) = self.send_parts(&writing, &mut body, &mut open).await?;
        if sums.bytes as u64 != size_bytes || !body.has_ended().await? {
            return Err(self.wrong_size(key, size_bytes));
        }
        let call = Call::new(self.complete_headers(condition));
        match call.run(open.upload().complete()).await {
            Ok(put) => {
                drop(open.upload.take());
                self.prove_parts(&writing, put, &sums, all_proven, &call).await
            }
            Err(error) => {
                let error = self.fault("completing", key, condition, &error, &call);
                // Only a later try of the client can have met what an earlier one has made.
                let taken = matches!(error, StoreError::AlreadyExists(_));
                if taken && call.notes().requests < 2 {
                    return Err(error);
                }
                let stored = self.look_after(&writing, &sums, error).await?;
                drop(open.upload.take());
                Ok(stored)
            }
        }
    }

    async fn begin(&self, writing: &Writing<'_>) -> Result<Open, StoreError> {
        let Writing { key, attributes, condition, .. } = writing;
        let path = self.path(key)?;
        let begin = |_| async {
            let call = Call::new(HeaderMap::new());
            let policy = Arc::new(PartPolicy { store: self.clone() });
            let options = PutMultipartOptions::from(attributes.clone()).with_retry_policy(policy);
            let begun = call.run(self.shared.client.put_multipart_opts(&path, options)).await;
            let upload = begun.map_err(|e| self.fault("writing", key, condition, &e, &call))?;
            Ok(Open { upload: Some(upload), call: Call::new(HeaderMap::new()) })
        };
        self.shared.retries.run(&*self.shared.clock, begin).await
    }

    /// Sends all parts. Gives the checksums of the whole, and whether each part was proven.
    async fn send_parts(
        &self,
        writing: &Writing<'_>,
        body: &mut Gatherer,
        open: &mut Open,
    ) -> Result<(Sums, bool), StoreError> {
        let Writing { key, size_bytes, ref known, .. } = *writing;
        let cloud = self.shared.cloud;
        let (mut whole, mut all_proven) = (Sums::of(cloud, &[], None), true);
        // Dropped with what is on its way when something fails.
        let mut sending = JoinSet::new();
        let mut left = size_bytes;
        while left > 0 {
            let wanted = part_bytes(size_bytes).min(left);
            let pieces = body.take(usize::try_from(wanted).unwrap_or(usize::MAX)).await?;
            // Only now: whoever holds memory must not wait for a body, which may wait for memory.
            let memory = self.shared.memory.take(wanted).await;
            let begin = size_bytes - left;
            let (sums, pieces) = self.sums(pieces, known.of(begin..begin + wanted)).await;
            if sums.bytes as u64 != wanted {
                return Err(self.wrong_size(key, size_bytes));
            }
            (whole, left) = (whole.join(sums), left - wanted);
            let part = open.upload().put_part(PutPayload::from_iter(pieces));
            let (store, key, call) =
                (self.clone(), key.clone(), Call::new(sums.headers(cloud, true)));
            sending.spawn(async move {
                let sent = call.run(part).await;
                drop(memory);
                sent.map_err(|e| store.fault("writing", &key, &Condition::None, &e, &call))?;
                Ok::<_, StoreError>(sums.proven_by(cloud, &call.notes().headers).is_some())
            });
            while sending.len() >= PARTS_AT_ONCE {
                all_proven &= sent(sending.join_next().await)?;
            }
        }
        while !sending.is_empty() {
            all_proven &= sent(sending.join_next().await)?;
        }
        Ok((whole, all_proven))
    }

    fn complete_headers(&self, condition: &Condition) -> HeaderMap {
        let supported = self.shared.conditional_writes == ConditionalWrites::Supported;
        if *condition != Condition::IfAbsent || !supported {
            return HeaderMap::new();
        }
        let header = match self.shared.cloud {
            Cloud::S3 | Cloud::Azure => (IF_NONE_MATCH, HeaderValue::from_static("*")),
            Cloud::Gcs => (GENERATION_MATCH, HeaderValue::from_static("0")),
        };
        HeaderMap::from_iter([header])
    }

    async fn prove_parts(
        &self,
        writing: &Writing<'_>,
        put: PutResult,
        sums: &Sums,
        all_proven: bool,
        call: &Call,
    ) -> Result<Stored, StoreError> {
        let answer = match (self.shared.cloud, self.shared.proof) {
            // Azure has no checksum of a whole that was sent in blocks; that of each was proven.
            (Cloud::Azure, ProofChoice::Auto | ProofChoice::StoreOnly) if all_proven => {
                let (size_bytes, crc64) = (writing.size_bytes, sums.crc64);
                let proof = Proof::Checksum(Checksum::Md5);
                return Ok(Stored { size_bytes, etag: put.e_tag, crc64, proof });
            }
            (Cloud::Gcs, _) if sums.proven_by(Cloud::Gcs, &call.notes().headers).is_some() => {
                call.notes().headers
            }
            (Cloud::S3 | Cloud::Gcs | Cloud::Azure, _) => {
                self.checksum_headers(writing.key).await?
            }
        };
        self.prove(writing, put, sums, &answer).await
    }

    /// After a failed completion: whether the object is there nevertheless.
    async fn look_after(
        &self,
        writing: &Writing<'_>,
        sums: &Sums,
        error: StoreError,
    ) -> Result<Stored, StoreError> {
        let Writing { key, size_bytes, condition, .. } = *writing;
        match self.look(key, size_bytes, sums.crc64).await {
            Ok(Some(meta)) => {
                let (etag, crc64) = (meta.etag, sums.crc64);
                Ok(Stored { size_bytes, etag, crc64, proof: Proof::ReadBack })
            }
            // Somebody was faster. Azure drops the blocks of all others then.
            Ok(None) if *condition == Condition::IfAbsent => {
                Err(StoreError::AlreadyExists(key.clone()))
            }
            Ok(None) | Err(_) => Err(error),
        }
    }
}

fn sent(
    joined: Option<Result<Result<bool, StoreError>, tokio::task::JoinError>>,
) -> Result<bool, StoreError> {
    let joined = joined.expect("there is a part on its way");
    joined.expect("sending a part does not panic and is not stopped")
}

/// When a part is sent again: as any other call is.
#[derive(Debug)]
struct PartPolicy {
    store: CloudStore,
}

#[async_trait]
impl PartRetries for PartPolicy {
    async fn retry(&self, context: RetryContext) -> bool {
        let lasting = match context.failure {
            RetryFailure::Status(status) => {
                status.is_client_error() && !matches!(status.as_u16(), 400 | 408 | 409 | 429)
            }
            RetryFailure::Transport(_) => false,
            _ => true,
        };
        let shared = &self.store.shared;
        let failures = u32::try_from(context.attempt).unwrap_or(u32::MAX);
        if lasting || !shared.retries.allows(failures, context.elapsed) {
            return false;
        }
        shared.clock.sleep(shared.retries.pause(failures)).await;
        true
    }
}
