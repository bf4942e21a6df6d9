//! Has S3 copy an object out of another bucket, and proves the copy as any other write.
//!
//! 1. The copy is of the object that was read: its etag is a condition. An etag does not cover user
//!    metadata, so those that were read are sent, and not taken from whatever is there now.
//! 2. S3 begins to answer before it has copied. So an answer with the status 200 may hold an error.
//! 3. The checksum that the store tells of what it holds now is compared with that of what was read; where
//!    it tells none, the settings say what is done, as after a write. A wrong copy is removed.
//! 4. A try whose outcome is not known may have made the copy: a later one that finds the key taken looks
//!    whether what is there is ours.

use crate::store::{
    BlobStore, Condition, StoreError, Stored,
    address::Cloud,
    cloud::{
        CloudStore,
        call::{Call, Notes, Refusal, element},
        fault::{self, Doing},
        metadata,
        place::AWS,
        sums::{crc64_of, told_crc64},
    },
    config::{ConditionalWrites, ProofChoice, SettingsError, StoreOptions},
    key::Key,
    proof::{Checksum, Proof, holds, remove_wrong},
    takeover::{ObjectName, Original},
    wrap::retry::settle,
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header::IF_NONE_MATCH};
use object_store::client::{HttpClient, HttpError, HttpErrorKind, HttpRequestBody};
use std::{
    error::Error,
    fmt::{self, Write as _},
};

/// Largest object that S3 copies in one request, in bytes.
const COPY_BYTES_MAX: u64 = 5 << 30;

const REMEDY: &str = "with server_side_copy the credentials of this store need s3:GetObject for the \
                      source's bucket (and kms:Decrypt for its key) besides s3:PutObject for this one; \
                      allow that, or remove server_side_copy";

/// What is needed to have objects of other buckets copied into one.
pub(super) struct Copier {
    /// What all buckets of one provider have in common.
    pub(super) service: String,
    /// Whether the settings ask for it.
    pub(super) is_asked_for: bool,
    pub(super) client: HttpClient,
    pub(super) bucket: String,
    /// `https://bucket.s3.eu-west-1.amazonaws.com`.
    pub(super) bucket_url: String,
}

impl Copier {
    /// Asks for the copy, as a call whose headers say so. Gives status and text of the answer.
    async fn copy(&self, key: &str) -> Result<(StatusCode, String), HttpError> {
        let unusable = |error: http::Error| HttpError::new(HttpErrorKind::Unknown, error);
        let url = format!("{}/{}", self.bucket_url, encoded(key));
        let request = Request::builder().method(Method::PUT).uri(url).header("content-length", 0);
        let request = request.body(HttpRequestBody::empty()).map_err(unusable)?;
        let response = self.client.execute(request).await?;
        let status = response.status();
        let text = response.into_body().bytes().await?;
        Ok((status, String::from_utf8_lossy(&text).into_owned()))
    }

    /// The headers that make a write a copy.
    fn headers(&self, original: &Original) -> Result<HeaderMap, http::Error> {
        let ObjectName { bucket, key, .. } = &original.name;
        let mut named = Request::builder()
            .header("x-amz-copy-source", format!("{bucket}/{}", encoded(key.as_str())))
            .header("x-amz-copy-source-if-match", &original.etag)
            .header("x-amz-metadata-directive", "REPLACE")
            .header("x-amz-checksum-algorithm", "CRC64NVME");
        if self.service == AWS {
            // Nor does a write of ours have tags. To copy them would need more permissions.
            named = named.header("x-amz-tagging-directive", "REPLACE");
        }
        for (name, value) in &original.user_metadata {
            named = named.header(format!("x-amz-meta-{name}"), value);
        }
        Ok(named.body(())?.into_parts().0.headers)
    }
}

/// Whether such a store can have objects copied by its provider, where that is asked for.
///
/// # Errors
/// [`SettingsError`] with the remedy.
pub(super) fn check(cloud: Cloud, options: &StoreOptions) -> Result<(), SettingsError> {
    let wrong = |what: &str| Err(SettingsError::new("server_side_copy", what));
    match cloud {
        _ if !options.server_side_copy => Ok(()),
        Cloud::Gcs | Cloud::Azure => wrong("server_side_copy is for buckets of S3; remove it"),
        Cloud::S3 if options.anonymous => {
            wrong("server_side_copy needs credentials; remove it, or remove anonymous")
        }
        Cloud::S3 => Ok(()),
    }
}

/// A copy that was made.
struct Copied {
    etag: String,
    /// As the store tells it.
    crc64: Option<u64>,
}

impl CloudStore {
    pub(super) fn name_of(&self, key: &Key) -> Option<ObjectName> {
        let Copier { service, bucket, .. } = self.shared.copier.as_ref()?;
        let key = self.shared.prefix.join(key.as_str()).ok()?;
        Some(ObjectName { service: service.clone(), bucket: bucket.clone(), key })
    }

    /// What copies objects of this name and size.
    pub(super) fn copier(&self, source: &ObjectName, size_bytes: u64) -> Option<&Copier> {
        let copier = self.shared.copier.as_ref();
        copier.filter(|copier| {
            copier.is_asked_for && copier.service == source.service && size_bytes <= COPY_BYTES_MAX
        })
    }

    pub(super) async fn copy_in(
        &self,
        key: &Key,
        original: &Original,
        condition: &Condition,
    ) -> Result<Stored, StoreError> {
        let refused = |what| StoreError::refused(self.name(), key, what);
        let Original { ref name, size_bytes, crc64, .. } = *original;
        let copier = self.copier(name, size_bytes);
        let copier = copier.ok_or_else(|| refused("it cannot be copied by its provider"))?;
        if matches!(condition, Condition::IfMatch(_)) {
            return Err(refused("what is copied by its provider cannot be compared and replaced"));
        }
        // Refuses what would not come back byte for byte.
        metadata::to_attributes(Cloud::S3, self.name(), key, &original.user_metadata)?;
        let copy = |failures| async move {
            let copied = self.copy_once(copier, key, original, condition).await;
            let stored = match copied {
                Ok(copied) => self.prove_copy(key, original, copied).await,
                Err(error) => Err(error),
            };
            let look = || self.look(key, size_bytes, crc64);
            settle(stored, failures > 0, size_bytes, crc64, look).await
        };
        self.shared.retries.run(&*self.shared.clock, copy).await
    }

    async fn copy_once(
        &self,
        copier: &Copier,
        key: &Key,
        original: &Original,
        condition: &Condition,
    ) -> Result<Copied, StoreError> {
        let supported = self.shared.conditional_writes == ConditionalWrites::Supported;
        let headers = copier.headers(original);
        let mut headers = headers.map_err(|error| self.copy_fault(key, condition, &error, None))?;
        if *condition == Condition::IfAbsent {
            // Many that keep this condition for a write ignore it for a copy.
            if !supported || copier.service != AWS {
                self.must_be_absent(key).await?;
            }
            if supported {
                headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
            }
        }
        let (path, call) = (self.path(key)?, Call::new(headers));
        let answer = call.run(copier.copy(path.as_ref())).await;
        let (status, text) =
            answer.map_err(|error| self.copy_fault(key, condition, &error, None))?;
        let refusal = call.notes().refusal.or_else(|| refusal_within(status, &text));
        if let Some(refusal) = refusal {
            return Err(self.explained(key, original, condition, refusal).await);
        }
        let etag = element(&text, "ETag").filter(|_| text.contains("CopyObjectResult"));
        let Some(etag) = etag else {
            let what = "the answer does not say that the object was copied";
            return Err(StoreError::unavailable(self.name(), "copying", key, what));
        };
        let sum = element(&text, "ChecksumCRC64NVME");
        let bare = etag.replace("&quot;", "\"").replace("&#34;", "\"");
        let etag = format!("\"{}\"", bare.trim_matches('"'));
        Ok(Copied { etag, crc64: crc64_of(&sum.unwrap_or_default()) })
    }

    fn copy_fault(
        &self,
        key: &Key,
        condition: &Condition,
        error: &(dyn Error + Send + Sync + 'static),
        refusal: Option<Refusal>,
    ) -> StoreError {
        let doing = Doing { store: self.name(), what: "copying", key, condition };
        fault::fault(doing, error, &Notes { refusal, ..Notes::default() })
    }

    /// What a refusal means: of two conditions, of two objects and of two permissions either may be
    /// what it speaks of.
    async fn explained(
        &self,
        key: &Key,
        original: &Original,
        condition: &Condition,
        refusal: Refusal,
    ) -> StoreError {
        let source = || original.name.key.clone();
        if refusal.status == StatusCode::PRECONDITION_FAILED {
            return match condition {
                Condition::None | Condition::IfMatch(_) => StoreError::Changed(source()),
                Condition::IfAbsent => match self.must_be_absent(key).await {
                    Ok(()) => StoreError::Changed(source()),
                    Err(taken) => taken,
                },
            };
        }
        let is_access = matches!(refusal.code.as_str(), "AccessDenied" | "");
        let fault = self.copy_fault(key, condition, &fmt::Error, Some(refusal));
        match fault {
            StoreError::NotFound(_) => StoreError::NotFound(source()),
            StoreError::Denied { store, key, why } if is_access => {
                StoreError::Denied { store, key, why: format!("{why}; {REMEDY}") }
            }
            fault @ (StoreError::AlreadyExists(_)
            | StoreError::Changed(_)
            | StoreError::NoSpace { .. }
            | StoreError::Denied { .. }
            | StoreError::Refused { .. }
            | StoreError::Unavailable { .. }) => fault,
        }
    }

    /// Finds out whether the store holds what was read.
    async fn prove_copy(
        &self,
        key: &Key,
        original: &Original,
        copied: Copied,
    ) -> Result<Stored, StoreError> {
        let Original { size_bytes, crc64, .. } = *original;
        let choice = self.shared.proof;
        let told = match (choice, copied.crc64) {
            (ProofChoice::ReadBack, _) => None,
            (ProofChoice::Auto | ProofChoice::StoreOnly, Some(told)) => Some(told),
            (ProofChoice::Auto | ProofChoice::StoreOnly, None) => {
                told_crc64(&self.checksum_headers(key).await?)
            }
        };
        let proof = match (told, choice) {
            (Some(told), _) => (told == crc64).then_some(Proof::Checksum(Checksum::Crc64Nvme)),
            (None, ProofChoice::StoreOnly) => Some(Proof::Unproven),
            (None, ProofChoice::Auto | ProofChoice::ReadBack) => {
                let held = holds(self, key, size_bytes, crc64).await?;
                held.map(|_| Proof::ReadBack)
            }
        };
        match proof {
            Some(proof) => Ok(Stored { size_bytes, etag: Some(copied.etag), crc64, proof }),
            None => Err(remove_wrong(self, key, Some(&copied.etag)).await),
        }
    }
}

/// The error in an answer that began as if there were none: with the status that it would have had.
fn refusal_within(status: StatusCode, text: &str) -> Option<Refusal> {
    if !text.contains("<Error>") {
        return None;
    }
    let code = element(text, "Code").unwrap_or_default();
    let status = match code.as_str() {
        _ if !status.is_success() => status,
        "AccessDenied" => StatusCode::FORBIDDEN,
        "NoSuchKey" | "NoSuchBucket" => StatusCode::NOT_FOUND,
        "PreconditionFailed" => StatusCode::PRECONDITION_FAILED,
        "SlowDown" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Some(Refusal { status, code, message: element(text, "Message").unwrap_or_default() })
}

/// A key as it stands in a URL and in `x-amz-copy-source`.
fn encoded(key: &str) -> String {
    let mut text = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").expect("a text takes everything");
        }
    }
    text
}
