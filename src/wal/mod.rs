//! PostgreSQL's write-ahead log: records, their times, and where a recovery stops.
