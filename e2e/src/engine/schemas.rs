//! The definitions of the kinds of other projects, as they publish them: out of the Go modules that `e2e/tools/schemas` pins.

use std::fs;

use anyhow::{Context, Result};

use super::tools;

/// The folder below `e2e/tools/`.
const FOLDER: &str = "schemas";

/// A file of a Go module.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    module: &'static str,
    file: &'static str,
}

/// `servicemonitors.monitoring.coreos.com`
pub const SERVICE_MONITORS: Schema = Schema {
    module: "github.com/prometheus-operator/prometheus-operator",
    file: "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
};

/// `clusters.postgresql.cnpg.io`
pub const CLUSTERS: Schema = Schema {
    module: "github.com/cloudnative-pg/cloudnative-pg",
    file: "config/crd/bases/postgresql.cnpg.io_clusters.yaml",
};

/// `poolers.postgresql.cnpg.io`
pub const POOLERS: Schema = Schema {
    module: "github.com/cloudnative-pg/cloudnative-pg",
    file: "config/crd/bases/postgresql.cnpg.io_poolers.yaml",
};

/// `scheduledbackups.postgresql.cnpg.io`
pub const SCHEDULED_BACKUPS: Schema = Schema {
    module: "github.com/cloudnative-pg/cloudnative-pg",
    file: "config/crd/bases/postgresql.cnpg.io_scheduledbackups.yaml",
};

/// `objectstores.barmancloud.cnpg.io`
pub const OBJECT_STORES: Schema = Schema {
    module: "github.com/cloudnative-pg/plugin-barman-cloud",
    file: "config/crd/bases/barmancloud.cnpg.io_objectstores.yaml",
};

impl Schema {
    /// The definition, as YAML.
    pub fn read(&self) -> Result<String> {
        let path = tools::sources_of(FOLDER, self.module)?.join(self.file);
        fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
    }
}
