//! Takes encryption and compression off objects, and says whether what comes out may be relied on.
//!
//! An object of PGHoard is compressed, then encrypted: `pghoa1`, a block for an RSA key pair, data,
//! a checksum with a key (see [`envelope`]). The checksum stands at the end. So nothing that comes
//! out counts before [`open::Opened::finish`] has said so; what is small is held in memory until
//! then ([`small`]), what is large goes to files that nobody uses before.

pub mod keys;

pub mod codec;
pub mod envelope;
pub mod open;

pub mod binlog;
pub mod segment;
pub mod small;

/// An object cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// The private key is not there.
    #[error(
        "it is encrypted for the key `{0}`, and no private key of that name was given; add the \
         private key from PGHoard's configuration (encryption_keys) under this name"
    )]
    NoKey(String),
    /// The private key does not fit.
    #[error(
        "it is encrypted, and not for the private key that was given as `{0}`; give the private \
         key whose public key PGHoard used under this name"
    )]
    WrongKey(String),
    /// It should be encrypted and is not.
    #[error("its metadata say that it is encrypted, but it does not begin as an encrypted object")]
    NotEncrypted,
    /// Its end, or all of it, is missing.
    #[error("it is truncated: {0}; the copy is damaged, restore it from another one")]
    Truncated(&'static str),
    /// It was changed after it was encrypted.
    #[error("its checksum (HMAC) is wrong: it is damaged or was changed after it was encrypted")]
    Authentication,
    /// It has another size than it should have.
    #[error("it has {found} bytes {what}, not {expected}; the copy is damaged")]
    Size {
        /// Such as `decompressed`.
        what: &'static str,
        /// What was recorded, in bytes.
        expected: u64,
        /// What is there, in bytes.
        found: u64,
    },
    /// It has other contents than it should have.
    #[error("its {what} is {found}, not {expected}; the copy is damaged")]
    Digest {
        /// Such as `SHA-256`.
        what: &'static str,
        /// What was recorded.
        expected: String,
        /// What is there.
        found: String,
    },
    /// It goes on where it should end.
    #[error("it goes on after the end of its contents")]
    Trailing,
    /// It cannot be read or decompressed.
    #[error("decompressing it as {compression} failed: it is truncated or damaged")]
    Damaged {
        /// How it should be compressed.
        compression: &'static str,
        /// What the library said.
        #[source]
        source: std::io::Error,
    },
    /// It cannot be read.
    #[error("reading it failed")]
    Read(#[source] std::io::Error),
    /// What came out is no segment.
    #[error("it holds {0} bytes, and no WAL segment has that size")]
    NoSegment(u64),
    /// More came out than may be held in memory.
    #[error("it decompresses to more than {0} bytes")]
    TooLarge(u64),
}

impl SealedError {
    /// Name of the private key that does not fit, when that is what is wrong.
    #[must_use]
    pub fn wrong_key(&self) -> Option<&str> {
        if let Self::WrongKey(id) = self { Some(id) } else { None }
    }

    /// The error inside an error of reading, where one of ours is the cause.
    ///
    /// # Errors
    /// The error itself, where it is another.
    pub fn inside(error: std::io::Error) -> Result<Self, std::io::Error> {
        error.downcast::<Self>()
    }
}
