//! The objects of the server and what may be done with them.

use crate::server::{
    BUCKET, COPY_SOURCE, Dialect, Manners, PRIMARY, Request,
    answer::{Answer, error, ok},
};
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use http::{Method, StatusCode};
use md5::{Digest, Md5};
use std::{collections::BTreeMap, fmt::Write as _};

/// Smallest part but the last.
const PART_BYTES_MIN: usize = 5 << 20;

pub(crate) struct Objects {
    pub(super) manners: Manners,
    /// By bucket and key.
    pub(super) buckets: BTreeMap<String, BTreeMap<String, Blob>>,
    uploads: BTreeMap<String, Upload>,
    counter: u64,
    /// Whether the next write keeps something else than it was given.
    pub(crate) damage: bool,
    /// Whether the next copy is refused in an answer that looks well.
    pub(crate) hidden: Option<&'static str>,
    /// A bucket that copies must not be made of.
    pub(crate) unreadable: Option<&'static str>,
}

#[derive(Clone)]
pub(crate) struct Blob {
    pub(crate) bytes: Bytes,
    pub(super) etag: String,
    generation: u64,
    pub(super) metadata: Vec<(String, String)>,
    modified: DateTime<Utc>,
}

struct Upload {
    key: String,
    parts: BTreeMap<usize, Blob>,
    metadata: Vec<(String, String)>,
}

impl Objects {
    pub(crate) fn new(manners: Manners) -> Self {
        let buckets = [BUCKET, PRIMARY].map(|name| (name.to_owned(), BTreeMap::new())).into();
        let (uploads, hidden, unreadable) = (BTreeMap::new(), None, None);
        Self { manners, buckets, uploads, counter: 0, damage: false, hidden, unreadable }
    }

    /// Uploads that were begun and neither completed nor aborted.
    pub(crate) fn uploads(&self) -> usize {
        self.uploads.len()
    }

    pub(crate) fn answer(&mut self, request: &Request) -> Answer {
        if !self.buckets.contains_key(&request.bucket) {
            return error(StatusCode::NOT_FOUND, "NoSuchBucket");
        }
        let has = |name: &str| request.query.contains_key(name);
        match request.head.method {
            Method::GET if request.key.is_empty() => self.list(request),
            Method::GET | Method::HEAD => self.read(request),
            Method::PUT if has("uploadId") => self.put_part(request),
            Method::PUT if request.header(COPY_SOURCE).is_some() => self.copy(request),
            Method::PUT => self.put(request),
            Method::POST if has("uploads") => self.begin(request),
            Method::POST if has("uploadId") => self.complete(request),
            Method::DELETE if has("uploadId") => {
                self.uploads.remove(&request.query["uploadId"]);
                empty()
            }
            Method::DELETE => match (self.here(request).remove(&request.key), self.manners.dialect)
            {
                (None, Dialect::Google) => error(StatusCode::NOT_FOUND, "NoSuchKey"),
                (Some(_) | None, _) => empty(),
            },
            _ => error(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        }
    }

    pub(super) fn here(&mut self, request: &Request) -> &mut BTreeMap<String, Blob> {
        self.buckets.entry(request.bucket.clone()).or_default()
    }

    pub(super) fn blob(&mut self, bytes: Bytes, metadata: Vec<(String, String)>) -> Blob {
        self.counter += 1;
        let mut kept = BytesMut::from(&bytes[..]);
        if self.damage && !kept.is_empty() {
            let middle = kept.len() / 2;
            kept[middle] ^= 4;
        }
        // Of what was sent: a store that damages does not know that it does.
        let etag = format!("\"{}\"", hex(&Md5::digest(&bytes)));
        let modified = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        Blob { bytes: kept.freeze(), etag, generation: self.counter, metadata, modified }
    }

    fn put(&mut self, request: &Request) -> Answer {
        if let Some(wrong) = self.unmet(request).or_else(|| wrong_checksum(request)) {
            return wrong;
        }
        let blob = self.blob(request.body.clone(), self.metadata(request));
        let answer = self.describe(&blob, ok(""));
        self.here(request).insert(request.key.clone(), blob);
        answer
    }

    /// The answer to a condition that does not hold.
    pub(super) fn unmet(&self, request: &Request) -> Option<Answer> {
        let there = self.buckets[&request.bucket].get(&request.key);
        let free = request.header("if-none-match").is_none_or(|tag| tag != "*" || there.is_none());
        let same = request
            .header("if-match")
            .is_none_or(|etag| there.is_some_and(|blob| blob.etag == etag));
        let generation = request
            .header("x-goog-if-generation-match")
            .is_none_or(|now| there.map_or(0, |blob| blob.generation).to_string() == now);
        let met = match self.manners.dialect {
            Dialect::S3 => free && same,
            Dialect::Google => generation,
        };
        (!met).then(|| error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed"))
    }

    fn metadata_prefix(&self) -> &'static str {
        match self.manners.dialect {
            Dialect::S3 => "x-amz-meta-",
            Dialect::Google => "x-goog-meta-",
        }
    }

    pub(super) fn metadata(&self, request: &Request) -> Vec<(String, String)> {
        let prefix = self.metadata_prefix();
        let headers = request.head.headers.iter();
        let ours = headers.filter(|(name, _)| name.as_str().starts_with(prefix));
        ours.map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect()
    }

    fn describe(&self, blob: &Blob, answer: Answer) -> Answer {
        let mut answer = answer.with("etag", &blob.etag);
        if self.manners.dialect == Dialect::Google {
            answer = answer.with("x-goog-generation", &blob.generation.to_string());
        }
        if !self.manners.tells_checksums {
            return answer;
        }
        match self.manners.dialect {
            Dialect::S3 => answer.with("x-amz-checksum-crc64nvme", &crc64(&blob.bytes)),
            Dialect::Google => answer.with("x-goog-hash", &google_hash(&blob.bytes)),
        }
    }

    fn read(&self, request: &Request) -> Answer {
        let Some(blob) = self.buckets[&request.bucket].get(&request.key) else {
            return error(StatusCode::NOT_FOUND, "NoSuchKey");
        };
        let size = blob.bytes.len();
        let mut answer = ok(blob.bytes.clone());
        if let Some(range) = request.header("range").and_then(|r| r.strip_prefix("bytes=")) {
            let (start, end) = range.split_once('-').unwrap();
            let start: usize = start.parse().unwrap();
            let end = end.parse::<usize>().map_or(size, |last| (last + 1).min(size));
            if start >= size {
                return error(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange");
            }
            answer = ok(blob.bytes.slice(start..end));
            answer.status = StatusCode::PARTIAL_CONTENT;
            answer = answer.with("content-range", &format!("bytes {start}-{}/{size}", end - 1));
        }
        let described = match (self.manners.dialect, request.header("x-amz-checksum-mode")) {
            (Dialect::S3, None) => answer.with("etag", &blob.etag),
            (Dialect::S3, Some(_)) | (Dialect::Google, _) => self.describe(blob, answer),
        };
        let date = blob.modified.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let described = described.with("last-modified", &date);
        blob.metadata.iter().fold(described, |answer, (name, value)| answer.with(name, value))
    }

    fn list(&self, request: &Request) -> Answer {
        let get = |name: &str| request.query.get(name).cloned().unwrap_or_default();
        let (prefix, delimiter) = (get("prefix"), get("delimiter"));
        let mut last = get("continuation-token").max(get("start-after"));
        let (mut text, mut count, mut more) = ("<ListBucketResult>".to_owned(), 0, false);
        for (key, blob) in self.buckets[&request.bucket].range(last.clone()..) {
            let Some(rest) = key.strip_prefix(&prefix) else { continue };
            // With a delimiter, what is alike up to it is told once.
            let common = rest.find(&delimiter).filter(|_| !delimiter.is_empty());
            let common = common.map(|at| &key[..prefix.len() + at + delimiter.len()]);
            let name = common.unwrap_or(key);
            if name <= last.as_str() {
                continue;
            }
            if count == self.manners.page {
                more = true;
                break;
            }
            count += 1;
            match common {
                Some(common) => {
                    let common = escaped(common);
                    write!(text, "<CommonPrefixes><Prefix>{common}</Prefix></CommonPrefixes>")
                }
                None => write!(
                    text,
                    "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>{}</ETag>\
                     <Size>{}</Size></Contents>",
                    escaped(key),
                    blob.modified.to_rfc3339(),
                    escaped(&blob.etag),
                    blob.bytes.len()
                ),
            }
            .unwrap();
            name.clone_into(&mut last);
        }
        if more {
            let last = escaped(&last);
            write!(text, "<NextContinuationToken>{last}</NextContinuationToken>").unwrap();
        }
        write!(text, "<IsTruncated>{more}</IsTruncated></ListBucketResult>").unwrap();
        ok(text)
    }

    fn begin(&mut self, request: &Request) -> Answer {
        self.counter += 1;
        let id = format!("upload-{}", self.counter);
        let (key, metadata) = (request.key.clone(), self.metadata(request));
        self.uploads.insert(id.clone(), Upload { key, parts: BTreeMap::new(), metadata });
        ok(format!(
            "<InitiateMultipartUploadResult><UploadId>{id}</UploadId>\
             </InitiateMultipartUploadResult>"
        ))
    }

    fn put_part(&mut self, request: &Request) -> Answer {
        if let Some(wrong) = wrong_checksum(request) {
            return wrong;
        }
        let number = request.query["partNumber"].parse().unwrap();
        let blob = self.blob(request.body.clone(), Vec::new());
        let answer = self.describe(&blob, ok(""));
        match self.uploads.get_mut(&request.query["uploadId"]) {
            Some(upload) if upload.key == request.key => {
                upload.parts.insert(number, blob);
                answer
            }
            Some(_) | None => error(StatusCode::NOT_FOUND, "NoSuchUpload"),
        }
    }

    fn complete(&mut self, request: &Request) -> Answer {
        let id = &request.query["uploadId"];
        let Some(upload) = self.uploads.get(id) else {
            return error(StatusCode::NOT_FOUND, "NoSuchUpload");
        };
        if let Some(wrong) = self.unmet(request) {
            return wrong;
        }
        let text = String::from_utf8(request.body.to_vec()).unwrap();
        let mut bytes = BytesMut::new();
        let listed: Vec<_> = text.split("<Part>").skip(1).collect();
        for (at, part) in listed.iter().enumerate() {
            let element = |name: &str| {
                let begin = part.split(&format!("<{name}>")).nth(1).unwrap_or_default();
                begin.split("</").next().unwrap_or_default().replace("&quot;", "\"")
            };
            let kept = element("PartNumber").parse().ok().and_then(|n: usize| upload.parts.get(&n));
            let Some(kept) = kept.filter(|kept| kept.etag == element("ETag")) else {
                return error(StatusCode::BAD_REQUEST, "InvalidPart");
            };
            if kept.bytes.len() < PART_BYTES_MIN && at + 1 < listed.len() {
                return error(StatusCode::BAD_REQUEST, "EntityTooSmall");
            }
            bytes.extend_from_slice(&kept.bytes);
        }
        let metadata = upload.metadata.clone();
        let mut blob = self.blob(bytes.freeze(), metadata);
        blob.etag = format!("{}-{}\"", blob.etag.trim_end_matches('"'), listed.len());
        let etag = escaped(&blob.etag);
        let text = format!(
            "<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>"
        );
        let mut answer = ok(text);
        if self.manners.dialect == Dialect::Google {
            answer = self.describe(&blob, answer);
        }
        self.here(request).insert(request.key.clone(), blob);
        self.uploads.remove(id);
        answer
    }
}

/// The answer to a checksum that is not that of the body, or is not there. Stores take contents without
/// one; we do not send any.
fn wrong_checksum(request: &Request) -> Option<Answer> {
    let body = &request.body;
    let mut is_given = false;
    // Only what is given is computed.
    let mut differs = |name: &str, ours: &dyn Fn() -> String| {
        request.header(name).is_some_and(|given| {
            is_given = true;
            let ours = ours();
            given.split(',').all(|one| one.trim() != ours)
        })
    };
    let wrong = differs("content-md5", &|| BASE64.encode(Md5::digest(body)))
        || differs("x-amz-checksum-crc64nvme", &|| crc64(body))
        || differs("x-amz-checksum-sha256", &|| BASE64.encode(digest(&SHA256, body)))
        || differs("x-goog-hash", &|| format!("crc32c={}", crc32c(body)));
    (wrong || !is_given).then(|| error(StatusCode::BAD_REQUEST, "BadDigest"))
}

pub(super) fn crc64(bytes: &[u8]) -> String {
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes);
    BASE64.encode(sum.to_be_bytes())
}

fn crc32c(bytes: &[u8]) -> String {
    BASE64.encode(crc32c::crc32c(bytes).to_be_bytes())
}

fn google_hash(bytes: &[u8]) -> String {
    format!("crc32c={},md5={}", crc32c(bytes), BASE64.encode(Md5::digest(bytes)))
}

fn empty() -> Answer {
    let mut answer = ok("");
    answer.status = StatusCode::NO_CONTENT;
    answer
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
