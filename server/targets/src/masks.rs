//! What `errand run` takes out of a command's surroundings, per kind of target. Data only: kinds that are not built yet
//! are masked already, because their tools are on people's machines today.

use server_core::ports::Mask;

/// The kinds that have a mask.
pub const KNOWN_KINDS: [&str; 9] = ["postgres", "mysql", "redis", "ssh", "aws", "gcp", "azure", "kubernetes", "github"];

type Table = (&'static [&'static str], &'static [(&'static str, &'static str)]);

/// Variables to remove, and variables to set so that a default file of the home directory is not read.
pub fn mask_of(kind: &str) -> Option<Mask> {
    let (env, set) = match kind {
        "postgres" => POSTGRES,
        "mysql" => MYSQL,
        "redis" => REDIS,
        "ssh" => SSH,
        "aws" => AWS,
        "gcp" => GCP,
        "azure" => AZURE,
        "kubernetes" => KUBERNETES,
        "github" => GITHUB,
        _ => return None,
    };
    Some(Mask {
        env: env.iter().map(|s| (*s).to_string()).collect(),
        set: set.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect(),
    })
}

const POSTGRES: Table = (
    &[
        "DATABASE_URL",
        "PGAPPNAME",
        "PGCHANNELBINDING",
        "PGDATABASE",
        "PGHOST",
        "PGHOSTADDR",
        "PGOPTIONS",
        "PGPASSFILE",
        "PGPASSWORD",
        "PGPORT",
        "PGREQUIREAUTH",
        "PGSERVICE",
        "PGSERVICEFILE",
        "PGSSLCERT",
        "PGSSLCRL",
        "PGSSLKEY",
        "PGSSLMODE",
        "PGSSLROOTCERT",
        "PGSYSCONFDIR",
        "PGTARGETSESSIONATTRS",
        "PGUSER",
        "POSTGRES_PASSWORD",
        "POSTGRES_URL",
    ],
    // libpq ignores a client certificate that is not there, and then does not look in ~/.postgresql.
    &[
        ("PGPASSFILE", "${DIR}/pgpass"),
        ("PGSERVICEFILE", "${DIR}/pg_service.conf"),
        ("PGSSLCERT", "${DIR}/none"),
        ("PGSSLKEY", "${DIR}/none"),
    ],
);

const MYSQL: Table = (
    &[
        "MARIADB_HOME",
        "MYSQL_GROUP_SUFFIX",
        "MYSQL_HOME",
        "MYSQL_HOST",
        "MYSQL_PASSWORD",
        "MYSQL_PWD",
        "MYSQL_TCP_PORT",
        "MYSQL_TEST_LOGIN_FILE",
        "MYSQL_UNIX_PORT",
        "MYSQL_URL",
        "MYSQL_USER",
    ],
    &[("MYSQL_TEST_LOGIN_FILE", "${DIR}/none")],
);

const REDIS: Table = (
    &["REDISCLI_AUTH", "REDISCLI_RCFILE", "REDIS_PASSWORD", "REDIS_URL", "REDIS_USERNAME", "VALKEYCLI_AUTH"],
    &[("REDISCLI_RCFILE", "${DIR}/none"), ("VALKEYCLI_RCFILE", "${DIR}/none")],
);

const SSH: Table = (
    &["GIT_SSH", "GIT_SSH_COMMAND", "SSHPASS", "SSH_AGENT_PID", "SSH_ASKPASS", "SSH_AUTH_SOCK", "SSH_SK_PROVIDER"],
    &[],
);

const AWS: Table = (
    // Region and endpoints too: with several grants the profiles say them, and a variable would win.
    &[
        "AWS_ACCESS_KEY_ID",
        "AWS_BEARER_TOKEN_BEDROCK",
        "AWS_CONFIG_FILE",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CREDENTIAL_EXPIRATION",
        "AWS_DEFAULT_PROFILE",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL*",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
        "AWS_LOGIN_CACHE_DIRECTORY",
        "AWS_PROFILE",
        "AWS_REGION",
        "AWS_ROLE_ARN",
        "AWS_ROLE_SESSION_NAME",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SECURITY_TOKEN",
        "AWS_SESSION_TOKEN",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
    ],
    &[
        ("AWS_CONFIG_FILE", "${DIR}/aws_config"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_SHARED_CREDENTIALS_FILE", "${DIR}/none"),
    ],
);

const GCP: Table = (
    &[
        "CLOUDSDK_ACTIVE_CONFIG_NAME",
        "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE",
        "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE",
        "CLOUDSDK_AUTH_IMPERSONATE_SERVICE_ACCOUNT",
        "CLOUDSDK_CONFIG",
        "CLOUDSDK_CORE_ACCOUNT",
        "GCLOUD_KEYFILE_JSON",
        "GOOGLE_API_KEY",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_CLOUD_KEYFILE_JSON",
        "GOOGLE_CREDENTIALS",
        "GOOGLE_IMPERSONATE_SERVICE_ACCOUNT",
        "GOOGLE_OAUTH_ACCESS_TOKEN",
    ],
    // The well-known file of application default credentials lies in this folder too.
    &[("CLOUDSDK_CONFIG", "${DIR}/gcloud")],
);

const AZURE: Table = (
    &[
        "ARM_ACCESS_KEY",
        "ARM_CLIENT_CERTIFICATE_PATH",
        "ARM_CLIENT_ID",
        "ARM_CLIENT_SECRET",
        "ARM_OIDC_TOKEN",
        "ARM_SAS_TOKEN",
        "ARM_TENANT_ID",
        "AZURE_AUTHORITY_HOST",
        "AZURE_CLIENT_CERTIFICATE_PASSWORD",
        "AZURE_CLIENT_CERTIFICATE_PATH",
        "AZURE_CLIENT_ID",
        "AZURE_CLIENT_SECRET",
        "AZURE_CONFIG_DIR",
        "AZURE_FEDERATED_TOKEN_FILE",
        "AZURE_PASSWORD",
        "AZURE_STORAGE_CONNECTION_STRING",
        "AZURE_STORAGE_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_TENANT_ID",
        "AZURE_USERNAME",
        "IDENTITY_ENDPOINT",
        "IDENTITY_HEADER",
        "MSI_ENDPOINT",
        "MSI_SECRET",
    ],
    &[("AZURE_CONFIG_DIR", "${DIR}/azure")],
);

const KUBERNETES: Table = (
    // Without the service's address a client in a pod does not fall back to the pod's own token.
    &[
        "HELM_KUBEAPISERVER",
        "HELM_KUBECONTEXT",
        "HELM_KUBETOKEN",
        "K8S_AUTH_API_KEY",
        "K8S_AUTH_KUBECONFIG",
        "KUBECONFIG",
        "KUBERNETES_SERVICE_HOST",
        "KUBERNETES_SERVICE_PORT",
        "KUBE_CONFIG_PATH",
        "KUBE_CONFIG_PATHS",
        "KUBE_TOKEN",
    ],
    &[("KUBECONFIG", "${DIR}/kubeconfig")],
);

const GITHUB: Table = (
    &[
        "GH_CONFIG_DIR",
        "GH_ENTERPRISE_TOKEN",
        "GH_HOST",
        "GH_TOKEN",
        "GITHUB_ENTERPRISE_TOKEN",
        "GITHUB_PAT",
        "GITHUB_TOKEN",
        "GIT_ASKPASS",
    ],
    &[("GH_CONFIG_DIR", "${DIR}/gh")],
);
