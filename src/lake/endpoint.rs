//! Where a bucket is, and who asks: from its URL, the environment and the files of the AWS tools.
//!
//! In this order: `AWS_ACCESS_KEY_ID` with `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`; the keys
//! of the profile; a web identity (`AWS_WEB_IDENTITY_TOKEN_FILE`, as on Kubernetes), a container's or
//! a machine's role on AWS. Not read: single sign-on, assumed roles and processes of a profile,
//! which is then refused.

use super::profile::Profile;
use crate::error::Refused;
use anyhow::Result;
use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use std::env;
use std::time::Duration;

/// A request, with what it carries: 8 MiB at 32 KiB/s.
const REQUEST_MAX: Duration = Duration::from_secs(240);

/// Until a connection is made.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// How long a request is tried again.
const RETRY_MAX: Duration = Duration::from_secs(180);

/// The same for the first requests: whoever starts it is waiting.
const FIRST_RETRY_MAX: Duration = Duration::from_secs(10);

/// A place in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The bucket's name.
    pub bucket: String,
    /// The names before those of the lake, may be empty.
    pub prefix: Path,
}

impl Place {
    /// Parses `s3://BUCKET/PREFIX`.
    ///
    /// # Errors
    /// If it is something else.
    pub(super) fn parse(url: &str) -> Result<Self> {
        let refuse = |what: String| {
            let hint = "give a directory or `s3://BUCKET/PREFIX`; AWS_ENDPOINT_URL says where the \
                bucket is, if not at AWS";
            Err(Refused::new(what, hint).into())
        };
        let rest = url.strip_prefix("s3://").or_else(|| url.strip_prefix("s3a://"));
        let Some(rest) = rest else { return refuse(format!("`{url}` is not in a bucket")) };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_name = |char: char| char.is_ascii_alphanumeric() || ".-_".contains(char);
        if bucket.is_empty() || !bucket.chars().all(is_name) {
            return refuse(format!("`{url}` names no bucket"));
        }
        match Path::parse(prefix.trim_end_matches('/')) {
            Ok(prefix) => Ok(Self { bucket: bucket.to_owned(), prefix }),
            Err(error) => refuse(format!("`{url}` has a prefix that cannot be used: {error}")),
        }
    }
}

/// Where requests go, and how they are signed.
pub(super) struct Endpoint {
    builder: AmazonS3Builder,
    /// For people: its address, or that it is AWS.
    pub shown: String,
}

impl Endpoint {
    /// Reads the environment and the files.
    ///
    /// # Errors
    /// If they contradict each other, or say something that is not read.
    pub(super) fn read(bucket: &str) -> Result<Self> {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let profile = Profile::read()?;
        let of_profile = |name: &str| profile.get(name).map(str::to_owned);
        let mut builder = of_environment()
            .with_bucket_name(bucket)
            .with_conditional_put(S3ConditionalPut::ETagMatch);
        let key = set("AWS_ACCESS_KEY_ID");
        if key.is_none() && set("AWS_WEB_IDENTITY_TOKEN_FILE").is_none() {
            match of_profile("aws_access_key_id").zip(of_profile("aws_secret_access_key")) {
                Some((key, secret)) => {
                    builder = builder.with_access_key_id(key).with_secret_access_key(secret);
                    if let Some(token) = of_profile("aws_session_token") {
                        builder = builder.with_token(token);
                    }
                }
                None => profile.refuse_unknown()?,
            }
        } else if key.is_some() != set("AWS_SECRET_ACCESS_KEY").is_some() {
            let what = "AWS_ACCESS_KEY_ID is set, and AWS_SECRET_ACCESS_KEY is not";
            return Err(Refused::new(what, "set both, or none to use a profile").into());
        }
        let region = set("AWS_REGION").or_else(|| set("AWS_DEFAULT_REGION"));
        if let Some(region) = region.or_else(|| of_profile("region")) {
            builder = builder.with_region(region);
        }
        let url = set("AWS_ENDPOINT_URL_S3").or_else(|| set("AWS_ENDPOINT_URL"));
        let url = url.or_else(|| of_profile("endpoint_url"));
        if let Some(url) = &url {
            if !url.starts_with("http://") && !url.starts_with("https://") {
                let what = format!("the endpoint `{url}` is no address");
                let hint = "AWS_ENDPOINT_URL must begin with `https://`, or with `http://` for one \
                    that is near";
                return Err(Refused::new(what, hint).into());
            }
            builder = builder.with_endpoint(url.trim_end_matches('/'));
        }
        let is_plain = url.as_ref().is_some_and(|url| url.starts_with("http://"));
        // An image without certificates can use a plain endpoint; a web identity is checked by AWS.
        let needs_certificates = !is_plain || set("AWS_WEB_IDENTITY_TOKEN_FILE").is_some();
        let options = ClientOptions::new()
            .with_timeout(REQUEST_MAX)
            .with_connect_timeout(CONNECT_MAX)
            .with_no_system_certificates(!needs_certificates)
            .with_allow_http(is_plain);
        let builder = builder.with_client_options(options).with_allow_http(is_plain);
        Ok(Self { builder, shown: url.unwrap_or_else(|| "AWS".to_owned()) })
    }

    /// A client whose requests are tried again for some minutes.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(super) fn client(&self) -> object_store::Result<AmazonS3> {
        self.builder.clone().with_retry(retry(8, RETRY_MAX)).build()
    }

    /// The same for some seconds.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(super) fn first_client(&self) -> object_store::Result<AmazonS3> {
        self.builder.clone().with_retry(retry(3, FIRST_RETRY_MAX)).build()
    }
}

/// What the environment says. A variable that is set to nothing is not set.
fn of_environment() -> AmazonS3Builder {
    env::vars_os()
        .filter_map(|(name, value)| {
            let name = name.to_str()?.to_ascii_lowercase();
            let key = name.starts_with("aws_").then_some(name)?.parse().ok()?;
            Some((key, value.into_string().ok().filter(|value| !value.is_empty())?))
        })
        .fold(AmazonS3Builder::new(), |builder, (key, value)| builder.with_config(key, value))
}

fn retry(max_retries: usize, retry_timeout: Duration) -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries, retry_timeout }
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn a_place_is_a_bucket_and_a_prefix() {
        let check = |url: &str, expected: Option<(&str, &str)>| {
            let place = Place::parse(url).ok();
            let found = place.as_ref().map(|place| (&place.bucket[..], place.prefix.as_ref()));
            assert_eq!(found, expected, "{url}");
        };
        check("s3://whales", Some(("whales", "")));
        check("s3://whales/", Some(("whales", "")));
        check("s3://whales/main/net", Some(("whales", "main/net")));
        check("s3a://whales/main/", Some(("whales", "main")));
        check("s3://", None);
        check("s3:///prefix", None);
        check("s3://a b/c", None);
        check("s3://whales/a//b", None);
        check("s3://whales/../b", None);
        check("https://whales.example/x", None);
        check("gs://whales/x", None);
    }
}
