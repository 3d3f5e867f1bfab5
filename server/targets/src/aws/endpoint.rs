//! Where an STS answers: `sts_endpoint` taken apart and checked, or the regional one that AWS has.
//!
//! Fixed by the target: nothing of a request, and no redirect, leads anywhere else.

use proto_types::id::excerpt;
use url::Url;

/// One host and port, asked at `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// A name, or an IP address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    /// As the `Host` header has it.
    pub(super) authority: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum EndpointError {
    #[error("`{key}` is not an https:// URL of a host and nothing more: `{got}`")]
    Url { key: &'static str, got: String },
    #[error(
        "`{0}` is http: a session would cross the network for all to read; use https, or set danger_allow_http = true"
    )]
    Plain(&'static str),
    #[error(
        "`sts_endpoint` is of the region {found}, and `region` is {region}: a session is asked for where it is used"
    )]
    Region { found: String, region: String },
    #[error("`region` is not the name of a region, such as eu-west-1: `{0}`")]
    NoRegion(String),
}

impl Endpoint {
    /// `key` is what the document calls it.
    pub(super) fn parse(key: &'static str, text: &str, allow_http: bool) -> Result<Self, EndpointError> {
        let fail = || EndpointError::Url { key, got: excerpt(text) };
        let url = Url::parse(text).map_err(|_| fail())?;
        let tls = match url.scheme() {
            "https" => true,
            "http" if allow_http => false,
            "http" => return Err(EndpointError::Plain(key)),
            _ => return Err(fail()),
        };
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !bare || !url.username().is_empty() || url.password().is_some() {
            return Err(fail());
        }
        let host = url.host_str().filter(|h| !h.is_empty() && h.len() <= 255).ok_or_else(fail)?;
        let port = url.port_or_known_default().ok_or_else(fail)?;
        let authority = url.port().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
        let host = host.trim_start_matches('[').trim_end_matches(']').to_string();
        Ok(Self { host, port, tls, authority })
    }

    /// The one AWS has in this region.
    pub(super) fn regional(region: &str) -> Self {
        let host = format!("sts.{region}.{}", suffix(region));
        Self { authority: host.clone(), host, port: 443, tls: true }
    }

    /// One of AWS's own is asked in the region it is in.
    pub(super) fn suits(&self, region: &str) -> Result<(), EndpointError> {
        let own = self.host.strip_suffix(".amazonaws.com").or_else(|| self.host.strip_suffix(".amazonaws.com.cn"));
        let found = own.and_then(|rest| rest.strip_prefix("sts.").or_else(|| rest.strip_prefix("sts-fips.")));
        match found {
            Some(found) if found != region => {
                Err(EndpointError::Region { found: excerpt(found), region: region.into() })
            }
            _ => Ok(()),
        }
    }

    /// Whether it is AWS itself, which reaches an issuer on the internet only.
    pub(super) fn is_aws(&self) -> bool {
        [".amazonaws.com", ".amazonaws.com.cn"].iter().any(|suffix| self.host.ends_with(suffix))
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority)
    }
}

/// A region's name, good for a host name and a profile.
pub(super) fn region(text: String) -> Result<String, EndpointError> {
    let is_word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let good = text.len() <= 32 && text.split('-').count() >= 2 && text.split('-').all(is_word);
    if good { Ok(text) } else { Err(EndpointError::NoRegion(excerpt(&text))) }
}

/// The partition that a region belongs to: a role of another one cannot be assumed there.
pub(super) fn partition(region: &str) -> &'static str {
    match region {
        r if r.starts_with("cn-") => "aws-cn",
        r if r.starts_with("us-gov-") => "aws-us-gov",
        r if r.starts_with("us-iso-") => "aws-iso",
        r if r.starts_with("us-isob-") => "aws-iso-b",
        r if r.starts_with("eu-isoe-") => "aws-iso-e",
        r if r.starts_with("us-isof-") => "aws-iso-f",
        _ => "aws",
    }
}

fn suffix(region: &str) -> &'static str {
    match partition(region) {
        "aws-cn" => "amazonaws.com.cn",
        "aws-iso" => "c2s.ic.gov",
        "aws-iso-b" => "sc2s.sgov.gov",
        "aws-iso-e" => "cloud.adc-e.uk",
        "aws-iso-f" => "csp.hci.ic.gov",
        _ => "amazonaws.com",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// H01, H18, K18.
    #[test]
    fn an_endpoint_is_https_and_a_host_and_nothing_more() {
        for bad in [
            "",
            "sts.eu-west-1.amazonaws.com",
            "http://sts.eu-west-1.amazonaws.com",
            "ftp://sts.eu-west-1.amazonaws.com",
            "https://kim@sts.eu-west-1.amazonaws.com",
            "https://sts.eu-west-1.amazonaws.com/path",
            "https://sts.eu-west-1.amazonaws.com/?Action=x",
            "https://sts.eu-west-1.amazonaws.com/#x",
            "https://sts.eu-west-1.amazonaws.com:99999",
            "https://",
            "unix:///sts.sock",
        ] {
            assert!(Endpoint::parse("sts_endpoint", bad, false).is_err(), "{bad}");
        }
        for (good, port, shown) in [
            ("https://sts.eu-west-1.amazonaws.com", 443, "https://sts.eu-west-1.amazonaws.com"),
            ("https://sts.eu-west-1.amazonaws.com/", 443, "https://sts.eu-west-1.amazonaws.com"),
            ("https://[::1]:8333", 8333, "https://[::1]:8333"),
        ] {
            let endpoint = Endpoint::parse("sts_endpoint", good, false).unwrap();
            assert_eq!((endpoint.port, endpoint.to_string().as_str()), (port, shown));
        }
        assert_eq!(Endpoint::parse("sts_endpoint", "https://[::1]:8333", false).unwrap().host, "::1");
        assert!(Endpoint::parse("sts_endpoint", "http://127.0.0.1:8333", true).is_ok_and(|e| !e.tls));
    }

    #[test]
    fn a_region_is_asked_at_its_own_endpoint() {
        let at = |text| Endpoint::parse("sts_endpoint", text, false).unwrap();
        assert!(at("https://sts.eu-west-1.amazonaws.com").suits("us-east-1").is_err());
        assert!(at("https://sts-fips.us-east-2.amazonaws.com").suits("us-east-1").is_err());
        for text in ["https://sts.us-east-1.amazonaws.com", "https://sts.amazonaws.com", "https://sts.example.org"] {
            assert_eq!(at(text).suits("us-east-1"), Ok(()), "{text}");
        }
        assert_eq!(Endpoint::regional("eu-west-1").to_string(), "https://sts.eu-west-1.amazonaws.com");
        assert_eq!(Endpoint::regional("cn-north-1").to_string(), "https://sts.cn-north-1.amazonaws.com.cn");
        for bad in ["", "eu", "EU-WEST-1", "eu-west-1/..", "eu--1", "eu-west-1.evil"] {
            assert!(region(bad.into()).is_err(), "{bad}");
        }
        assert_eq!((region("eu-west-1".into()).is_ok(), partition("us-gov-west-1")), (true, "aws-us-gov"));
    }
}
