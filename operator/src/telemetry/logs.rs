//! Logs: one JSON object per line on stderr, because `render` and `crd` print their result on stdout.

use std::{fmt, io, io::IsTerminal as _};

use tracing::{Span, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry,
    filter::ParseError,
    fmt::{MakeWriter, format::FmtSpan},
    layer::SubscriberExt as _,
    util::{SubscriberInitExt as _, TryInitError},
};

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line, for a log collector.
    #[default]
    Json,
    /// Plain text, for a terminal.
    Text,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Text => "text",
        })
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A part of the directive is neither a level nor `target=level`.
    #[error(
        "failed to read the log level \"{directive}\": \"{part}\" is none of off, error, warn, info, debug, trace or target=level"
    )]
    UnknownLevel {
        /// The whole directive.
        directive: String,
        /// The part that is wrong.
        part: String,
    },
    /// The directive has no meaning.
    #[error("failed to read the log level \"{directive}\"")]
    Directive {
        /// The whole directive.
        directive: String,
        /// What is wrong.
        source: ParseError,
    },
    /// Logging is set up once per process.
    #[error("failed to install the logger")]
    Install(#[from] TryInitError),
}

/// Sends all events of the process to stderr. `level` is a level, such as `info`, or directives, such as `info,kube=debug`.
pub fn init(level: &str, format: LogFormat) -> Result<(), LogError> {
    let ansi = io::stderr().is_terminal();
    subscriber(level, format, ansi, io::stderr)?.try_init()?;
    Ok(())
}

/// The span of one reconcile: its fields are on every line below it.
///
/// The field is `stack`, because `name` is what JSON calls the span itself. The span has the level ERROR, so that a filter such as `warn` shows the warnings of a reconcile with their stack.
pub fn reconcile_span(namespace: &str, name: &str, uid: &str, reconcile_id: u64) -> Span {
    tracing::error_span!("reconcile", namespace, stack = name, uid, reconcile_id)
}

type Boxed = Box<dyn Subscriber + Send + Sync>;

fn subscriber<W>(level: &str, format: LogFormat, ansi: bool, writer: W) -> Result<Boxed, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = filter(level)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_span_events(FmtSpan::NONE);
    let lines = match format {
        // The list of spans and not the current one: below a request of the client the current span is that of the request.
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(true).boxed(),
        LogFormat::Text => lines.with_ansi(ansi).boxed(),
    };
    Ok(Box::new(Registry::default().with(lines.with_filter(filter))))
}

/// Crates that write requests to a bucket below `info`, with the key that they are signed by. Whoever wants that names them.
const TELL_TOO_MUCH: [&str; 6] =
    ["aws_runtime", "aws_sdk_s3", "aws_sdk_sts", "aws_sigv4", "aws_smithy_runtime", "aws_smithy_runtime_api"];

/// kube opens a span of its own for each reconcile, beside the operator's, with the same content, which costs a twentieth of a
/// reconcile that finds nothing to do.
const TELLS_THE_SAME: &str = "kube_runtime::controller=warn,";

/// What kube's client logs as an error for each answer above 499 and each connection that fails. Whoever sent the request logs it
/// with the object, and with what happens next.
const LOGGED_BY_CALLERS: &str = "kube_client::client::builder=off,";

/// It writes what those said who give out the keys of a role, and a token that it cannot use. Errors tell what there is to know.
const REPEATS_OTHERS: &str = "aws_config=off,";

fn filter(directive: &str) -> Result<EnvFilter, LogError> {
    // `EnvFilter` reads a misspelled level, such as `inof`, as the name of a target, and then all else is silent.
    let is_level = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
    let unknown =
        directive.split(',').map(str::trim).find(|part| !part.contains(['=', '[', ']', '{', '}']) && !is_level(part));
    if let Some(part) = unknown {
        return Err(LogError::UnknownLevel { directive: directive.to_owned(), part: part.to_owned() });
    }
    let all = directive.split(',').filter_map(|part| part.trim().parse::<LevelFilter>().ok()).max();
    let directives: String = match all {
        // Of two targets the longer one counts, so that a user can ask for more of kube.
        Some(level) if level <= LevelFilter::INFO && !directive.contains("kube") => {
            let spans = if level == LevelFilter::INFO { TELLS_THE_SAME } else { "" };
            [spans, LOGGED_BY_CALLERS].concat()
        }
        Some(level) if level > LevelFilter::INFO => TELL_TOO_MUCH.map(|target| format!("{target}=info,")).concat(),
        _ => String::new(),
    };
    EnvFilter::builder()
        // Of two directives of one target the last one counts.
        .parse(format!("{REPEATS_OTHERS}{directives}{directive}"))
        .map_err(|source| LogError::Directive { directive: directive.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use rstest::rstest;
    use serde_json::Value;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(level: &str, format: LogFormat, events: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = subscriber(level, format, false, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, events);
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_json_line_carries_the_fields_of_its_reconcile_also_below_another_span() {
        let line = written("warn", LogFormat::Json, || {
            let _reconcile = reconcile_span("team-a", "shop", "u-1", 7).entered();
            let _request = tracing::error_span!("HTTP", method = "GET").entered();
            tracing::warn!(component = "redis", "not ready");
        });
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["message"], "not ready");
        assert_eq!(line["component"], "redis");
        let reconcile = &line["spans"][0];
        assert_eq!(reconcile["name"], "reconcile");
        assert_eq!(reconcile["stack"], "shop");
        assert_eq!(reconcile["namespace"], "team-a");
        assert_eq!(reconcile["uid"], "u-1");
        assert_eq!(reconcile["reconcile_id"], 7);
    }

    #[test]
    fn text_carries_the_same_fields() {
        let line = written("info", LogFormat::Text, || {
            let _reconcile = reconcile_span("team-a", "shop", "u-1", 7).entered();
            tracing::info!("applied");
        });
        assert!(line.contains("namespace=\"team-a\"") && line.contains("applied"), "{line}");
    }

    #[test]
    fn a_directive_filters_by_target() {
        let lines = written("warn,quiet=off,loud=debug", LogFormat::Json, || {
            tracing::info!("below the level");
            tracing::error!(target: "quiet", "switched off");
            tracing::debug!(target: "loud", "asked for");
        });
        assert_eq!(lines.lines().count(), 1, "{lines}");
        assert!(lines.contains("asked for"));
    }

    #[test]
    fn a_reconcile_has_one_span_unless_more_is_asked_for() {
        let spans = |level: &str| {
            let line = written(level, LogFormat::Json, || {
                let _kube = tracing::info_span!(target: "kube_runtime::controller", "reconciling object").entered();
                let _reconcile = reconcile_span("team-a", "shop", "u-1", 7).entered();
                tracing::warn!("not ready");
            });
            serde_json::from_str::<Value>(&line).unwrap()["spans"].as_array().unwrap().len()
        };
        assert_eq!(["info", "debug", "info,kube_runtime=info"].map(spans), [1, 2, 2]);
    }

    #[rstest]
    #[case::info("info", 0)]
    #[case::errors("error", 0)]
    #[case::debug("debug", 1)]
    #[case::asked_for("info,kube_client=error", 1)]
    fn a_failed_request_is_logged_by_its_sender_alone(#[case] directive: &str, #[case] lines: usize) {
        let written = written(directive, LogFormat::Json, || {
            tracing::error!(target: "kube_client::client::builder", "failed with status 503 Service Unavailable");
        });
        assert_eq!(written.lines().count(), lines, "{written}");
    }

    #[rstest]
    #[case::all("debug", 0)]
    #[case::none("warn", 0)]
    #[case::named("debug,aws_smithy_runtime=debug", 1)]
    #[case::part_named("info,aws_smithy_runtime::client=debug", 1)]
    fn what_requests_to_a_bucket_are_signed_by_is_seen_by_whoever_names_it(
        #[case] directive: &str,
        #[case] seen: usize,
    ) {
        let lines = written(directive, LogFormat::Json, || {
            tracing::debug!(target: "aws_smithy_runtime::client::orchestrator", "signed");
        });
        assert_eq!(lines.lines().count(), seen, "{lines}");
    }

    #[rstest]
    #[case::misspelled("inof", "\"inof\" is none of")]
    #[case::second("info,debgu", "\"debgu\" is none of")]
    #[case::empty("", "\"\" is none of")]
    #[case::level_of_a_target("info,kube=loud", "failed to read the log level \"info,kube=loud\"")]
    fn a_wrong_directive_is_named(#[case] directive: &str, #[case] message: &str) {
        let error = filter(directive).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}
