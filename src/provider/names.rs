//! Names and ids as Terraform has them, turned into the domain's.

use crate::{
    domain::{
        cloud::CloudName,
        ids::{ProjectName, ServiceId, ServiceName},
        violation::Violation,
    },
    provider::{
        report::{self, At},
        value::Tf,
    },
};
use tf_provider::{AttributePath, Diagnostics};

/// The service that two attributes name; `None` while one of them is unknown or wrong. What is
/// wrong was reported at validation.
#[must_use]
pub fn service_id(project: &Tf<String>, service: &Tf<String>) -> Option<ServiceId> {
    Some(ServiceId {
        project: ProjectName::parse(project.text()?).ok()?,
        service: ServiceName::parse(service.text()?).ok()?,
    })
}

/// Reports a name that breaks the pattern of `parse`, where it is known.
pub fn validate<T>(
    diagnostics: &mut Diagnostics,
    attribute: &'static str,
    value: &Tf<String>,
    parse: fn(&str) -> Result<T, Violation>,
) {
    if let Some(Err(violation)) = value.text().map(parse) {
        report::violation(diagnostics, At::Attribute(attribute), &violation);
    }
}

/// Reports a text that is none of `words`, where it is known.
pub fn validate_word(
    diagnostics: &mut Diagnostics,
    attribute: &'static str,
    value: &Tf<String>,
    words: &[&str],
) {
    if let Some(text) = value.text().filter(|text| !words.contains(text)) {
        report::word(diagnostics, attribute, text, words);
    }
}

/// Reads an import id: `PROJECT/SERVICE_NAME`, and behind it perhaps `/REGION`.
///
/// # Errors
/// A sentence with the expected form.
pub fn import_id(text: &str) -> Result<(ServiceId, Option<CloudName>), String> {
    let bad = |violation: Violation| violation.explain();
    let mut parts = text.split('/');
    let (Some(project), Some(service)) = (parts.next(), parts.next()) else {
        return Err(format!("`{text}` is not PROJECT/SERVICE_NAME, such as demo/orders."));
    };
    let region = parts.next().map(CloudName::parse).transpose().map_err(bad)?;
    if parts.next().is_some() {
        return Err(format!("`{text}` has too many parts."));
    }
    let project = ProjectName::parse(project).map_err(bad)?;
    let service = ServiceName::parse(service).map_err(bad)?;
    Ok((ServiceId { project, service }, region))
}

/// The attributes among `names` whose values differ between two states of one type.
pub fn changed(
    names: &[String],
    prior: &impl serde::Serialize,
    planned: &impl serde::Serialize,
) -> Vec<AttributePath> {
    let json = |state: serde_json::Result<serde_json::Value>| state.unwrap_or_default();
    let (prior, planned) = (json(serde_json::to_value(prior)), json(serde_json::to_value(planned)));
    let differs = |name: &&String| prior[name.as_str()] != planned[name.as_str()];
    names.iter().filter(differs).map(|name| AttributePath::new(name.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn import_ids_have_two_or_three_parts() {
        let (id, region) = import_id("demo/orders/aws-eu-central-1").unwrap();
        assert_eq!(
            (id.to_string().as_str(), region.unwrap().as_str()),
            ("demo/orders", "aws-eu-central-1")
        );
        assert_eq!(import_id("demo/orders").unwrap().1, None);
        for bad in ["demo", "demo/", "demo/orders/aws/x", "demo/Orders", "/orders"] {
            assert!(import_id(bad).is_err(), "{bad}");
        }
    }
}
