//! Opens a binary log as it is read: decrypted where it is encrypted, decompressed, checked at the end.

use crate::{
    domain::recovery::Codec,
    layout::pghoard::metadata::{Coding, Compression},
    sealed::{SealedError, envelope::MAGIC, keys::Keys, open::Opened},
};
use std::io::{BufReader, Chain, Cursor, Read};

/// What is read: the beginning that was looked at, and the rest.
pub type Whole<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// How much is read at once, in bytes.
const PIECE: usize = 128 << 10;

/// Begins to open `object`. MyHoard does not note whether it has encrypted: the object itself tells.
///
/// # Errors
/// [`SealedError`], above all [`SealedError::NoKey`].
pub fn open<R: Read>(
    mut object: R,
    codec: Codec,
    key_id: Option<&str>,
    keys: &Keys,
) -> Result<Opened<Whole<R>>, SealedError> {
    let mut head = Vec::with_capacity(MAGIC.len());
    let read = (&mut object).take(MAGIC.len() as u64).read_to_end(&mut head);
    read.map_err(SealedError::Read)?;
    let is_sealed = head == MAGIC;
    let compression = match codec {
        Codec::Zst => Compression::Zstd,
        Codec::Snappy => Compression::Snappy,
        Codec::Xz => Compression::Lzma,
        // No tool that writes binary logs has the others.
        Codec::None | Codec::Gz | Codec::Lz4 | Codec::Bz2 => Compression::None,
    };
    let key_id = is_sealed.then(|| key_id.unwrap_or_default().to_owned());
    let coding = Coding { compression, key_id, ..Coding::default() };
    let whole = BufReader::with_capacity(PIECE, Cursor::new(head).chain(object));
    Opened::begin(whole, &coding, keys)
}
