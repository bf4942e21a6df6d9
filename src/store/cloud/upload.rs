//! Writing to a cloud, in one request or in parts, and proving what was written.

use crate::store::{
    BlobStore, Body, Condition, Contents, ObjectMeta, StoreError, Stored,
    address::Cloud,
    cloud::{
        CloudStore,
        call::Call,
        metadata,
        sums::{Sums, ask_for_checksum},
    },
    config::{ConditionalWrites, ProofChoice},
    key::Key,
    proof::{KnownCrc64, Proof, holds},
    transfer::WHOLE_BYTES_MAX,
    wrap::retry::settle,
};
use bytes::Bytes;
use futures_util::TryStreamExt;
use http::HeaderMap;
use object_store::{Attributes, PutMode, PutOptions, PutPayload, PutResult, UpdateVersion};

/// A body that is taken in pieces of exact sizes.
pub(super) struct Gatherer {
    body: Body,
    rest: Bytes,
}

impl Gatherer {
    pub(super) fn new(body: Body) -> Self {
        Self { body, rest: Bytes::new() }
    }

    /// The next `bytes` bytes, or as many as are left.
    pub(super) async fn take(&mut self, bytes: usize) -> Result<Vec<Bytes>, StoreError> {
        let (mut pieces, mut missing) = (Vec::new(), bytes);
        while missing > 0 {
            if self.rest.is_empty() {
                match self.body.try_next().await? {
                    Some(piece) => self.rest = piece,
                    None => break,
                }
            }
            let piece = self.rest.split_to(missing.min(self.rest.len()));
            missing -= piece.len();
            pieces.push(piece);
        }
        Ok(pieces)
    }

    /// Whether nothing is left.
    pub(super) async fn has_ended(&mut self) -> Result<bool, StoreError> {
        while self.rest.is_empty() {
            match self.body.try_next().await? {
                Some(piece) => self.rest = piece,
                None => return Ok(true),
            }
        }
        Ok(false)
    }
}

/// An object that is being written.
pub(super) struct Writing<'a> {
    pub(super) key: &'a Key,
    pub(super) size_bytes: u64,
    pub(super) attributes: Attributes,
    pub(super) condition: &'a Condition,
    pub(super) known: KnownCrc64,
}

impl CloudStore {
    pub(super) async fn upload(
        &self,
        key: &Key,
        contents: Contents,
        condition: &Condition,
    ) -> Result<Stored, StoreError> {
        let Contents { size_bytes, user_metadata, body, known } = contents;
        let attributes =
            metadata::to_attributes(self.shared.cloud, self.name(), key, &user_metadata)?;
        let writing = Writing { key, size_bytes, attributes, condition, known };
        let body = Gatherer::new(body);
        if size_bytes <= WHOLE_BYTES_MAX {
            self.write_whole(writing, body).await
        } else {
            self.write_parts(writing, body).await
        }
    }

    pub(super) fn wrong_size(&self, key: &Key, size_bytes: u64) -> StoreError {
        let what = format!("the contents do not have {size_bytes} bytes");
        StoreError::unavailable(self.name(), "writing", key, what)
    }

    /// Checksums of pieces, of which one may be known. What the store says that it holds is compared
    /// with them.
    pub(super) async fn sums(
        &self,
        pieces: Vec<Bytes>,
        known_crc64: Option<u64>,
    ) -> (Sums, Vec<Bytes>) {
        let cloud = self.shared.cloud;
        match cloud {
            // As fast as memory.
            Cloud::S3 | Cloud::Gcs => (Sums::of(cloud, &pieces, known_crc64), pieces),
            Cloud::Azure => {
                let work = move || (Sums::of(cloud, &pieces, known_crc64), pieces);
                tokio::task::spawn_blocking(work).await.expect("checksums do not panic")
            }
        }
    }

    async fn write_whole(
        &self,
        writing: Writing<'_>,
        mut body: Gatherer,
    ) -> Result<Stored, StoreError> {
        let Writing { key, size_bytes, .. } = writing;
        let pieces = body.take(usize::try_from(size_bytes).unwrap_or(usize::MAX)).await?;
        // Only now: whoever holds memory must not wait for a body, which may wait for memory.
        let _memory = self.shared.memory.take(size_bytes).await;
        let (sums, pieces) = self.sums(pieces, writing.known.of(0..size_bytes)).await;
        if sums.bytes as u64 != size_bytes || !body.has_ended().await? {
            return Err(self.wrong_size(key, size_bytes));
        }
        let payload = PutPayload::from_iter(pieces);
        let (writing, payload) = (&writing, &payload);
        let put = |failures| async move {
            let call = Call::new(sums.headers(self.shared.cloud, self.shared.unsummed.is_none()));
            let put = self.put_once(writing, payload.clone(), &call).await;
            // The client, too, tries again.
            let unclear = failures > 0 || call.notes().requests > 1;
            let stored = match put {
                Ok(put) => self.prove(writing, put, &sums, &call.notes().headers).await,
                Err(error) => Err(error),
            };
            let look = || self.look(key, size_bytes, sums.crc64);
            settle(stored, unclear, size_bytes, sums.crc64, look).await
        };
        self.shared.retries.run(&*self.shared.clock, put).await
    }

    async fn put_once(
        &self,
        writing: &Writing<'_>,
        payload: PutPayload,
        call: &std::sync::Arc<Call>,
    ) -> Result<PutResult, StoreError> {
        let Writing { key, attributes, condition, .. } = writing;
        let mode = self.mode(key, condition).await?;
        let options = PutOptions { mode, attributes: attributes.clone(), ..PutOptions::default() };
        let path = self.path(key)?;
        let client = self.shared.unsummed.as_ref().unwrap_or(&self.shared.client);
        let put = call.run(client.put_opts(&path, payload, options)).await;
        put.map_err(|error| self.fault("writing", key, condition, &error, call))
    }

    /// How a condition is told to the store; what the store cannot check is looked at here.
    async fn mode(&self, key: &Key, condition: &Condition) -> Result<PutMode, StoreError> {
        let supported = self.shared.conditional_writes == ConditionalWrites::Supported;
        match condition {
            Condition::None => Ok(PutMode::Overwrite),
            Condition::IfAbsent if supported => Ok(PutMode::Create),
            Condition::IfAbsent => {
                self.must_be_absent(key).await?;
                Ok(PutMode::Overwrite)
            }
            Condition::IfMatch(etag) => {
                let e_tag = Some(etag.clone());
                if supported && self.shared.cloud != Cloud::Gcs {
                    return Ok(PutMode::Update(UpdateVersion { e_tag, version: None }));
                }
                // Google compares generations, not etags: the generation that has this etag.
                let options = Self::head_options();
                let read = self.read("looking at", key, options, HeaderMap::new()).await;
                let meta = match read {
                    Ok((got, _, _)) if got.meta.e_tag == e_tag => got.meta,
                    Ok(_) | Err(StoreError::NotFound(_)) => {
                        return Err(StoreError::Changed(key.clone()));
                    }
                    Err(error) => return Err(error),
                };
                if supported {
                    Ok(PutMode::Update(UpdateVersion { e_tag, version: meta.version }))
                } else {
                    Ok(PutMode::Overwrite)
                }
            }
        }
    }

    pub(super) async fn must_be_absent(&self, key: &Key) -> Result<(), StoreError> {
        match self.head(key).await {
            Ok(_) => Err(StoreError::AlreadyExists(key.clone())),
            Err(StoreError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Finds out whether the store holds what it was given. `answer` are the headers that it
    /// answered with.
    pub(super) async fn prove(
        &self,
        writing: &Writing<'_>,
        put: PutResult,
        sums: &Sums,
        answer: &HeaderMap,
    ) -> Result<Stored, StoreError> {
        let checksum = sums.proven_by(self.shared.cloud, answer);
        let proof = match (self.shared.proof, checksum) {
            (ProofChoice::Auto | ProofChoice::StoreOnly, Some(checksum)) => {
                Proof::Checksum(checksum)
            }
            (ProofChoice::StoreOnly, None) => Proof::Unproven,
            (ProofChoice::Auto, None) | (ProofChoice::ReadBack, _) => {
                self.read_back(writing, put.e_tag.as_deref(), sums).await?;
                Proof::ReadBack
            }
        };
        let (size_bytes, crc64) = (writing.size_bytes, sums.crc64);
        Ok(Stored { size_bytes, etag: put.e_tag, crc64, proof })
    }

    /// Whether the store holds these contents, asked until it answers.
    pub(super) async fn look(
        &self,
        key: &Key,
        size_bytes: u64,
        crc64: u64,
    ) -> Result<Option<ObjectMeta>, StoreError> {
        let look = |_| holds(self, key, size_bytes, crc64);
        self.shared.retries.run(&*self.shared.clock, look).await
    }

    async fn read_back(
        &self,
        writing: &Writing<'_>,
        etag: Option<&str>,
        sums: &Sums,
    ) -> Result<(), StoreError> {
        let Writing { key, size_bytes, condition, .. } = *writing;
        if holds(self, key, size_bytes, sums.crc64).await?.is_some() {
            return Ok(());
        }
        let now = self.head(key).await?;
        if etag.is_some() && now.etag.as_deref() != etag {
            return Err(StoreError::Changed(key.clone()));
        }
        // It is ours and damaged. Left there, it would be taken for the object by whoever wants to
        // write it when it is absent.
        if *condition == Condition::IfAbsent {
            self.delete(key).await?;
        }
        let what = "what was read back is not what was written";
        Err(StoreError::unavailable(self.name(), "proving", key, what))
    }

    /// The headers of a `head` that asks for the checksum of the whole object.
    pub(super) async fn checksum_headers(&self, key: &Key) -> Result<HeaderMap, StoreError> {
        let ask = ask_for_checksum(self.shared.cloud);
        let read = self.read("proving", key, Self::head_options(), ask).await?;
        Ok(read.2.notes().headers)
    }
}
