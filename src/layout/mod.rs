//! One file per backup tool: what a key is, in which order it is copied, what a backup needs.
