//! `rorun-operator recovery-points`: the catalogue of a bucket, and the spec in a point, without a cluster.

mod spec;

use std::io::Write;

use clap::ValueEnum;

pub use self::spec::PrintSpecError;
use super::CliError;
use crate::{
    agent::{self, Point},
    services::bucket::{AccessKeys, BucketClient, BucketTarget, Timeouts},
};

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table for people.
    #[default]
    Table,
    /// One array of JSON.
    Json,
    /// The URLs of those that can be restored, as `from.location` of a RorunRestore takes them; of a stack the newest last.
    Location,
}

/// Which bucket. Keys come from variables: arguments can be read by everybody.
#[derive(clap::Args)]
pub struct RecoveryPointsArgs {
    /// The URL of the S3 service
    #[arg(long)]
    endpoint: String,
    /// The name of the bucket
    #[arg(long)]
    bucket: String,
    /// The folder, of one stack or of many
    #[arg(long, default_value = "backups/")]
    prefix: String,
    /// The region that requests are signed for
    #[arg(long, env = "AWS_REGION", default_value = "us-east-1")]
    region: String,
    /// `https://bucket.endpoint/key` instead of `https://endpoint/bucket/key`
    #[arg(long)]
    virtual_hosted: bool,
    /// A file with certificate authorities (PEM) beside the public ones
    #[arg(long)]
    ca_file: Option<std::path::PathBuf>,
    /// How to print the list
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
    /// Prints no list, but the RorunStack in this point as a manifest: its id, or its URL as --output=location prints it
    #[arg(long, value_name = "POINT", conflicts_with = "output")]
    spec: Option<String>,
    /// The images in that manifest are those that served when the point was made, by their digests
    #[arg(long, requires = "spec")]
    pin_images: bool,
    /// A file with an identity of age, for a point that is encrypted
    #[arg(long, value_name = "FILE", requires = "spec")]
    identity_file: Option<std::path::PathBuf>,
    /// The access key id
    #[arg(long, env = "AWS_ACCESS_KEY_ID", hide_env_values = true, hide = true)]
    access_key_id: String,
    /// The secret access key
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true, hide = true)]
    secret_access_key: String,
    /// The session token of temporary keys
    #[arg(long, env = "AWS_SESSION_TOKEN", hide_env_values = true, hide = true)]
    session_token: Option<String>,
}

impl std::fmt::Debug for RecoveryPointsArgs {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RecoveryPointsArgs").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

/// Lists and prints, or prints the spec in a point.
pub async fn run(args: RecoveryPointsArgs, out: &mut impl Write) -> Result<(), CliError> {
    let ca = args.ca_file.as_deref().map(std::fs::read_to_string).transpose()?;
    let target = BucketTarget {
        endpoint: args.endpoint,
        region: args.region,
        bucket: args.bucket,
        force_path_style: !args.virtual_hosted,
        keys: Some(AccessKeys {
            id: args.access_key_id,
            secret: args.secret_access_key,
            session_token: args.session_token.filter(|token| !token.is_empty()),
        }),
        ca,
    };
    let bucket = target.bucket.clone();
    let client = BucketClient::new(&target, Timeouts::DATA)?;
    if let Some(point) = &args.spec {
        let read = |file: &std::path::Path| {
            std::fs::read_to_string(file).map_err(|error| PrintSpecError::Identity(file.display().to_string(), error))
        };
        let identity = args.identity_file.as_deref().map(read).transpose()?;
        let (prefix, id) = Box::pin(spec::find(&client, &args.prefix, point)).await?;
        let found = agent::spec_of(&client, (&prefix, &id), identity.as_deref()).await;
        let found = found.map_err(PrintSpecError::from)?;
        return spec::print(found, args.pin_images, out, &mut std::io::stderr());
    }
    let points = agent::points(&client, &args.prefix).await?;
    match args.output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut *out, &points).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
        Output::Table => table(&points, out)?,
        Output::Location => {
            for Point { prefix, id, .. } in points.iter().filter(|point| point.whole) {
                writeln!(out, "s3://{bucket}/{prefix}{id}/")?;
            }
        }
    }
    Ok(())
}

fn table(points: &[Point], out: &mut impl Write) -> std::io::Result<()> {
    let header = ["PREFIX", "ID", "STATE", "SIZE", "ROWS", "OBJECTS", "SERVER", "NOTES"].map(str::to_owned);
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let rows = points.iter().map(|point| {
        let state = if !point.whole {
            "broken"
        } else if point.verified {
            "verified"
        } else {
            "whole"
        };
        let mut notes = Vec::new();
        notes.extend(point.broken.clone());
        notes.extend(point.no_spec.clone());
        notes.extend((!point.holds.is_empty()).then(|| "held".to_owned()));
        notes.extend(point.encrypted.then(|| "encrypted".to_owned()));
        notes.extend((point.copies > 0).then(|| format!("{} copies", point.copies)));
        [
            point.prefix.clone(),
            point.id.clone(),
            state.to_owned(),
            point.size_bytes.to_string(),
            number(point.rows),
            number(point.objects),
            point.server_version.clone().unwrap_or_else(|| "-".to_owned()),
            notes.join(", "),
        ]
    });
    let rows: Vec<_> = std::iter::once(header).chain(rows).collect();
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}
