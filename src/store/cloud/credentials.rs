//! Where credentials come from: the variables that the settings name, then each cloud's own chain.

use crate::store::config::{Environment, SettingsError, StoreOptions};
use std::{collections::BTreeMap, path::PathBuf};

/// The value of a variable that a setting names.
pub(super) fn named(
    field: &'static str,
    name: Option<&str>,
    environment: Environment<'_>,
) -> Result<Option<String>, SettingsError> {
    let Some(name) = name else { return Ok(None) };
    match environment(name) {
        Some(value) => Ok(Some(value)),
        None => {
            let what = format!("the environment variable {name} is not set, which {field} names");
            Err(SettingsError::new(field, what))
        }
    }
}

/// Keys of S3.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct AwsKeys {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: String,
    pub(super) session_token: Option<String>,
}

/// Keys that the settings or the profile give; `None` leaves it to the chain.
pub(super) fn aws_keys(
    options: &StoreOptions,
    profile: &Profile,
    environment: Environment<'_>,
) -> Result<Option<AwsKeys>, SettingsError> {
    let id = named("access_key_id_env", options.access_key_id_env.as_deref(), environment)?;
    let secret =
        named("secret_access_key_env", options.secret_access_key_env.as_deref(), environment)?;
    let token = named("session_token_env", options.session_token_env.as_deref(), environment)?;
    match (id, secret) {
        (Some(access_key_id), Some(secret_access_key)) => {
            return Ok(Some(AwsKeys { access_key_id, secret_access_key, session_token: token }));
        }
        (Some(_), None) => {
            let what = "access_key_id_env needs secret_access_key_env beside it";
            return Err(SettingsError::new("access_key_id_env", what));
        }
        (None, Some(_)) => {
            let what = "secret_access_key_env needs access_key_id_env beside it";
            return Err(SettingsError::new("secret_access_key_env", what));
        }
        (None, None) => {}
    }
    // A profile that the settings name goes before the environment, and any other after it.
    let in_environment = ["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"];
    if options.profile.is_none() && in_environment.iter().any(|n| environment(n).is_some()) {
        return Ok(None);
    }
    profile.keys()
}

/// A section of the files that AWS's own tools share.
#[derive(Default)]
pub(super) struct Profile {
    name: String,
    settings: BTreeMap<String, String>,
}

impl Profile {
    /// Reads the section that the settings or `AWS_PROFILE` name, else `default`.
    pub(super) fn read(
        options: &StoreOptions,
        environment: Environment<'_>,
    ) -> Result<Self, SettingsError> {
        let written = options.profile.clone().or_else(|| environment("AWS_PROFILE"));
        let name = written.clone().unwrap_or_else(|| "default".to_owned());
        let home = environment("HOME").map(PathBuf::from);
        let file = |variable: &str, usual: &str| {
            let set = environment(variable).map(PathBuf::from);
            set.or_else(|| Some(home.as_ref()?.join(".aws").join(usual)))
        };
        let mut settings = BTreeMap::new();
        // The file of credentials goes before the other.
        for (variable, usual) in
            [("AWS_CONFIG_FILE", "config"), ("AWS_SHARED_CREDENTIALS_FILE", "credentials")]
        {
            let text = file(variable, usual).and_then(|path| std::fs::read_to_string(path).ok());
            settings.extend(section(&text.unwrap_or_default(), &name));
        }
        if settings.is_empty() && written.is_some() {
            let what = format!(
                "there is no profile `{name}` in ~/.aws/credentials or ~/.aws/config; make it, or \
                 name variables with access_key_id_env and secret_access_key_env"
            );
            return Err(SettingsError::new("profile", what));
        }
        Ok(Self { name, settings })
    }

    pub(super) fn region(&self) -> Option<String> {
        self.settings.get("region").cloned()
    }

    fn keys(&self) -> Result<Option<AwsKeys>, SettingsError> {
        let get = |name: &str| self.settings.get(name).cloned();
        if let (Some(access_key_id), Some(secret_access_key)) =
            (get("aws_access_key_id"), get("aws_secret_access_key"))
        {
            let session_token = get("aws_session_token");
            return Ok(Some(AwsKeys { access_key_id, secret_access_key, session_token }));
        }
        let others =
            ["role_arn", "sso_session", "sso_start_url", "credential_process", "login_session"];
        match others.iter().find(|name| self.settings.contains_key(**name)) {
            None => Ok(None),
            Some(other) => {
                let what = format!(
                    "the profile `{}` has `{other}`, which this program cannot follow; export its \
                     keys (aws configure export-credentials --format env) and name the variables \
                     with access_key_id_env, secret_access_key_env and session_token_env",
                    self.name
                );
                Err(SettingsError::new("profile", what))
            }
        }
    }
}

/// The settings of a section of an INI file.
fn section(text: &str, name: &str) -> BTreeMap<String, String> {
    let mut inside = false;
    let mut settings = BTreeMap::new();
    for line in text.lines() {
        let bare = line.trim();
        if bare.starts_with(['#', ';']) || bare.is_empty() {
            continue;
        }
        if let Some(header) = bare.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            let header = header.trim();
            inside = header.strip_prefix("profile ").map_or(header, str::trim) == name;
            continue;
        }
        // Indented lines belong to the setting above them.
        let nested = line.starts_with([' ', '\t']);
        if let Some((key, value)) = bare.split_once('=').filter(|_| inside && !nested) {
            settings.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# mine\n[default]\naws_access_key_id = A\naws_secret_access_key=S\n\n\
        [profile eu]\nregion = eu-west-1\ns3 =\n  addressing_style = path\n\
        [sso]\nsso_session = x\n";

    fn check(options: &StoreOptions, variables: &[(&str, &str)], expect: &str) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".aws")).unwrap();
        std::fs::write(dir.path().join(".aws/credentials"), FILE).unwrap();
        let home = dir.path().to_str().unwrap().to_owned();
        let environment = move |name: &str| match name {
            "HOME" => Some(home.clone()),
            name => variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()),
        };
        let keys = Profile::read(options, &environment)
            .and_then(|profile| aws_keys(options, &profile, &environment));
        let said = match keys {
            Ok(None) => "chain".to_owned(),
            Ok(Some(keys)) => format!("{} {}", keys.access_key_id, keys.secret_access_key),
            Err(error) => format!("{}: {error}", error.field),
        };
        assert!(said.contains(expect), "{said}");
        assert!(!said.contains("top-secret"), "{said}");
    }

    #[test]
    fn what_is_named_goes_before_the_chain() {
        let none = StoreOptions::default();
        check(&none, &[], "A S");
        check(&none, &[("AWS_ACCESS_KEY_ID", "B")], "chain");
        let profile = |name: &str| StoreOptions { profile: Some(name.to_owned()), ..none.clone() };
        check(&profile("default"), &[("AWS_ACCESS_KEY_ID", "B")], "A S");
        check(&profile("eu"), &[], "chain");
        check(&profile("sso"), &[], "profile: the profile `sso` has `sso_session`");
        check(&profile("no"), &[], "there is no profile `no`");
        let env = |id: Option<&str>, secret: Option<&str>| StoreOptions {
            access_key_id_env: id.map(str::to_owned),
            secret_access_key_env: secret.map(str::to_owned),
            ..none.clone()
        };
        let variables = [("ID", "C"), ("KEY", "D")];
        check(&env(Some("ID"), Some("KEY")), &variables, "C D");
        check(&env(Some("ID"), None), &variables, "access_key_id_env: ");
        check(&env(Some("ID"), Some("NONE")), &variables, "NONE is not set");
    }
}
