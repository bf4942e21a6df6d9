//! Checksums of what is sent, and what stores say of what they hold.

use crate::store::{
    address::Cloud,
    proof::{Checksum, Crc64},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use md5::{Digest, Md5};

const S3_CRC64: HeaderName = HeaderName::from_static("x-amz-checksum-crc64nvme");
const S3_SHOW_CHECKSUM: HeaderName = HeaderName::from_static("x-amz-checksum-mode");
const GOOGLE_HASH: HeaderName = HeaderName::from_static("x-goog-hash");
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// Checksums of contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) bytes: usize,
    pub(super) crc64: u64,
    crc32c: u32,
    md5: Option<[u8; 16]>,
}

impl Sums {
    /// Those that this cloud understands, and always CRC-64, which may be known already.
    pub(super) fn of(cloud: Cloud, pieces: &[Bytes], known_crc64: Option<u64>) -> Self {
        let (mut crc64, mut crc32c, mut md5) = (Crc64::new(), 0, Md5::new());
        for piece in pieces {
            if known_crc64.is_none() {
                crc64.update(piece);
            }
            match cloud {
                Cloud::S3 => {}
                Cloud::Gcs => crc32c = crc32c::crc32c_append(crc32c, piece),
                Cloud::Azure => md5.update(piece),
            }
        }
        let md5 = (cloud == Cloud::Azure).then(|| md5.finalize().into());
        let bytes = pieces.iter().map(Bytes::len).sum();
        let crc64 = known_crc64.unwrap_or_else(|| crc64.finish());
        Self { bytes, crc64, crc32c, md5 }
    }

    /// Of this and what follows it. MD5 cannot be joined.
    pub(super) fn join(self, next: Self) -> Self {
        let crc64 = Crc64::joined(self.crc64, next.crc64, next.bytes as u64);
        let crc32c = match (self.crc32c, next.crc32c) {
            // Of a cloud that has no use for it, and right for any other.
            (0, 0) => 0,
            (crc32c, next_crc32c) => crc32c::crc32c_combine(crc32c, next_crc32c, next.bytes),
        };
        Self { bytes: self.bytes + next.bytes, crc64, crc32c, md5: None }
    }

    /// Headers by which the store checks what it receives. `is_summed`: the client makes those of S3.
    pub(super) fn headers(&self, cloud: Cloud, is_summed: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        match (cloud, self.md5) {
            (Cloud::S3, _) if is_summed => {}
            (Cloud::S3, _) => {
                headers.insert(S3_CRC64, plain(&BASE64.encode(self.crc64.to_be_bytes())));
            }
            (Cloud::Azure, None) => {}
            (Cloud::Gcs, _) => {
                let value = format!("crc32c={}", BASE64.encode(self.crc32c.to_be_bytes()));
                headers.insert(GOOGLE_HASH, plain(&value));
            }
            (Cloud::Azure, Some(md5)) => {
                headers.insert(CONTENT_MD5, plain(&BASE64.encode(md5)));
            }
        }
        headers
    }

    /// The checksum in an answer, when it is ours: the store has computed it of what it holds.
    pub(super) fn proven_by(&self, cloud: Cloud, answer: &HeaderMap) -> Option<Checksum> {
        match cloud {
            Cloud::S3 => {
                let ours = BASE64.encode(self.crc64.to_be_bytes());
                (text(answer, &S3_CRC64)? == ours).then_some(Checksum::Crc64Nvme)
            }
            Cloud::Gcs => {
                let ours = format!("crc32c={}", BASE64.encode(self.crc32c.to_be_bytes()));
                // One header with both hashes, or one for each.
                let mut hashes = answer
                    .get_all(GOOGLE_HASH)
                    .iter()
                    .filter_map(|value| value.to_str().ok())
                    .flat_map(|value| value.split(','));
                hashes.any(|hash| hash.trim() == ours).then_some(Checksum::Crc32c)
            }
            Cloud::Azure => {
                let ours = BASE64.encode(self.md5?);
                (text(answer, &CONTENT_MD5)? == ours).then_some(Checksum::Md5)
            }
        }
    }
}

/// The CRC-64/NVME that S3 tells in a header.
pub(super) fn told_crc64(answer: &HeaderMap) -> Option<u64> {
    crc64_of(text(answer, &S3_CRC64)?)
}

/// A CRC-64/NVME as S3 writes it. There are servers that write other checksums under its name.
pub(super) fn crc64_of(text: &str) -> Option<u64> {
    let bytes: [u8; 8] = BASE64.decode(text).ok()?.try_into().ok()?;
    Some(u64::from_be_bytes(bytes))
}

/// What a `head` adds so that the answer has the checksum of the whole object.
pub(super) fn ask_for_checksum(cloud: Cloud) -> HeaderMap {
    match cloud {
        Cloud::S3 => {
            HeaderMap::from_iter([(S3_SHOW_CHECKSUM, HeaderValue::from_static("ENABLED"))])
        }
        Cloud::Gcs | Cloud::Azure => HeaderMap::new(),
    }
}

fn plain(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).expect("base64 is plain text")
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_joined_have_the_checksums_of_the_whole() {
        let both = [Bytes::from_static(b"one, "), Bytes::from_static(b"two")];
        for cloud in [Cloud::S3, Cloud::Gcs] {
            let whole = Sums::of(cloud, &both, None);
            assert_eq!(
                Sums::of(cloud, &both[..1], None).join(Sums::of(cloud, &both[1..], None)),
                whole
            );
        }
    }

    #[test]
    fn known_values() {
        // The check values of the catalogue of CRC algorithms, and of RFC 1321.
        let of = |cloud| Sums::of(cloud, &[Bytes::from_static(b"123456789")], None);
        assert_eq!(of(Cloud::S3).crc64, 0xae8b_1486_0a79_9888);
        assert_eq!(of(Cloud::Gcs).crc32c, 0xe306_9283);
        let empty = Sums::of(Cloud::Azure, &[], None).headers(Cloud::Azure, false);
        assert_eq!(empty[CONTENT_MD5], "1B2M2Y8AsgTpgAmY7PhCfg==");
    }

    #[test]
    fn another_checksum_proves_nothing() {
        let sums = Sums::of(Cloud::Gcs, &[Bytes::from_static(b"123456789")], None);
        let answer = |value: &str| HeaderMap::from_iter([(GOOGLE_HASH, plain(value))]);
        let good = answer("crc32c=4waSgw==,md5=JfnnlDI7RTiF9RgfG2JNCw==");
        assert_eq!(sums.proven_by(Cloud::Gcs, &good), Some(Checksum::Crc32c));
        assert_eq!(sums.proven_by(Cloud::Gcs, &answer("crc32c=AAAAAA==")), None);
        assert_eq!(sums.proven_by(Cloud::Gcs, &HeaderMap::new()), None);
    }
}
