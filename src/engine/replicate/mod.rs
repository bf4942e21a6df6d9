//! Copies one service's backups from the primary region's store to a secondary region's.
