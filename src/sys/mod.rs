//! The outside world behind seams: time now; more as it is needed.

pub mod clock;
