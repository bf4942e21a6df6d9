//! Restores a base backup, replays the log to the stop point, verifies, promotes and opens.
