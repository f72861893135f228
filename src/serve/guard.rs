//! Who may ask: checks of every request before anything else looks at it.
//!
//! A page of somebody else's, in a browser on the operator's machine, can send requests to a
//! loopback address. `Host` shows whether it came by a name that was made to point here (DNS
//! rebinding), `Origin` whether another page sent it.

use super::reply;
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CONTENT_SECURITY_POLICY, HOST, HeaderName, HeaderValue, ORIGIN, REFERRER_POLICY,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What a request is checked against.
#[derive(Debug)]
pub(super) struct Guard {
    /// Names and addresses that a `Host` may have, in lower case.
    hosts: Vec<String>,
    /// The hash of the token, if one is asked for: hashes are compared in constant time.
    token: Option<blake3::Hash>,
}

/// Names that always lead to this machine, whoever asks.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// On every response.
const HEADERS: [(HeaderName, &str); 4] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

impl Guard {
    /// Requests must name the bound address, a loopback name, or one of these.
    pub(super) fn new(bound: SocketAddr, allowed: &[String], token: Option<&str>) -> Self {
        let bound = match bound.ip() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        let names = LOOPBACK.iter().map(|name| (*name).to_owned());
        let allowed = allowed.iter().map(|name| name.to_lowercase());
        Self {
            hosts: names.chain([bound]).chain(allowed).collect(),
            token: token.map(|token| blake3::hash(token.as_bytes())),
        }
    }

    /// The refusal of a request: status and reason.
    fn check(&self, path: &str, headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
        let one = |name: HeaderName| {
            let mut values = headers.get_all(name).iter();
            let value = values.next()?.to_str().unwrap_or("\0");
            Some(if values.next().is_some() { "\0" } else { value })
        };
        let host = one(HOST).unwrap_or("");
        if !self.hosts.contains(&name_of(host).to_lowercase()) {
            return Err((
                StatusCode::MISDIRECTED_REQUEST,
                "this Host is not served: use the address that the server listens on, or start it \
                 with --allow-host NAME",
            ));
        }
        if let Some(origin) = one(ORIGIN) {
            let of = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            if !of.is_some_and(|of| of.eq_ignore_ascii_case(host)) {
                return Err((
                    StatusCode::FORBIDDEN,
                    "requests from other origins are refused: ask from the server's own page, or \
                     from outside a browser",
                ));
            }
        }
        // A page elsewhere may lead here, but not fetch without an Origin, as for an image.
        if path != "/" && one(HeaderName::from_static("sec-fetch-site")) == Some("cross-site") {
            return Err((
                StatusCode::FORBIDDEN,
                "other sites may not load this: open the page itself",
            ));
        }
        let Some(token) = &self.token else { return Ok(()) };
        let needs_token = path.starts_with("/api/") || path == "/metrics";
        let given = one(AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        match given.map(|given| blake3::hash(given.as_bytes())) {
            _ if !needs_token => Ok(()),
            Some(given) if given == *token => Ok(()),
            _ => Err((
                StatusCode::UNAUTHORIZED,
                "send the token, which is in the file of --token-file: Authorization: Bearer TOKEN",
            )),
        }
    }
}

/// The name in a `Host`, without its port.
fn name_of(host: &str) -> &str {
    match host.rfind(':') {
        Some(at) if !host[at..].contains(']') => &host[..at],
        _ => host,
    }
}

/// Refuses a request, or answers it; every response has the same headers.
pub(super) async fn check(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match guard.check(request.uri().path(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err((status, reason)) => {
            let mut refusal = reply::error(status, reason);
            if status == StatusCode::UNAUTHORIZED {
                refusal.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            refusal
        }
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(token: Option<&str>, path: &str, headers: &[(&'static str, &str)]) -> u16 {
        let address = "192.168.1.5:8545".parse().expect("an address");
        let guard = Guard::new(address, &["Whales.Example".to_owned()], token);
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).expect("a value");
            map.append(HeaderName::from_static(name), value);
        }
        guard.check(path, &map).map_or_else(|(status, _)| status.as_u16(), |()| 200)
    }

    #[test]
    fn only_own_names_are_served() {
        for host in [
            "localhost",
            "LOCALHOST:1",
            "127.0.0.1:8545",
            "[::1]",
            "[::1]:8545",
            "192.168.1.5:8545",
            "whales.example",
            "WHALES.example:443",
        ] {
            assert_eq!(check(None, "/", &[("host", host)]), 200, "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:8545",
            "::1",
            "127.0.0.2",
            "evil:localhost",
        ] {
            assert_eq!(check(None, "/", &[("host", host)]), 421, "{host}");
        }
        assert_eq!(check(None, "/", &[]), 421);
        assert_eq!(check(None, "/", &[("host", "localhost"), ("host", "localhost")]), 421);
    }

    #[test]
    fn only_the_own_origin_may_ask() {
        let host = ("host", "localhost:8545");
        for origin in ["http://localhost:8545", "https://localhost:8545", "http://LOCALHOST:8545"] {
            assert_eq!(check(None, "/", &[host, ("origin", origin)]), 200, "{origin}");
        }
        for origin in
            ["null", "", "http://localhost", "http://localhost:1", "http://evil.example", "file://"]
        {
            assert_eq!(check(None, "/", &[host, ("origin", origin)]), 403, "{origin}");
        }
    }

    #[test]
    fn other_sites_may_lead_here_and_load_nothing() {
        let [host, other] = [("host", "localhost"), ("sec-fetch-site", "cross-site")];
        assert_eq!(check(None, "/", &[host, other]), 200);
        for path in ["/metrics", "/api/v1/panels/whales", "/app/app.js"] {
            assert_eq!(check(None, path, &[host, other]), 403, "{path}");
            assert_eq!(
                check(None, path, &[host, ("sec-fetch-site", "same-origin")]),
                200,
                "{path}"
            );
        }
    }

    #[test]
    fn the_token_is_asked_for_where_there_is_data() {
        let host = ("host", "localhost");
        for (path, wanted) in [
            ("/", 200),
            ("/app/app.js", 200),
            ("/health", 200),
            ("/metrics", 401),
            ("/api/v1/panels", 401),
        ] {
            assert_eq!(check(Some("secret"), path, &[host]), wanted, "{path}");
            assert_eq!(
                check(Some("secret"), path, &[host, ("authorization", "Bearer secret")]),
                200
            );
        }
        for wrong in
            ["Bearer secre", "Bearer secret ", "bearer secret", "Basic secret", "secret", ""]
        {
            let headers = [host, ("authorization", wrong)];
            assert_eq!(check(Some("secret"), "/api/v1/status", &headers), 401, "{wrong}");
        }
    }
}
