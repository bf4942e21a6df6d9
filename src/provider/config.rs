//! The provider block and the environment behind it: explicit configuration wins.

use crate::{
    client::{retry::RetryPolicy, token::Token, transport::Endpoint},
    provider::{
        duration,
        value::{Secret, Tf},
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use url::{Host, Url};

/// Aiven's public API.
pub const DEFAULT_URL: &str = "https://api.aiven.io";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const RETRIES_LIMIT: u32 = 20;

/// Backup to another region: secondary backup regions of services, and forks from them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderModel {
    /// API token. Also from the environment variable `AIVEN_TOKEN`, which keeps it out of files.
    #[schemars(extend("x-tf" = "optional sensitive"))]
    pub api_token: Tf<Secret>,
    /// Base URL of the API, without `/v1`: Aiven's, or that of `btar serve`. Also from
    /// `AIVEN_WEB_URL`. Without either it is `https://api.aiven.io`.
    #[schemars(extend("x-tf" = "optional"))]
    pub api_url: Tf<String>,
    /// Further certificates to trust, as PEM or as the path of a PEM file. Also from
    /// `AIVEN_CA_CERT`.
    #[schemars(extend("x-tf" = "optional"))]
    pub ca_certificate: Tf<String>,
    /// What a refresh does when the API cannot tell: `fail` (as without it), or `keep_state` to go
    /// on with what the state says, and a warning. Also from `AIVEN_ON_READ_ERROR`.
    #[schemars(extend("x-tf" = "optional"))]
    pub on_read_error: Tf<String>,
    /// Limit of one request, such as `30s`. Without it `60s`.
    #[schemars(extend("x-tf" = "optional"))]
    pub request_timeout: Tf<String>,
    /// How often a request that is safe to repeat is repeated, such as `4`. Without it `4`.
    #[schemars(extend("x-tf" = "optional"))]
    pub max_retries: Tf<String>,
}

/// What the environment says.
#[derive(Clone, Default)]
pub struct Environment {
    /// `AIVEN_TOKEN`.
    pub token: Option<String>,
    /// `AIVEN_WEB_URL`.
    pub url: Option<String>,
    /// `AIVEN_CA_CERT`.
    pub ca_certificate: Option<String>,
    /// `AIVEN_ON_READ_ERROR`.
    pub on_read_error: Option<String>,
    /// `TF_APPEND_USER_AGENT`.
    pub append_user_agent: Option<String>,
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Environment {
    /// Reads the environment of this process. An empty variable counts as not set.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is a config.rs")]
    pub fn read() -> Self {
        let get = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        Self {
            token: get("AIVEN_TOKEN"),
            url: get("AIVEN_WEB_URL"),
            ca_certificate: get("AIVEN_CA_CERT"),
            on_read_error: get("AIVEN_ON_READ_ERROR"),
            append_user_agent: get("TF_APPEND_USER_AGENT"),
        }
    }
}

/// What a refresh does when the API cannot tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnReadError {
    /// The plan fails.
    Fail,
    /// The state is kept, with a warning.
    KeepState,
}

/// The settings of one run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the API is.
    pub endpoint: Endpoint,
    /// How requests are repeated.
    pub policy: RetryPolicy,
    /// What a refresh does when the API cannot tell.
    pub on_read_error: OnReadError,
    /// The token travels unencrypted to another machine.
    pub is_exposed: bool,
}

/// Something that is wrong in the provider block or the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The attribute.
    pub attribute: &'static str,
    /// What is wrong and how to put it right.
    pub text: String,
}

/// The settings, or `None` when some are known only after apply.
///
/// # Errors
/// Everything that is wrong.
pub fn resolve(
    model: &ProviderModel,
    environment: &Environment,
    terraform_version: &str,
) -> Result<Option<Settings>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut note = |attribute, text: String| problems.push(Problem { attribute, text });
    let pick = |value: &Tf<String>, fallback: &Option<String>| {
        value.text().map(str::to_owned).or_else(|| fallback.clone())
    };
    let token = model.api_token.reveal().map(str::to_owned).or_else(|| environment.token.clone());
    let token = token.filter(|text| !text.is_empty());
    if token.is_none() && !model.api_token.is_unknown() {
        note("api_token", "No API token is set. Set the environment variable AIVEN_TOKEN.".into());
    }
    let url = pick(&model.api_url, &environment.url).unwrap_or_else(|| DEFAULT_URL.to_owned());
    let (url, is_exposed) = match base_url(&url) {
        Ok(found) => found,
        Err(text) => {
            note("api_url", text);
            (String::new(), false)
        }
    };
    let on_read_error = pick(&model.on_read_error, &environment.on_read_error);
    let on_read_error = on_read_error_of(on_read_error.as_deref()).unwrap_or_else(|text| {
        note("on_read_error", text);
        OnReadError::Fail
    });
    let request_timeout = model.request_timeout.text().map_or(Ok(REQUEST_TIMEOUT), duration::parse);
    let request_timeout = request_timeout.unwrap_or_else(|error| {
        note("request_timeout", format!("{error}."));
        REQUEST_TIMEOUT
    });
    let policy = policy_of(model.max_retries.text()).unwrap_or_else(|text| {
        note("max_retries", text);
        RetryPolicy::default()
    });
    let ca_pem = pick(&model.ca_certificate, &environment.ca_certificate).map(pem).transpose();
    let ca_pem = ca_pem.unwrap_or_else(|text| {
        note("ca_certificate", text);
        None
    });
    if !problems.is_empty() {
        return Err(problems);
    }
    let is_open = model.api_token.is_unknown()
        || model.api_url.is_unknown()
        || model.ca_certificate.is_unknown();
    let Some(token) = token.filter(|_| !is_open) else {
        return Ok(None);
    };
    let user_agent = user_agent(terraform_version, environment.append_user_agent.as_deref());
    let token = Token::new(token);
    let endpoint = Endpoint { url, token, ca_pem, user_agent, request_timeout };
    Ok(Some(Settings { endpoint, policy, on_read_error, is_exposed }))
}

/// The base URL without a trailing slash or `/v1`, and whether what is sent there can be overheard.
fn base_url(text: &str) -> Result<(String, bool), String> {
    let advice = "Write it like https://api.aiven.io or http://127.0.0.1:8080.";
    let url = Url::parse(text).map_err(|e| format!("The URL makes no sense: {e}. {advice}"))?;
    let local = match url.host() {
        None => return Err(format!("`{text}` names no host. {advice}")),
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("Leave name and password out of the URL. {advice}"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("Leave `?` and `#` out of the URL. {advice}"));
    }
    let base = url.as_str().trim_end_matches('/');
    let base = base.strip_suffix("/v1").unwrap_or(base).trim_end_matches('/');
    match url.scheme() {
        "https" => Ok((base.to_owned(), false)),
        "http" => Ok((base.to_owned(), !local)),
        scheme => Err(format!("The scheme `{scheme}` is not http or https. {advice}")),
    }
}

fn on_read_error_of(text: Option<&str>) -> Result<OnReadError, String> {
    match text {
        None | Some("fail") => Ok(OnReadError::Fail),
        Some("keep_state") => Ok(OnReadError::KeepState),
        Some(other) => Err(format!("`{other}` is neither `fail` nor `keep_state`.")),
    }
}

fn policy_of(text: Option<&str>) -> Result<RetryPolicy, String> {
    let policy = RetryPolicy::default();
    let Some(text) = text else { return Ok(policy) };
    match text.parse() {
        Ok(retries_max) if retries_max <= RETRIES_LIMIT => {
            Ok(RetryPolicy { retries_max, ..policy })
        }
        _ => Err(format!("`{text}` is not a whole number from 0 to {RETRIES_LIMIT}.")),
    }
}

fn pem(text: String) -> Result<String, String> {
    if text.contains("-----BEGIN") {
        return Ok(text);
    }
    std::fs::read_to_string(&text).map_err(|error| {
        format!("`{text}` is neither PEM nor the path of a file that can be read: {error}.")
    })
}

fn user_agent(terraform_version: &str, append: Option<&str>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let text = format!("terraform-provider-btar/{version} (terraform/{terraform_version})");
    let text = append.map_or(text.clone(), |append| format!("{text} {append}"));
    // Only what a header can carry.
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment {
            token: Some("from-environment".to_owned()),
            url: Some("http://127.0.0.1:8080/v1/".to_owned()),
            append_user_agent: Some("ci/1".to_owned()),
            ..Environment::default()
        }
    }

    fn settings(model: &ProviderModel, environment: &Environment) -> Settings {
        resolve(model, environment, "1.11.4").unwrap().unwrap()
    }

    #[test]
    fn explicit_configuration_wins_over_the_environment() {
        let empty = settings(&ProviderModel::default(), &environment());
        assert_eq!(empty.endpoint.url, "http://127.0.0.1:8080");
        assert_eq!(empty.endpoint.token, Token::new("from-environment".to_owned()));
        assert!(empty.endpoint.user_agent.ends_with("(terraform/1.11.4) ci/1"));
        let model = ProviderModel {
            api_token: "explicit".into(),
            api_url: "https://example.org".into(),
            on_read_error: "keep_state".into(),
            max_retries: "0".into(),
            request_timeout: "5s".into(),
            ..ProviderModel::default()
        };
        let explicit = settings(&model, &environment());
        assert_eq!(explicit.endpoint.url, "https://example.org");
        assert_eq!(explicit.endpoint.token, Token::new("explicit".to_owned()));
        assert_eq!(explicit.endpoint.request_timeout, Duration::from_secs(5));
        assert_eq!(explicit.on_read_error, OnReadError::KeepState);
        assert_eq!(explicit.policy.retries_max, 0);
    }

    #[test]
    fn unknown_settings_are_no_error() {
        let model = ProviderModel { api_token: Tf::Unknown, ..ProviderModel::default() };
        assert!(resolve(&model, &Environment::default(), "1").unwrap().is_none());
        let model = ProviderModel { api_url: Tf::Unknown, ..ProviderModel::default() };
        assert!(resolve(&model, &environment(), "1").unwrap().is_none());
    }

    #[test]
    fn what_is_wrong_is_said_at_its_attribute() {
        let check = |model: ProviderModel, attribute: &str| {
            let problems = resolve(&model, &environment(), "1").unwrap_err();
            let found: Vec<_> = problems.iter().map(|problem| problem.attribute).collect();
            assert_eq!(found, [attribute]);
        };
        let model = ProviderModel::default;
        for url in ["nowhere", "ftp://x", "https://me:secret@x", "https://x?y"] {
            check(ProviderModel { api_url: url.into(), ..model() }, "api_url");
        }
        check(ProviderModel { api_token: "".into(), ..model() }, "api_token");
        check(ProviderModel { on_read_error: "ignore".into(), ..model() }, "on_read_error");
        check(ProviderModel { request_timeout: "1".into(), ..model() }, "request_timeout");
        check(ProviderModel { max_retries: "21".into(), ..model() }, "max_retries");
        check(ProviderModel { ca_certificate: "/nowhere".into(), ..model() }, "ca_certificate");
    }

    #[test]
    fn a_token_over_plain_http_to_elsewhere_is_noticed() {
        assert_eq!(base_url("http://127.0.0.1:1").unwrap(), ("http://127.0.0.1:1".into(), false));
        assert!(base_url("http://example.org").unwrap().1);
        assert!(!base_url("https://example.org/").unwrap().1);
    }
}
