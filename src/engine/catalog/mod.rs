//! What a store holds of one service: its backups, which of them are restorable, and when to.
