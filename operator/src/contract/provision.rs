//! The Job that makes the role and the database of the application on a server of which the operator has the master's password.

use serde::{Deserialize, Serialize};

/// `agent provision-database`: makes the role and the database that are missing, and changes nothing that is there.
pub const PROVISION_DATABASE: &str = "provision-database";
/// `--host`: the host name of the server.
pub const ARG_HOST: &str = "--host";
/// `--port`: its port.
pub const ARG_PORT: &str = "--port";

/// The user name of the master.
pub const ENV_MASTER_USERNAME: &str = "MASTER_USERNAME";
/// The password of the master.
pub const ENV_MASTER_PASSWORD: &str = "MASTER_PASSWORD";
/// The role of the application.
pub const ENV_APP_USERNAME: &str = "APP_USERNAME";
/// Its database.
pub const ENV_APP_DATABASE: &str = "APP_DATABASE";
/// Its password.
pub const ENV_APP_PASSWORD: &str = "APP_PASSWORD";

/// The variables, and the keys of the credentials that they have the values of.
pub const PROVISION_VARIABLES: [(&str, &str); 5] = [
    (ENV_MASTER_USERNAME, "masterUsername"),
    (ENV_MASTER_PASSWORD, "masterPassword"),
    (ENV_APP_USERNAME, "username"),
    (ENV_APP_DATABASE, "database"),
    (ENV_APP_PASSWORD, "password"),
];

/// What `agent provision-database` writes at its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProvisionOutcome {
    /// The role logs in to its database and may make tables there.
    Complete {
        /// What was made, and was not there before.
        made: Vec<String>,
    },
    /// Why not, in one line for the user.
    Failed {
        /// Without a secret.
        message: String,
    },
}
