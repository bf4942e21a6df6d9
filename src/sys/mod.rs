//! The outside world behind seams: time, the log.

pub mod clock;
pub mod telemetry;
