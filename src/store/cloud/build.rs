//! From the settings of a bucket to its client.

use crate::{
    store::{
        address::Cloud,
        cloud::{
            CloudStore, Shared,
            call::{Connector, Signer},
            copy::{self, Copier},
            credentials::{Profile, aws_keys, named},
            erase::Eraser,
            gate::Gate,
            place::{Place, endpoint},
        },
        config::{Environment, SettingsError, StoreOptions},
        key::Key,
        wrap::{limit::Memory, retry::RetryPolicy},
    },
    sys::clock::Clock,
};
use http::HeaderValue;
use object_store::{
    BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig, StaticCredentialProvider,
    aws::{AmazonS3Builder, Checksum},
    azure::{AzureConfigKey, MicrosoftAzureBuilder, split_sas},
    client::{HttpClient, HttpConnector},
    gcp::{GcpCredential, GoogleCloudStorageBuilder},
};
use std::{sync::Arc, time::Duration};
use url::Url;

/// Memory for what is being written to one store, in MiB.
const UPLOAD_MEMORY_MIB: u64 = 128;
/// Requests to one store at the same time, unless the settings say otherwise.
const REQUESTS_MAX: usize = 64;
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long nothing may come. There is no limit for the whole of an answer: large objects take long.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// A client of a store of any cloud.
type Client = Box<dyn ObjectStore>;

/// A bucket or container, as its address names it.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Whose.
    pub cloud: Cloud,
    /// Name.
    pub name: String,
    /// Below which all keys lie.
    pub prefix: Key,
    /// The account that an address of Azure names.
    pub account: Option<String>,
}

/// Opens a bucket. Nothing is asked of it yet.
///
/// # Errors
/// [`SettingsError`] with the setting and the remedy.
pub fn open(
    bucket: Bucket,
    options: &StoreOptions,
    clock: Arc<dyn Clock>,
    environment: Environment<'_>,
) -> Result<CloudStore, SettingsError> {
    let gate = Arc::new(Gate::new(options.requests_max.unwrap_or(REQUESTS_MAX), clock.clone()));
    copy::check(bucket.cloud, options)?;
    let (mut eraser, mut copier) = (None, None);
    let (client, unsummed, scheme) = match bucket.cloud {
        Cloud::S3 => {
            let (client, unsummed, made) = s3(&bucket, options, environment, gate)?;
            copier = Some(made);
            (client, unsummed, "s3")
        }
        Cloud::Gcs => (gcs(&bucket, options, environment, gate)?, None, "gs"),
        Cloud::Azure => {
            let (client, made) = azure(&bucket, options, environment, gate)?;
            eraser = Some(made);
            (client, None, "az")
        }
    };
    let slash = if bucket.prefix.as_str().is_empty() { "" } else { "/" };
    let memory_mib = options.upload_memory_mib.unwrap_or(UPLOAD_MEMORY_MIB);
    let shared = Shared {
        cloud: bucket.cloud,
        name: format!("{scheme}://{}{slash}{}", bucket.name, bucket.prefix),
        prefix: bucket.prefix,
        client,
        unsummed,
        eraser,
        copier,
        proof: options.proof,
        conditional_writes: options.conditional_writes,
        memory: Memory::new(memory_mib << 20),
        clock,
        retries: RetryPolicy::default(),
    };
    Ok(CloudStore { shared: Arc::new(shared) })
}

/// The client that computes the checksums of what it sends, and where contents are not signed one that
/// leaves that to the call.
fn s3(
    bucket: &Bucket,
    options: &StoreOptions,
    environment: Environment<'_>,
    gate: Arc<Gate>,
) -> Result<(Client, Option<Client>, Copier), SettingsError> {
    let profile = Profile::read(options, environment)?;
    let region = options.region.clone();
    let region = region.or_else(|| environment("AWS_REGION"));
    let region = region.or_else(|| environment("AWS_DEFAULT_REGION")).or_else(|| profile.region());
    let region = region.or_else(|| options.endpoint.as_ref().map(|_| "us-east-1".to_owned()));
    let Some(region) = region else {
        let what = "the region of the bucket is not known; add region = \"eu-west-1\" or the like";
        return Err(SettingsError::new("store", what));
    };
    let Place { service, host, virtual_host, bucket_url } =
        Place::of(&bucket.name, &region, options)?;
    // TLS and the checksum guard the contents; hashing them for the signature costs more.
    let sign_payload = !(host.starts_with("https:") || options.unsigned_payload);
    let connector = connector(&host, gate);
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&bucket.name)
        .with_region(&region)
        .with_endpoint(&host)
        .with_virtual_hosted_style_request(virtual_host)
        .with_unsigned_payload(!sign_payload)
        .with_disable_bulk_delete(true)
        .with_skip_signature(options.anonymous)
        .with_client_options(client_options(options)?)
        .with_retry(client_retries())
        .with_http_connector(connector.clone());
    match aws_keys(options, &profile, environment)? {
        Some(keys) => {
            builder = builder
                .with_access_key_id(keys.access_key_id)
                .with_secret_access_key(keys.secret_access_key);
            if let Some(token) = keys.session_token {
                builder = builder.with_token(token);
            }
        }
        None => {
            for name in AWS_CHAIN {
                let key = name.to_ascii_lowercase().parse();
                let key = key.map_err(|_| SettingsError::new("store", "a key is not known"))?;
                if let Some(value) = environment(name) {
                    builder = builder.with_config(key, value);
                }
            }
        }
    }
    let summing = builder.clone().with_checksum_algorithm(Checksum::CRC64NVME);
    let client = summing.build().map_err(|_| unusable(AWS_REMEDY))?;
    let credentials = client.credentials().clone();
    let copier = Copier {
        service,
        is_asked_for: options.server_side_copy,
        client: http_client(&connector, options)?,
        bucket: bucket.name.clone(),
        bucket_url,
    };
    if options.anonymous {
        return Ok((Box::new(client), None, copier));
    }
    let unsummed: Option<Client> = match sign_payload {
        true => None,
        false => {
            // Signed by the layer, with the checksum's header: once.
            let builder = builder.with_skip_signature(true);
            Some(Box::new(builder.build().map_err(|_| unusable(AWS_REMEDY))?))
        }
    };
    // A fresh connector has no signer yet.
    let _ = connector.signer.set(Signer::Aws { credentials, region, sign_payload });
    Ok((Box::new(client), unsummed, copier))
}

/// The variables of AWS's own chain of credentials, which its client follows.
const AWS_CHAIN: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_METADATA_ENDPOINT",
];
const AWS_REMEDY: &str = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY together, or name other \
                          variables with access_key_id_env and secret_access_key_env";

fn gcs(
    bucket: &Bucket,
    options: &StoreOptions,
    environment: Environment<'_>,
    gate: Arc<Gate>,
) -> Result<Client, SettingsError> {
    let endpoint = endpoint(options)?.map(|url| url.as_str().trim_end_matches('/').to_owned());
    let host = endpoint.unwrap_or_else(|| "https://storage.googleapis.com".to_owned());
    let connector = connector(&host, gate);
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(&bucket.name)
        .with_base_url(&host)
        .with_client_options(client_options(options)?)
        .with_retry(client_retries())
        .with_http_connector(connector.clone());
    let token = named("access_token_env", options.access_token_env.as_deref(), environment)?;
    let bearer = token.or_else(|| options.anonymous.then(String::new));
    if let Some(bearer) = bearer {
        let credential = GcpCredential { bearer };
        builder = builder
            .with_skip_signature(options.anonymous)
            .with_credentials(Arc::new(StaticCredentialProvider::new(credential)));
    } else if let Some(file) = &options.service_account_file {
        builder = builder.with_service_account_path(file.to_string_lossy());
    } else if let Some(file) = environment("GOOGLE_APPLICATION_CREDENTIALS") {
        builder = builder.with_application_credentials(file);
    }
    let client = builder.build().map_err(|_| unusable(GOOGLE_REMEDY))?;
    // A fresh connector has no signer yet.
    let _ = connector.signer.set(Signer::Bearer);
    Ok(Box::new(client))
}

const GOOGLE_REMEDY: &str = "check that service_account_file or GOOGLE_APPLICATION_CREDENTIALS \
                             names a readable key of a service account or an authorized user";

fn azure(
    bucket: &Bucket,
    options: &StoreOptions,
    environment: Environment<'_>,
    gate: Arc<Gate>,
) -> Result<(Client, Eraser), SettingsError> {
    let account = bucket.account.clone().or_else(|| options.account.clone());
    let account = account.or_else(|| environment("AZURE_STORAGE_ACCOUNT"));
    let account = account.or_else(|| environment("AZURE_STORAGE_ACCOUNT_NAME"));
    let Some(account) = account else {
        let what = "the storage account is not known; add account = \"…\" to store_options, or write \
                    https://ACCOUNT.blob.core.windows.net/CONTAINER/PREFIX";
        return Err(SettingsError::new("store", what));
    };
    let endpoint = endpoint(options)?.map(|url| url.as_str().trim_end_matches('/').to_owned());
    let host = endpoint.unwrap_or_else(|| format!("https://{account}.blob.core.windows.net"));
    let connector = connector(&host, gate);
    let mut builder = MicrosoftAzureBuilder::new()
        .with_account(&account)
        .with_container_name(&bucket.name)
        .with_endpoint(host.clone())
        .with_skip_signature(options.anonymous)
        .with_client_options(client_options(options)?)
        .with_retry(client_retries())
        .with_http_connector(connector.clone());
    for name in AZURE_CHAIN {
        let key = name.to_ascii_lowercase().parse::<AzureConfigKey>();
        let key = key.map_err(|_| SettingsError::new("store", "a key is not known"))?;
        if let Some(value) = environment(name) {
            builder = builder.with_config(key, value);
        }
    }
    let key = named("account_key_env", options.account_key_env.as_deref(), environment)?;
    let sas = named("sas_env", options.sas_env.as_deref(), environment)?;
    let token = named("access_token_env", options.access_token_env.as_deref(), environment)?;
    let secret = named("client_secret_env", options.client_secret_env.as_deref(), environment)?;
    let set = [
        (AzureConfigKey::AccessKey, key),
        (AzureConfigKey::Token, token),
        (AzureConfigKey::ClientId, options.client_id.clone()),
        (AzureConfigKey::AuthorityId, options.tenant_id.clone()),
        (AzureConfigKey::ClientSecret, secret),
    ];
    for (key, value) in set {
        if let Some(value) = value {
            builder = builder.with_config(key, value);
        }
    }
    if let Some(sas) = sas {
        let pairs = split_sas(&sas).map_err(|_| {
            SettingsError::new("sas_env", "the variable holds no shared access signature")
        })?;
        builder = builder.with_sas_authorization(pairs);
    }
    let client = builder.build().map_err(|_| unusable(AZURE_REMEDY))?;
    let eraser = Eraser {
        client: http_client(&connector, options)?,
        container: Url::parse(&format!("{host}/{}", bucket.name))
            .map_err(|_| SettingsError::new("store", "the container's name fits no URL"))?,
        account: account.clone(),
        credentials: (!options.anonymous).then(|| client.credentials().clone()),
    };
    let credentials = client.credentials().clone();
    // A fresh connector has no signer yet.
    let _ = connector.signer.set(Signer::Azure { credentials, account });
    Ok((Box::new(client), eraser))
}

/// The variables of Azure's own chain of credentials, which its client follows.
const AZURE_CHAIN: &[&str] = &[
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_CLIENT_ID",
    "AZURE_TENANT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_AUTHORITY_HOST",
    "IDENTITY_ENDPOINT",
    "MSI_ENDPOINT",
];
const AZURE_REMEDY: &str = "check account_key_env (a key in base64), sas_env, or client_id, \
                            tenant_id and client_secret_env";

/// The client's own words may quote what they could not read, which may be a secret.
fn unusable(remedy: &str) -> SettingsError {
    SettingsError::new("store", format!("the credentials of the store cannot be used; {remedy}"))
}

fn connector(host: &str, gate: Arc<Gate>) -> Connector {
    let url = Url::parse(host).ok();
    let authority = url.map(|url| url.authority().to_owned()).unwrap_or_default();
    Connector { authority, signer: Arc::default(), gate, client: Arc::default() }
}

fn http_client(connector: &Connector, options: &StoreOptions) -> Result<HttpClient, SettingsError> {
    let client = connector.connect(&client_options(options)?);
    client.map_err(|_| SettingsError::new("store", "no HTTP client can be made"))
}

fn client_options(options: &StoreOptions) -> Result<ClientOptions, SettingsError> {
    let agent = HeaderValue::from_static(concat!("btar/", env!("CARGO_PKG_VERSION")));
    let mut client = ClientOptions::new()
        .with_user_agent(agent)
        .with_allow_http(options.allow_http)
        .with_timeout_disabled()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_read_timeout(SILENCE_MAX);
    if let Some(file) = &options.ca_file {
        let wrong =
            |what: String| SettingsError::new("ca_file", format!("{} {what}", file.display()));
        let pem = std::fs::read(file).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        let certificates = Certificate::from_pem_bundle(&pem)
            .ok()
            .filter(|certificates| !certificates.is_empty())
            .ok_or_else(|| wrong("holds no certificate in PEM".to_owned()))?;
        for certificate in certificates {
            client = client.with_root_certificate(certificate);
        }
    }
    Ok(client)
}

/// The client repeats at once what a moment mends. Longer pauses are ours, with our clock.
fn client_retries() -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(50),
        max_backoff: Duration::from_secs(1),
        base: 2.0,
    };
    RetryConfig { backoff, max_retries: 2, retry_timeout: Duration::from_secs(60) }
}
