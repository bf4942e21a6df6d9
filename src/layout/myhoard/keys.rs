//! The keys of a site of MyHoard.

use crate::layout;

/// What an object of a site is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Part of the base backup, from 1.
    Part {
        /// The stream.
        stream: String,
        /// Its number.
        number: u32,
    },
    /// What the base backup is.
    Base {
        /// The stream.
        stream: String,
    },
    /// Written once, when the base backup is whole.
    Completed {
        /// The stream.
        stream: String,
    },
    /// Written once, when no more binary logs follow.
    Closed {
        /// The stream.
        stream: String,
    },
    /// Written anew whenever somebody asks to keep the stream.
    Preserved {
        /// The stream.
        stream: String,
    },
    /// There while MyHoard takes the stream for broken.
    Broken {
        /// The stream.
        stream: String,
    },
    /// Which server writes the stream's binary logs from which number on; written anew at will.
    Promotion {
        /// The stream.
        stream: String,
    },
    /// A binary log.
    Binlog {
        /// The stream.
        stream: String,
        /// Its number in the stream, from 1.
        index: u32,
        /// The server that wrote it.
        server_id: u32,
    },
    /// Something else.
    Other,
}

/// Binary logs per directory of a stream.
const LOGS_PER_DIRECTORY: u32 = 500;

/// What the object with this key below the site's prefix is.
#[must_use]
pub fn role(key: &str) -> Role {
    let Some((stream, rest)) = key.split_once('/') else { return Role::Other };
    let stream = stream.to_owned();
    match rest {
        "basebackup.json" => Role::Base { stream },
        "completed.json" => Role::Completed { stream },
        "closed.json" => Role::Closed { stream },
        "preserved.json" => Role::Preserved { stream },
        "broken.json" => Role::Broken { stream },
        "basebackup.xbstream" => Role::Part { stream, number: 1 },
        _ => {
            if let Some(number) = rest.strip_prefix("basebackup.xbstream.") {
                let number = number.parse().ok().filter(|number| *number > 1);
                return number.map_or(Role::Other, |number| Role::Part { stream, number });
            }
            if rest.strip_prefix("promotions/").is_some_and(|server| number_of(server).is_some()) {
                return Role::Promotion { stream };
            }
            binlog(rest).map_or(Role::Other, |(index, server_id)| Role::Binlog {
                stream,
                index,
                server_id,
            })
        }
    }
}

/// `binlogs/0/4_31`: number and server.
fn binlog(rest: &str) -> Option<(u32, u32)> {
    let (directory, name) = rest.strip_prefix("binlogs/")?.split_once('/')?;
    let (index, server) = name.split_once('_')?;
    let (index, server) = (number_of(index)?, number_of(server)?);
    (number_of(directory)? == index / LOGS_PER_DIRECTORY && index > 0).then_some((index, server))
}

fn number_of(digits: &str) -> Option<u32> {
    digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// The stream that an object belongs to.
#[must_use]
pub fn stream_of(key: &str) -> Option<String> {
    match role(key) {
        Role::Part { stream, .. }
        | Role::Base { stream }
        | Role::Completed { stream }
        | Role::Closed { stream }
        | Role::Preserved { stream }
        | Role::Broken { stream }
        | Role::Promotion { stream }
        | Role::Binlog { stream, .. } => Some(stream),
        Role::Other => None,
    }
}

/// Key of a stream's object.
#[must_use]
pub fn in_stream(stream: &str, name: &str) -> String {
    format!("{stream}/{name}")
}

impl Role {
    /// Whether its contents are read to know what there is.
    #[must_use]
    pub fn is_note(&self) -> bool {
        match self {
            Self::Base { .. }
            | Self::Completed { .. }
            | Self::Closed { .. }
            | Self::Preserved { .. }
            | Self::Broken { .. }
            | Self::Promotion { .. } => true,
            Self::Part { .. } | Self::Binlog { .. } | Self::Other => false,
        }
    }
}

impl From<Role> for layout::Role {
    fn from(role: Role) -> Self {
        match role {
            // Without it MyHoard takes the stream for none.
            Role::Completed { stream } => Self::Marker { label: stream },
            Role::Part { stream, .. } | Role::Base { stream } | Role::Binlog { stream, .. } => {
                Self::Data { label: stream }
            }
            // Written anew in the course of things.
            Role::Closed { .. }
            | Role::Preserved { .. }
            | Role::Broken { .. }
            | Role::Promotion { .. }
            | Role::Other => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart() {
        let stream = "2026-11-23T08:06:11.102503+00:00_1a40fca6".to_owned();
        let of = |rest: &str| role(&in_stream(&stream, rest));
        assert_eq!(of("basebackup.xbstream"), Role::Part { stream: stream.clone(), number: 1 });
        assert_eq!(of("basebackup.xbstream.002"), Role::Part { stream: stream.clone(), number: 2 });
        assert_eq!(of("completed.json"), Role::Completed { stream: stream.clone() });
        assert_eq!(of("promotions/31"), Role::Promotion { stream: stream.clone() });
        let log = Role::Binlog { stream: stream.clone(), index: 501, server_id: 31 };
        assert_eq!(of("binlogs/1/501_31"), log);
        for other in [
            "binlogs/0/501_31",
            "binlogs/0/0_31",
            "binlogs/0/x_31",
            "basebackup.xbstream.1",
            "binlogs/0/+4_31",
            "promotions/",
            "x",
        ] {
            assert_eq!(of(other), Role::Other, "{other}");
        }
    }
}
