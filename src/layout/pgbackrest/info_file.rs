//! The text files of a repository: sections, `key=JSON` lines and a checksum over both.

use crate::domain::hex;
use serde_json::Value;
use sha1::{Digest, Sha1};

/// Encrypted repositories begin every file with this (OpenSSL's salted format).
const SALTED: &[u8] = b"Salted__";

/// A file of a repository cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InfoFileError {
    /// The repository is encrypted.
    #[error("{file} is encrypted; encrypted pgBackRest repositories are not supported")]
    Encrypted {
        /// Which file.
        file: String,
    },
    /// A line is not what it should be.
    #[error("line {line} of {file} cannot be read: {what}")]
    Line {
        /// Which file.
        file: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// The checksum is missing or wrong: the file is truncated or damaged.
    #[error("{file} is truncated or damaged: its checksum does not match")]
    Checksum {
        /// Which file.
        file: String,
    },
    /// The format is another one.
    #[error("{file} has the repository format {found}; format 5 is supported")]
    Format {
        /// Which file.
        file: String,
        /// The format as the file says it.
        found: String,
    },
    /// A value that must be there is missing or of another kind.
    #[error("{file} has no valid `{key}`")]
    Missing {
        /// Which file.
        file: String,
        /// Section and key.
        key: String,
    },
}

/// One line of a section.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry<'a> {
    /// Section, without brackets.
    pub section: &'a str,
    /// What stands before the `=`.
    pub key: &'a str,
    /// What stands behind it.
    pub value: Value,
}

/// Reads a file and shows every entry to `sink`; the checksum is compared at the end.
///
/// # Errors
/// [`InfoFileError`]. Entries before the fault have been shown: use them only after success.
pub fn read<'a>(
    file: &str,
    bytes: &'a [u8],
    mut sink: impl FnMut(Entry<'a>) -> Result<(), InfoFileError>,
) -> Result<(), InfoFileError> {
    if bytes.starts_with(SALTED) {
        return Err(InfoFileError::Encrypted { file: file.to_owned() });
    }
    let bad = |line, what| InfoFileError::Line { file: file.to_owned(), line, what };
    let text = std::str::from_utf8(bytes).map_err(|_| bad(1, "it is not UTF-8"))?;
    let (mut checksum, mut section, mut sum) = (Checksum::new(), "", None);
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
            continue;
        }
        let (key, raw, value) =
            split(line).ok_or_else(|| bad(number + 1, "it is not `key=JSON`"))?;
        if section == "backrest" && key == "backrest-checksum" {
            sum = value.as_str().map(str::to_owned);
            continue;
        }
        if section == "backrest" && key == "backrest-format" && raw != "5" {
            return Err(InfoFileError::Format { file: file.to_owned(), found: raw.to_owned() });
        }
        checksum.add(section, key, raw);
        sink(Entry { section, key, value })?;
    }
    if sum == Some(checksum.finish()) {
        Ok(())
    } else {
        Err(InfoFileError::Checksum { file: file.to_owned() })
    }
}

/// SHA-1 over the file as one JSON object of sections (`infoLoad` in `info.c`).
struct Checksum<'a> {
    hash: Sha1,
    section: Option<&'a str>,
}

impl<'a> Checksum<'a> {
    fn new() -> Self {
        let mut hash = Sha1::new();
        hash.update(b"{");
        Self { hash, section: None }
    }

    fn add(&mut self, section: &'a str, key: &str, raw: &str) {
        if self.section == Some(section) {
            self.hash.update(b",");
        } else {
            if self.section.is_some() {
                self.hash.update(b"},");
            }
            self.hash.update(format!("\"{section}\":{{"));
            self.section = Some(section);
        }
        self.hash.update(format!("\"{key}\":{raw}"));
    }

    fn finish(mut self) -> String {
        self.hash.update(b"}}");
        hex::lower(&self.hash.finalize())
    }
}

/// Splits at the first `=` behind which JSON stands: file names may hold the sign themselves.
fn split(line: &str) -> Option<(&str, &str, Value)> {
    line.match_indices('=').find_map(|(at, _)| {
        let raw = &line[at + 1..];
        serde_json::from_str(raw).ok().map(|value| (&line[..at], raw, value))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Appends the right checksum to sections.
    pub(crate) fn sealed(sections: &str) -> String {
        let (mut checksum, mut section) = (Checksum::new(), "");
        for line in sections.lines().filter(|line| !line.is_empty()) {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name;
                continue;
            }
            let (key, raw, _) = split(line).unwrap();
            checksum.add(section, key, raw);
        }
        let sum = checksum.finish();
        format!("{sections}\n[backrest]\nbackrest-checksum=\"{sum}\"\n")
    }

    /// archive.info as pgBackRest 2.45 wrote it.
    pub(crate) const ARCHIVE_INFO: &str = "[backrest]\nbackrest-format=5\n\
        backrest-version=\"2.45\"\n\n[db]\ndb-id=1\ndb-system-id=7712240485959126576\n\
        db-version=\"15\"\n\n[db:history]\n\
        1={\"db-id\":7712240485959126576,\"db-version\":\"15\"}\n\n[backrest]\n\
        backrest-checksum=\"6bdf8c1b78f30917621d894788af54220fbb5940\"\n";

    fn check(text: &str) -> Result<usize, InfoFileError> {
        let mut count = 0;
        read("x.info", text.as_bytes(), |_| {
            count += 1;
            Ok(())
        })?;
        Ok(count)
    }

    #[test]
    fn a_file_that_pgbackrest_wrote_has_the_checksum_it_says() {
        assert_eq!(check(ARCHIVE_INFO), Ok(6));
    }

    #[test]
    fn damage_truncation_encryption_and_other_formats_are_told_apart() {
        let damaged = check(&ARCHIVE_INFO.replace("\"15\"", "\"16\""));
        assert!(matches!(damaged, Err(InfoFileError::Checksum { .. })));
        for end in 0..ARCHIVE_INFO.len() - 1 {
            assert!(check(&ARCHIVE_INFO[..end]).is_err(), "cut after {end} bytes");
        }
        assert!(matches!(check("Salted__abc"), Err(InfoFileError::Encrypted { .. })));
        let format = check(&ARCHIVE_INFO.replace("format=5", "format=6"));
        assert!(matches!(format, Err(InfoFileError::Format { .. })));
    }

    #[test]
    fn an_equals_sign_in_a_name_does_not_split_it() {
        let (key, _, value) = split("pg_data/a=b={\"size\":1}").unwrap();
        assert_eq!((key, value["size"].as_u64()), ("pg_data/a=b", Some(1)));
    }
}
