//! Opens one object of the log into a new file, which may be used when all of it is proven.
//!
//! A segment passes through in pieces that stay in a processor's cache: they are decompressed, hashed and
//! written, and are nowhere held as a whole. The replay needs the memory's bandwidth, too.

use crate::{
    domain::lsn::Segment,
    engine::{
        error::chain,
        fork::fetch_plan::{FetchPlan, StoredObject},
    },
    restore::tree::reserve,
    store::key::Key,
    wal::{decode, page::PageHeader},
};
use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Largest object, in bytes: a segment that compression made a little larger.
const OBJECT_BYTES_MAX: u64 = (1 << 30) + (64 << 20);
/// Largest history file, in bytes.
const HISTORY_BYTES_MAX: u64 = 16 << 20;
/// What is kept of a segment's beginning, in bytes: its first page, in which its header is.
const HEAD_BYTES: usize = 8192;

/// Writes the segment `object` to the new file `to`, and checks it against everything that is known of
/// it: size, place in the log, cluster, SHA-1. Gives the file, which is not synced.
///
/// # Errors
/// A text for people. What `to` holds then is of no use.
pub(super) fn segment(
    plan: &FetchPlan,
    object: &StoredObject,
    to: &Path,
) -> Result<fs::File, String> {
    let segment = Segment::parse(&object.name, plan.segment_size());
    let segment = segment.map_err(|error| error.to_string())?;
    let packed = load(plan, object, OBJECT_BYTES_MAX)?;
    let file = create(to).map_err(|error| writing(to, &error))?;
    reserve(&file, plan.segment_size().bytes());
    let mut plain = Plain { file, bytes: 0, head: Vec::new(), fault: None };
    let decoded =
        decode::decode_to(object.codec.into(), &packed, object.sha1.as_deref(), &mut plain);
    if let Some(error) = plain.fault {
        return Err(writing(to, &error));
    }
    // What is in a wrong place says more by its header than by its sum.
    if decoded.is_ok() || plain.bytes == plan.segment_size().bytes() {
        check_header(plan, segment, &plain.head, plain.bytes)?;
    }
    decoded.map(|()| plain.file).map_err(|error| chain(&error))
}

/// Writes the history file `object` to the new file `to`.
///
/// # Errors
/// A text for people. What `to` holds then is of no use.
pub(super) fn history(plan: &FetchPlan, object: &StoredObject, to: &Path) -> Result<(), String> {
    let bytes = load(plan, object, HISTORY_BYTES_MAX)?;
    let written = create(to).and_then(|mut file| file.write_all(&bytes));
    written.map_err(|error| writing(to, &error))
}

/// The plain contents on their way.
struct Plain {
    file: fs::File,
    bytes: u64,
    head: Vec<u8>,
    /// Why they cannot be written, which is not the object's fault.
    fault: Option<io::Error>,
}

impl Write for Plain {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let more = HEAD_BYTES.saturating_sub(self.head.len()).min(piece.len());
        self.head.extend_from_slice(&piece[..more]);
        self.bytes += piece.len() as u64;
        match self.file.write_all(piece) {
            Ok(()) => Ok(piece.len()),
            Err(error) => {
                let kind = error.kind();
                self.fault = Some(error);
                Err(kind.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes a new file, for this user alone.
fn create(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn writing(path: &Path, error: &io::Error) -> String {
    format!("writing {} failed: {error}", path.display())
}

fn check_header(plan: &FetchPlan, segment: Segment, head: &[u8], bytes: u64) -> Result<(), String> {
    let size = plan.segment_size();
    if bytes != size.bytes() {
        return Err(format!("it has {bytes} bytes, not {}", size.bytes()));
    }
    let header = PageHeader::read(head).and_then(|header| Some((header, header.long?)));
    let Some((header, long)) = header else {
        return Err("it does not begin with a page header of PostgreSQL's log".to_owned());
    };
    let start = segment.start(size);
    if header.address != start {
        return Err(format!("it holds the log from {}, not from {start}", header.address));
    }
    // The segment in which a timeline began still carries the older one's number.
    if header.timeline > segment.timeline.0 {
        return Err(format!("it is of timeline {}", header.timeline));
    }
    if long.system_identifier != plan.system_identifier {
        return Err(format!(
            "it is of database cluster {}, not {}",
            long.system_identifier, plan.system_identifier
        ));
    }
    Ok(())
}

/// An object's bytes, of exactly the size that the plan says. They are read straight from the file, as
/// PostgreSQL waits: a store would bring threads of its own.
fn load(plan: &FetchPlan, object: &StoredObject, limit: u64) -> Result<Vec<u8>, String> {
    let key = Key::parse(&object.key).map_err(|error| error.to_string())?;
    let failed = |error: io::Error| {
        if error.kind() == io::ErrorKind::NotFound {
            return format!("object {key} does not exist");
        }
        format!("reading object {key} failed: {error}")
    };
    let file = fs::File::open(plan.store_root.join(key.as_str())).map_err(failed)?;
    let found = file.metadata().map_err(failed)?.len();
    if found != object.size_bytes {
        return Err(format!(
            "object {key} has {found} bytes, the plan says {}: it is truncated or damaged",
            object.size_bytes
        ));
    }
    if found > limit {
        return Err(format!("object {key} has {found} bytes, which is too large"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(found).unwrap_or(0) + 1);
    let read = file.take(found).read_to_end(&mut bytes).map_err(failed)?;
    if read as u64 != found {
        return Err(format!("object {key} ends early: it is truncated or damaged"));
    }
    Ok(bytes)
}
