//! Log lines as hosts read them on standard error: JSON objects, one a line, short enough for their buffer.

use std::fmt;
use std::io::Write as _;

use serde_json::{Map, Value as Json};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

/// Hosts read lines into 64 KiB; longer ones come out in pieces that are no JSON.
const MAX_LINE: usize = 60 * 1024;
/// The wire's own chatter, which would bury the provider's messages and shows what travels.
const NOISE: [&str; 6] = ["h2", "hyper", "hyper_util", "rustls", "tonic", "tower"];

/// Sends `tracing` events and panics to the host. Without a variable that asks for more, errors only.
pub(super) fn install(provider: &str, var: impl Fn(&str) -> Option<String>) {
    let layer = HostLog { level: level(provider, var) };
    // Fails if the provider has set up its own: then that one counts.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer));
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panicked: {message}");
    }));
}

/// The most specific variable counts: `TF_LOG_PROVIDER_NAME`, `TF_LOG_PROVIDER`, `TF_LOG`.
fn level(provider: &str, var: impl Fn(&str) -> Option<String>) -> LevelFilter {
    let own = format!("TF_LOG_PROVIDER_{}", provider.to_ascii_uppercase().replace('-', "_"));
    let set = [own.as_str(), "TF_LOG_PROVIDER", "TF_LOG"].into_iter().find_map(|name| {
        let value = var(name)?;
        (!value.is_empty()).then_some(value)
    });
    match set.as_deref().map(str::to_ascii_uppercase).as_deref() {
        Some("TRACE" | "JSON") => LevelFilter::TRACE,
        Some("DEBUG") => LevelFilter::DEBUG,
        Some("INFO") => LevelFilter::INFO,
        Some("WARN") => LevelFilter::WARN,
        Some("OFF") => LevelFilter::OFF,
        // As the hosts do with a word that they do not know.
        Some(word) if word != "ERROR" => LevelFilter::TRACE,
        _ => LevelFilter::ERROR,
    }
}

/// Whether an event comes from where requests travel. AWS's SDK logs them with all that is in them.
fn is_noise(target: &str) -> bool {
    let root = target.split("::").next().unwrap_or_default();
    NOISE.contains(&root) || root.starts_with("aws_")
}

struct HostLog {
    level: LevelFilter,
}

impl<S: Subscriber> Layer<S> for HostLog {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= self.level && !is_noise(metadata.target())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut record = Record::default();
        event.record(&mut record);
        let line = record.line(*event.metadata().level(), event.metadata().target());
        // In one write, so that lines of several threads do not mix. If it fails, there is no one to tell.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

/// What one event says.
#[derive(Default)]
struct Record {
    message: String,
    fields: Map<String, Json>,
}

impl Record {
    fn put(&mut self, field: &Field, value: impl Into<Json>) {
        // Names with an @ are the host's; one that is not a string would crash it.
        if !field.name().starts_with('@') {
            self.fields.insert(field.name().to_owned(), value.into());
        }
    }

    /// The line with its line feed; texts are cut until it is short enough.
    fn line(&self, level: Level, module: &str) -> String {
        let mut limit = MAX_LINE;
        loop {
            let mut json: Map<String, Json> =
                self.fields.iter().map(|(name, value)| (name.clone(), shortened(value, limit))).collect();
            let level = level.as_str().to_ascii_lowercase();
            let timestamp = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
            json.insert("@level".into(), level.into());
            json.insert("@message".into(), cut(&self.message, limit).into());
            json.insert("@module".into(), module.replace("::", ".").into());
            json.insert("@timestamp".into(), timestamp.into());
            let line = format!("{}\n", Json::Object(json));
            if line.len() <= MAX_LINE || limit == 0 {
                return line;
            }
            limit /= 2;
        }
    }
}

fn shortened(value: &Json, limit: usize) -> Json {
    match value {
        Json::String(text) => cut(text, limit).into(),
        other => other.clone(),
    }
}

fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    format!("{}… (cut)", &text[..text.floor_char_boundary(limit)])
}

impl Visit for Record {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" { value.clone_into(&mut self.message) } else { self.put(field, value) }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level_of(vars: &[(&str, &str)]) -> LevelFilter {
        level("sindri", |name| {
            vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_most_specific_variable_counts() {
        assert_eq!(level_of(&[]), LevelFilter::ERROR);
        assert_eq!(level_of(&[("TF_LOG", "info")]), LevelFilter::INFO);
        assert_eq!(level_of(&[("TF_LOG", "TRACE"), ("TF_LOG_PROVIDER", "WARN")]), LevelFilter::WARN);
        let all = [("TF_LOG", "TRACE"), ("TF_LOG_PROVIDER", "WARN"), ("TF_LOG_PROVIDER_SINDRI", "off")];
        assert_eq!(level_of(&all), LevelFilter::OFF);
        assert_eq!(level_of(&[("TF_LOG", "JSON")]), LevelFilter::TRACE);
    }

    #[test]
    fn what_shows_requests_is_left_out() {
        for noise in [
            "h2",
            "hyper_util::client::legacy::pool",
            "aws_smithy_runtime::client::orchestrator",
            "aws_smithy_runtime_api",
            "aws_sigv4::http_request",
            "aws_runtime",
            "aws_config::profile",
            "aws_sdk_ec2",
        ] {
            assert!(is_noise(noise), "{noise}");
        }
        for ours in ["tfplugin::serve", "terraform_provider_sindri::backends::aws::vm", "aws", "sindri"] {
            assert!(!is_noise(ours), "{ours}");
        }
    }

    #[test]
    fn a_line_has_what_hosts_assert() {
        let mut record = Record { message: "built".to_owned(), ..Record::default() };
        record.fields.insert("seconds".into(), 3.into());
        let line = record.line(Level::INFO, "sindri::image");
        let json: Json = serde_json::from_str(&line).unwrap();
        assert_eq!(json["@level"], "info");
        assert_eq!(json["@message"], "built");
        assert_eq!(json["@module"], "sindri.image");
        assert_eq!(json["seconds"], 3);
        let timestamp = json["@timestamp"].as_str().unwrap();
        let (_, fraction) = timestamp.split_once('.').unwrap();
        assert_eq!(fraction.len(), "000000Z".len(), "{timestamp}");
        assert!(chrono::DateTime::parse_from_rfc3339(timestamp).is_ok());
    }

    #[test]
    fn long_lines_are_cut_and_stay_json() {
        for text in ["x".repeat(1 << 20), "\u{1}".repeat(1 << 18), "ß\n\"".repeat(1 << 18)] {
            let mut record = Record { message: text.clone(), ..Record::default() };
            record.fields.insert("output".into(), text.into());
            let line = record.line(Level::ERROR, "m");
            assert!(line.len() < 64 * 1024, "{} bytes", line.len());
            let json: Json = serde_json::from_str(&line).unwrap();
            assert!(json["@message"].as_str().unwrap().ends_with("… (cut)"));
            assert!(json["output"].as_str().unwrap().len() > 1_000);
        }
    }
}
