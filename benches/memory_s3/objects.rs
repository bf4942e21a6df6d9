//! The objects of the server.

use crate::memory_s3::{
    Request,
    xml::{self, error, escaped},
};
use axum::{body::Body, response::Response};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use crc_fast::{CrcAlgorithm::Crc64Nvme, Digest as Crc, checksum_combine};
use futures_util::stream;
use http::{HeaderName, HeaderValue, StatusCode};
use md5::{Digest, Md5};
use rand::{RngCore, SeedableRng, rngs::StdRng};
use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    fmt::Write as _,
    sync::{Arc, Weak},
};

const MIB: usize = 1 << 20;
/// What the contents of the source's objects are cut from, in bytes: larger than any cache.
const RANDOM_BYTES: usize = 256 * MIB;
/// Largest object whose etag is its MD5, as it is for objects that were not written in parts.
const PLAIN_BYTES_MAX: usize = 16 * MIB;

/// Contents.
#[derive(Clone)]
pub(crate) struct Blob {
    pieces: Arc<Vec<Bytes>>,
    size: usize,
    crc64: u64,
    etag: String,
    metadata: Arc<Vec<(HeaderName, HeaderValue)>>,
}

impl Blob {
    /// With the checksum of what was received.
    pub(crate) fn of(pieces: Vec<Bytes>) -> Self {
        let mut crc = Crc::new(Crc64Nvme);
        pieces.iter().for_each(|piece| crc.update(piece));
        let size = pieces.iter().map(Bytes::len).sum();
        let (etag, metadata) = (String::new(), Arc::default());
        Self { pieces: Arc::new(pieces), size, crc64: crc.finalize(), etag, metadata }
    }

    fn checksum(&self) -> String {
        BASE64.encode(self.crc64.to_be_bytes())
    }

    /// The pieces of a range.
    fn slice(&self, start: usize, end: usize) -> Vec<Bytes> {
        let (mut at, mut found) = (0, Vec::new());
        for piece in self.pieces.iter() {
            let (from, to) = (start.max(at), end.min(at + piece.len()));
            if from < to {
                found.push(piece.slice(from - at..to - at));
            }
            at += piece.len();
        }
        found
    }
}

struct Upload {
    parts: BTreeMap<usize, Blob>,
    metadata: Arc<Vec<(HeaderName, HeaderValue)>>,
}

/// Equal contents are kept once, by checksum and size: otherwise a tenth of the server's time goes into
/// memory that it has not touched before.
pub(crate) struct Objects {
    buckets: HashMap<String, BTreeMap<String, Blob>>,
    contents: HashMap<(u64, usize), Weak<Vec<Bytes>>>,
    uploads: HashMap<String, Upload>,
    random: Option<Bytes>,
    counter: u64,
}

impl Objects {
    pub(crate) fn new() -> Self {
        Self {
            buckets: HashMap::new(),
            contents: HashMap::new(),
            uploads: HashMap::new(),
            random: None,
            counter: 0,
        }
    }

    /// Lets go of what was received, where the same is there already.
    fn keep_once(&mut self, blob: &mut Blob) {
        let there = self.contents.entry((blob.crc64, blob.size)).or_default();
        match there.upgrade() {
            Some(pieces) => blob.pieces = pieces,
            None => *there = Arc::downgrade(&blob.pieces),
        }
    }

    /// Makes `count` objects of `size` bytes.
    pub(crate) fn fill(&mut self, bucket: &str, count: usize, size: usize) {
        let random = self.random.get_or_insert_with(|| {
            let mut bytes = vec![0; RANDOM_BYTES];
            StdRng::seed_from_u64(1).fill_bytes(&mut bytes);
            bytes.into()
        });
        let random = random.clone();
        let mut made: HashMap<usize, Blob> = HashMap::new();
        for number in 0..count {
            // Each begins somewhere else, and goes round.
            let begin = number * MIB % RANDOM_BYTES;
            let blob = made.entry(begin).or_insert_with(|| {
                let (mut pieces, mut left, mut at) = (Vec::new(), size, begin);
                while left > 0 {
                    let length = left.min(RANDOM_BYTES - at);
                    pieces.push(random.slice(at..at + length));
                    (left, at) = (left - length, 0);
                }
                let mut blob = Blob::of(pieces);
                blob.etag = if size <= PLAIN_BYTES_MAX {
                    let mut md5 = Md5::new();
                    blob.pieces.iter().for_each(|piece| md5.update(piece));
                    md5.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
                } else {
                    format!("{number:032x}-1")
                };
                blob
            });
            self.keep_once(blob);
            let key = format!("{:02}/{number:06}", number % 16);
            self.buckets.entry(bucket.to_owned()).or_default().insert(key, blob.clone());
        }
    }

    /// Removes a bucket. Gives the number of its objects.
    pub(crate) fn drop_bucket(&mut self, bucket: &str) -> usize {
        self.buckets.remove(bucket).map_or(0, |objects| objects.len())
    }

    fn metadata(request: &Request) -> Arc<Vec<(HeaderName, HeaderValue)>> {
        let headers = request.head.headers.iter();
        let ours = headers.filter(|(name, _)| name.as_str().starts_with("x-amz-meta-"));
        Arc::new(ours.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    fn named(&mut self, request: &Request, mut blob: Blob) -> Result<Blob, Box<Response>> {
        let given = request.header("x-amz-checksum-crc64nvme");
        if given.is_some_and(|given| given != blob.checksum()) {
            return Err(Box::new(error(StatusCode::BAD_REQUEST, "BadDigest")));
        }
        self.keep_once(&mut blob);
        // An MD5 that is given is believed: computing it would make the server what is measured.
        let md5 = request.header("content-md5").and_then(|given| BASE64.decode(given).ok());
        self.counter += 1;
        blob.etag = match md5 {
            Some(md5) => md5.iter().map(|byte| format!("{byte:02x}")).collect(),
            None => format!("{:032x}-1", self.counter),
        };
        blob.metadata = Self::metadata(request);
        Ok(blob)
    }

    fn taken(&self, request: &Request) -> Option<Response> {
        let there = self.buckets.get(&request.bucket).is_some_and(|b| b.contains_key(&request.key));
        let refused = there && request.header("if-none-match") == Some("*");
        refused.then(|| error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed"))
    }

    fn described(blob: &Blob, body: Body) -> Response {
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert("etag", format!("\"{}\"", blob.etag).parse().unwrap());
        headers.insert("x-amz-checksum-crc64nvme", blob.checksum().parse().unwrap());
        response
    }

    pub(crate) fn put(&mut self, request: &Request, blob: Blob) -> Response {
        if let Some(taken) = self.taken(request) {
            return taken;
        }
        match self.named(request, blob) {
            Ok(blob) => {
                let answer = Self::described(&blob, Body::empty());
                let bucket = self.buckets.entry(request.bucket.clone()).or_default();
                bucket.insert(request.key.clone(), blob);
                answer
            }
            Err(answer) => *answer,
        }
    }

    pub(crate) fn read(&self, request: &Request, is_head: bool) -> Response {
        let found = self.buckets.get(&request.bucket).and_then(|b| b.get(&request.key));
        let Some(blob) = found else { return error(StatusCode::NOT_FOUND, "NoSuchKey") };
        let range = request.header("range").and_then(|range| range.strip_prefix("bytes="));
        let range = range.and_then(|range| range.split_once('-'));
        let (mut start, mut end) = (0, blob.size);
        if let Some((from, to)) = range {
            start = from.parse().unwrap_or(0);
            end = to.parse::<usize>().map_or(blob.size, |last| blob.size.min(last + 1));
        }
        if range.is_some() && start >= end {
            return error(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange");
        }
        let body = if is_head {
            Body::empty()
        } else {
            let pieces = blob.slice(start, end).into_iter().map(Ok::<_, Infallible>);
            Body::from_stream(stream::iter(pieces))
        };
        let mut response = Self::described(blob, body);
        if range.is_some() {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let told = format!("bytes {start}-{}/{}", end - 1, blob.size);
            response.headers_mut().insert("content-range", told.parse().unwrap());
        }
        let headers = response.headers_mut();
        if request.header("x-amz-checksum-mode").is_none() {
            headers.remove("x-amz-checksum-crc64nvme");
        }
        headers.insert("content-length", HeaderValue::from(end - start));
        headers.insert("accept-ranges", HeaderValue::from_static("bytes"));
        let modified = HeaderValue::from_static("Fri, 15 Jan 2027 08:00:00 GMT");
        headers.insert("last-modified", modified);
        headers.extend(blob.metadata.iter().cloned());
        response
    }

    pub(crate) fn list(&self, request: &Request) -> Response {
        let get = |name: &str| request.query(name).unwrap_or_default().to_owned();
        let (prefix, delimiter) = (get("prefix"), get("delimiter"));
        let most = request.query("max-keys").and_then(|most| most.parse().ok()).unwrap_or(1000);
        let mut after = get("continuation-token").max(get("start-after")).max(get("marker"));
        let (nothing, mut text, mut count) = (BTreeMap::new(), String::new(), 0);
        let objects = self.buckets.get(&request.bucket).unwrap_or(&nothing);
        let mut is_cut = false;
        for (key, blob) in objects.range(prefix.clone()..) {
            if !key.starts_with(&prefix) {
                break;
            }
            if *key <= after
                || (!delimiter.is_empty() && after.ends_with(&delimiter)) && key.starts_with(&after)
            {
                continue;
            }
            if count == most {
                is_cut = true;
                break;
            }
            count += 1;
            let deeper = (!delimiter.is_empty()).then(|| key[prefix.len()..].find(&delimiter));
            if let Some(Some(at)) = deeper {
                after = key[..prefix.len() + at + delimiter.len()].to_owned();
                let name = escaped(&after);
                write!(text, "<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>").unwrap();
                continue;
            }
            after.clone_from(key);
            write!(
                text,
                "<Contents><Key>{}</Key><LastModified>2027-01-15T08:00:00.000Z</LastModified>\
                 <ETag>&quot;{}&quot;</ETag><Size>{}</Size></Contents>",
                escaped(key),
                blob.etag,
                blob.size
            )
            .unwrap();
        }
        if is_cut {
            let next = escaped(&after);
            write!(text, "<NextContinuationToken>{next}</NextContinuationToken>").unwrap();
            write!(text, "<NextMarker>{next}</NextMarker>").unwrap();
        }
        xml::ok(format!(
            "<ListBucketResult><Name>{}</Name><Prefix>{}</Prefix><KeyCount>{count}</KeyCount>\
             <MaxKeys>{most}</MaxKeys><IsTruncated>{is_cut}</IsTruncated>{text}\
             </ListBucketResult>",
            request.bucket,
            escaped(&prefix)
        ))
    }

    pub(crate) fn begin(&mut self, request: &Request) -> Response {
        self.counter += 1;
        let id = format!("upload-{}", self.counter);
        let upload = Upload { parts: BTreeMap::new(), metadata: Self::metadata(request) };
        self.uploads.insert(id.clone(), upload);
        xml::ok(format!(
            "<InitiateMultipartUploadResult><Bucket>{}</Bucket><Key>{}</Key>\
             <UploadId>{id}</UploadId></InitiateMultipartUploadResult>",
            request.bucket,
            escaped(&request.key)
        ))
    }

    pub(crate) fn put_part(&mut self, request: &Request, blob: Blob) -> Response {
        let blob = match self.named(request, blob) {
            Ok(blob) => blob,
            Err(answer) => return *answer,
        };
        let (number, id) = (request.number("partNumber"), request.query("uploadId"));
        let Some(upload) = id.and_then(|id| self.uploads.get_mut(id)) else {
            return error(StatusCode::NOT_FOUND, "NoSuchUpload");
        };
        let answer = Self::described(&blob, Body::empty());
        upload.parts.insert(number, blob);
        answer
    }

    pub(crate) fn complete(&mut self, request: &Request) -> Response {
        if let Some(taken) = self.taken(request) {
            return taken;
        }
        let id = request.query("uploadId").unwrap_or_default();
        let Some(upload) = self.uploads.remove(id) else {
            return error(StatusCode::NOT_FOUND, "NoSuchUpload");
        };
        let (mut whole, count) = (Blob::of(Vec::new()), upload.parts.len());
        let mut pieces = Vec::new();
        for part in upload.parts.into_values() {
            whole.crc64 = checksum_combine(Crc64Nvme, whole.crc64, part.crc64, part.size as u64);
            whole.size += part.size;
            pieces.extend(part.pieces.iter().cloned());
        }
        self.counter += 1;
        whole.etag = format!("{:032x}-{count}", self.counter);
        (whole.pieces, whole.metadata) = (Arc::new(pieces), upload.metadata);
        let text = format!(
            "<CompleteMultipartUploadResult><Bucket>{}</Bucket><Key>{}</Key>\
             <ETag>&quot;{}&quot;</ETag></CompleteMultipartUploadResult>",
            request.bucket,
            escaped(&request.key),
            whole.etag
        );
        let bucket = self.buckets.entry(request.bucket.clone()).or_default();
        bucket.insert(request.key.clone(), whole);
        xml::ok(text)
    }

    pub(crate) fn delete(&mut self, request: &Request) -> Response {
        if let Some(id) = request.query("uploadId") {
            self.uploads.remove(id);
        } else if let Some(bucket) = self.buckets.get_mut(&request.bucket) {
            bucket.remove(&request.key);
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    }
}
