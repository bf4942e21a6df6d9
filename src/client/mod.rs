//! The client of the API: one method per endpoint.
