//! What `errand run` takes out of a command's surroundings.

use server_targets::{KNOWN_KINDS, Registry, mask_of};

#[test]
fn every_registered_kind_has_a_mask_and_the_union_holds_them_all() {
    let registry = Registry::builtin();
    let all = registry.masks();
    for kind in registry.kinds().into_iter().chain(KNOWN_KINDS) {
        let mask = mask_of(kind).unwrap_or_else(|| panic!("{kind} has no mask"));
        assert!(!mask.env.is_empty(), "{kind}");
        assert!(mask.env.iter().all(|name| all.env.contains(name)), "{kind}");
        assert!(mask.set.iter().all(|(name, value)| all.set.get(name) == Some(value)), "{kind}");
    }
    assert!(all.env.is_sorted());
}

#[test]
fn a_developers_own_credentials_of_each_kind_are_masked() {
    let all = Registry::builtin().masks();
    for name in [
        "PGPASSWORD",
        "PGSERVICE",
        "DATABASE_URL",
        "MYSQL_PWD",
        "REDISCLI_AUTH",
        "SSH_AUTH_SOCK",
        "AWS_ACCESS_KEY_ID",
        "AWS_PROFILE",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "AZURE_CLIENT_SECRET",
        "KUBECONFIG",
        "GH_TOKEN",
        "GITHUB_TOKEN",
    ] {
        assert!(all.env.iter().any(|n| n == name), "{name}");
    }
    for name in
        ["PGPASSFILE", "PGSERVICEFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "KUBECONFIG", "GH_CONFIG_DIR"]
    {
        assert!(all.set[name].starts_with("${DIR}/"), "{name}");
    }
}
