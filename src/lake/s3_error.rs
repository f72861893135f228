//! What went wrong with a bucket, in words, and what to do.

use crate::error::{Failed, Refused};
use object_store::Error;
use std::error::Error as _;

/// Codes for credentials that are not known; the last one is versitygw's.
const CREDENTIALS: [&str; 6] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "XAdminUserNotFound",
];

/// Codes for the wrong region.
const REGION: [&str; 3] =
    ["PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"];

/// What is wrong.
pub(super) struct Trouble {
    what: String,
    hint: &'static str,
}

impl Trouble {
    /// Of a request to `endpoint` that was to do something with `place`.
    pub(super) fn of(error: &Error, act: &str, place: &str, endpoint: &str) -> Self {
        let text = whole(error);
        let code = code(&text);
        let reason = code.unwrap_or_else(|| brief(&text));
        let is = |codes: &[&str]| code.is_some_and(|code| codes.contains(&code));
        let (what, hint) = if is(&["NoSuchBucket"]) {
            ("there is no such bucket".to_owned(), "create it first, and see AWS_ENDPOINT_URL")
        } else if text.contains("169.254.169.254") || text.contains("169.254.170.2") {
            (
                "no credentials were found".to_owned(),
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
            )
        } else if is(&CREDENTIALS) || matches!(error, Error::Unauthenticated { .. }) {
            (
                format!("the credentials are not accepted ({reason})"),
                "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or the \
                profile in ~/.aws",
            )
        } else if is(&REGION) || text.contains("incorrectly configured region") {
            (format!("the bucket is in another region ({reason})"), "set AWS_REGION")
        } else if matches!(error, Error::PermissionDenied { .. }) {
            (
                format!("it is not permitted ({reason})"),
                "the key must be allowed to list the bucket, and to get, put and delete objects",
            )
        } else if text.contains("No CA certificates") {
            (
                "this system has no certificates to check the server's with".to_owned(),
                "install the package ca-certificates, or name a file of them in SSL_CERT_FILE",
            )
        } else if text.contains("error sending request") || text.contains("client error (Connect)")
        {
            (
                format!("no connection ({reason})"),
                "check AWS_ENDPOINT_URL and the network; without AWS_ENDPOINT_URL it is AWS",
            )
        } else {
            (reason.to_owned(), "what is committed is whole: run it again")
        };
        Self { what: format!("failed to {act} `{place}` at {endpoint}: {what}"), hint }
    }

    /// Of the first requests: nothing has been done yet.
    pub(super) fn refused(self) -> anyhow::Error {
        Refused::new(self.what, self.hint).into()
    }

    /// Of later ones.
    pub(super) fn failed(self) -> anyhow::Error {
        Failed::new(self.what, self.hint).into()
    }
}

/// Whether an endpoint does not know conditional requests.
pub(super) fn is_not_implemented(error: &Error) -> bool {
    let text = whole(error);
    text.contains("501 Not Implemented") || code(&text) == Some("NotImplemented")
}

/// An error with its causes: the outermost does not always say them.
fn whole(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = next.source();
    }
    text
}

/// The code in an answer of S3, which is XML.
fn code(text: &str) -> Option<&str> {
    text.split_once("<Code>")?.1.split("</Code>").next()
}

/// The last cause, which is what happened.
fn brief(text: &str) -> &str {
    let text = text.rsplit(" - ").next().unwrap_or(text).trim();
    text.char_indices().nth(300).map_or(text, |(end, _)| &text[..end])
}
