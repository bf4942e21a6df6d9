//! Paths of the endpoints, below the base URL.

use std::fmt::Write as _;

/// Prefix of every path.
pub const PREFIX: &str = "/v1";

/// `GET` the services of a project, `POST` a new one.
#[must_use]
pub fn services(project: &str) -> String {
    format!("{PREFIX}/project/{}/service", escape(project))
}

/// `GET`, `PUT` or `DELETE` one service.
#[must_use]
pub fn service(project: &str, service: &str) -> String {
    format!("{}/{}", services(project), escape(service))
}

/// `GET` the backups of a service and what can be restored.
#[must_use]
pub fn backups(project: &str, name: &str) -> String {
    format!("{}/backups", service(project, name))
}

/// `POST` for the replication-lag report of a service.
#[must_use]
pub fn lag_report(project: &str, name: &str) -> String {
    format!("{}/backup_to_another_region/report", service(project, name))
}

/// `GET` the tags of a service, `PUT` all, `PATCH` some.
#[must_use]
pub fn tags(project: &str, name: &str) -> String {
    format!("{}/tags", service(project, name))
}

/// `GET` the clouds that a project may use.
#[must_use]
pub fn clouds(project: &str) -> String {
    format!("{PREFIX}/project/{}/clouds", escape(project))
}

/// `GET` one service type with the JSON schema of its settings.
#[must_use]
pub fn service_type(project: &str, service_type: &str) -> String {
    format!("{PREFIX}/project/{}/service-types/{}", escape(project), escape(service_type))
}

/// Percent-encodes all but unreserved characters (RFC 3986), so that a name stays one segment.
fn escape(segment: &str) -> String {
    let mut out = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_~.".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_one_segment() {
        assert_eq!(service("p", "a/b c"), "/v1/project/p/service/a%2Fb%20c");
    }
}
