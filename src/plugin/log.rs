//! Log lines in the JSON that Terraform understands, on stderr.

use crate::plugin::environment;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};
use std::{fmt, io::Write};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Layer, filter::Targets, layer::Context, layer::SubscriberExt, util::SubscriberInitExt,
};

/// Turns on logging for targets below `module` (the name of a crate) at the level of `TF_LOG_PROVIDER`
/// or `TF_LOG`. Off when neither is set: Terraform would throw the lines away.
///
/// Other crates stay silent at every level, because some of them log headers with tokens.
pub fn init(module: &'static str) {
    let level = environment::log_level();
    if level == LevelFilter::OFF {
        return;
    }
    let only_ours = Targets::new().with_target(module, level);
    // A second call would be a mistake without harm: the first one stays.
    let _ = tracing_subscriber::registry().with(TerraformLog.with_filter(only_ours)).try_init();
}

struct TerraformLog;

impl<S: Subscriber> Layer<S> for TerraformLog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = line(fields.0, event.metadata(), Utc::now());
        // One write, so that lines of several threads do not mix. If stderr is gone, so is the reader.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

fn line(mut fields: Map<String, Value>, about: &Metadata<'_>, now: DateTime<Utc>) -> String {
    fields.insert("@level".to_owned(), level(*about.level()).into());
    fields.insert("@module".to_owned(), about.target().replace("::", ".").into());
    // Exactly six digits: with any other number Terraform shows the raw line, at level DEBUG.
    let now = now.to_rfc3339_opts(SecondsFormat::Micros, true);
    fields.insert("@timestamp".to_owned(), now.into());
    let mut line = Value::Object(fields).to_string();
    line.push('\n');
    line
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        let name = match field.name() {
            "message" => "@message",
            name => name,
        };
        self.0.insert(name.to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, value.to_string().into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// Renders events at a fixed time.
    struct Captured(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Captured {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut fields = Fields::default();
            event.record(&mut fields);
            let at = DateTime::from_timestamp(1_700_000_000, 5_000).unwrap();
            self.0.lock().unwrap().push(line(fields.0, event.metadata(), at));
        }
    }

    #[test]
    fn an_event_is_one_line_of_terraforms_json() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let subscriber = tracing_subscriber::registry().with(Captured(Arc::clone(&lines)));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "btar::client", status = 503, region = %"a-b", "try \"again\"\n");
        });
        let lines = lines.lock().unwrap();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].matches('\n').count(), 1);
        let json: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "@level": "warn",
                "@message": "try \"again\"\n",
                "@module": "btar.client",
                "@timestamp": "2023-11-14T22:13:20.000005Z",
                "region": "a-b",
                "status": 503,
            })
        );
    }
}
