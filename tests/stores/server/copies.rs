//! Copies between the buckets of the server, as S3 makes them.

use crate::server::{
    COPY_SOURCE, Request,
    answer::{Answer, error, ok},
    objects::{Objects, crc64, escaped},
    sign::decoded,
};
use http::StatusCode;

const BEGIN: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

impl Objects {
    pub(super) fn copy(&mut self, request: &Request) -> Answer {
        if let Some(code) = self.hidden {
            let text = format!("<Error><Code>{code}</Code><Message>It is.</Message></Error>");
            return ok(format!("{BEGIN}   \n{text}"));
        }
        let named = decoded(request.header(COPY_SOURCE).unwrap_or_default());
        let Some((bucket, key)) = named.trim_start_matches('/').split_once('/') else {
            return error(StatusCode::BAD_REQUEST, "InvalidArgument");
        };
        if self.unreadable == Some(bucket) {
            return error(StatusCode::FORBIDDEN, "AccessDenied");
        }
        let Some(original) = self.buckets.get(bucket).and_then(|b| b.get(key)).cloned() else {
            return error(StatusCode::NOT_FOUND, "NoSuchKey");
        };
        let wanted = request.header("x-amz-copy-source-if-match");
        if wanted.is_some_and(|etag| etag != original.etag) {
            return error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
        }
        if let Some(wrong) = self.unmet(request) {
            return wrong;
        }
        let metadata = match request.header("x-amz-metadata-directive") {
            Some("REPLACE") => self.metadata(request),
            _ => original.metadata,
        };
        // Of the contents, also where those had been sent in parts.
        let blob = self.blob(original.bytes, metadata);
        let is_told = self.manners.tells_checksums && self.manners.tells_of_copies;
        let sum = match request.header("x-amz-checksum-algorithm") {
            Some("CRC64NVME") if is_told => {
                format!("<ChecksumCRC64NVME>{}</ChecksumCRC64NVME>", crc64(&blob.bytes))
            }
            _ => String::new(),
        };
        let text = format!("<ETag>{}</ETag>{sum}", escaped(&blob.etag));
        self.here(request).insert(request.key.clone(), blob);
        ok(format!("{BEGIN}<CopyObjectResult xmlns=\"urn:x\">{text}</CopyObjectResult>"))
    }
}
