//! `target check`: asks the STS twice for what it must refuse, and reads its reasons. No session comes of it unless the
//! STS or a role's trust policy admits what it should not, which is then said; such a session is dropped.

use super::{
    AwsTarget, claims,
    config::SHORTEST,
    failure::{StsError, hint},
    issue,
};
use server_core::ports::Missing;
use url::{Host, Url};

/// What sessions of a check would be called.
const NAME: &str = "errand_check";
/// A `sub` that no task has: a SPIFFE ID begins otherwise.
const NOBODY: &str = "errand_check_admit_nobody";

pub(super) async fn check(aws: &AwsTarget) -> Vec<Missing> {
    let mut found = Vec::new();
    surroundings(aws, &mut found);
    if !is_sts(aws, &mut found).await {
        return found;
    }
    for name in aws.config.roles.keys() {
        trust_policy(aws, name, &mut found).await;
    }
    found
}

fn error(what: impl Into<String>, fix: impl Into<Option<String>>) -> Missing {
    Missing { severity: "error".into(), what: what.into(), fix: fix.into() }
}

fn warning(what: impl Into<String>, fix: impl Into<Option<String>>) -> Missing {
    Missing { severity: "warning".into(), what: what.into(), fix: fix.into() }
}

fn surroundings(aws: &AwsTarget, found: &mut Vec<Missing>) {
    let issuer = &aws.context.issuer;
    if !aws.client.endpoint.tls {
        found.push(warning(
            format!("sessions come from {} unencrypted: whoever is on the way has them", aws.client.endpoint),
            "use https and take danger_allow_http out".to_string(),
        ));
    }
    if !aws.client.endpoint.is_aws() {
        return;
    }
    if !is_on_the_internet(issuer) {
        found.push(error(
            format!("AWS takes an issuer of 255 characters on the internet, without a port; `{issuer}` is none"),
            "set [http] issuer to a URL that AWS reaches, and serve there what `errand issuer publish` writes"
                .to_string(),
        ));
    }
}

/// What AWS registers as a provider: at most 255 characters, a host that others know, and no port.
fn is_on_the_internet(issuer: &str) -> bool {
    let is_known = |host: Host<&str>| matches!(host, Host::Domain(d) if d.contains('.') && !d.ends_with(".localhost"));
    let url = Url::parse(issuer).ok().filter(|u| u.scheme() == "https" && u.port().is_none());
    issuer.len() <= 255 && url.as_ref().and_then(Url::host).is_some_and(is_known)
}

/// Sends what is no token. Anything that refuses it in the words of an STS is one.
async fn is_sts(aws: &AwsTarget, found: &mut Vec<Missing>) -> bool {
    let Some(role) = aws.config.roles.values().next() else { return false };
    match issue::ask(aws, role, NAME, "errand.check.admits-nobody", SHORTEST).await {
        Err(StsError::Refused { code, .. }) if code == "RegionDisabledException" => {
            found.push(error(format!("{}: STS is not turned on in this region", aws.client.endpoint), None));
            false
        }
        Err(StsError::Refused { .. }) => true,
        Err(failure) => {
            found.push(error(format!("{} cannot be checked: {failure}", aws.config.target), None));
            false
        }
        Ok(_) => {
            found.push(error(
                format!("{} gave a session for what is no token: it would for anybody", aws.client.endpoint),
                "use an STS that verifies".to_string(),
            ));
            false
        }
    }
}

/// Sends a token as good as any of ours, of a subject that no workload has. A trust policy with a condition refuses it.
async fn trust_policy(aws: &AwsTarget, name: &str, found: &mut Vec<Missing>) {
    let Some(role) = aws.config.roles.get(name) else { return };
    let now = aws.context.clock.now();
    let jti = aws.context.entropy.uuid_v7(now).to_string();
    let template = claims::bare(&aws.config, NOBODY.into(), &aws.context.issuer, jti, now);
    let token = match aws.context.tokens.jwt(&template).await {
        Ok(signed) => signed.token,
        Err(e) => return found.push(error(format!("no token can be signed: {e}"), None)),
    };
    match issue::ask(aws, role, NAME, token.expose(), SHORTEST).await {
        Ok(_) => found.push(warning(
            format!("role `{name}`: its trust policy has no condition on the subject: every workload has the same rights to it"),
            format!("errand target show {} --setup", aws.config.target),
        )),
        // As it should be.
        Err(StsError::Refused { code, .. }) if code.starts_with("AccessDenied") => {}
        Err(StsError::Refused { code, message }) => {
            let what = format!("role `{name}`: the STS refuses a token of this server's: {code}: {message}");
            found.push(error(what, hint(&code).map(String::from)));
        }
        Err(failure) => found.push(error(format!("role `{name}`: {failure}"), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_with_a_port_or_without_a_host_that_others_know_is_none_for_aws() {
        for bad in [
            "https://localhost:8442",
            "https://localhost",
            "https://errand.localhost",
            "https://errand",
            "https://10.0.0.1",
            "https://[::1]",
            "https://errand.example.org:8442",
            "http://errand.example.org",
        ] {
            assert!(!is_on_the_internet(bad), "{bad}");
        }
        for good in ["https://errand.example.org", "https://example.org/errand"] {
            assert!(is_on_the_internet(good), "{good}");
        }
    }
}
