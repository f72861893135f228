//! A registry that is filled anew for each text, for values that are read and not counted here.

use anyhow::Result;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;

type Labels = Vec<(&'static str, String)>;

/// Metrics and their values. All names begin with `spyhop_`.
pub(super) struct Series {
    registry: Registry,
    gauges: BTreeMap<&'static str, Family<Labels, Gauge>>,
    counters: BTreeMap<&'static str, Family<Labels, Counter>>,
}

impl Series {
    pub(super) fn new() -> Self {
        Self {
            registry: Registry::with_prefix("spyhop"),
            gauges: BTreeMap::new(),
            counters: BTreeMap::new(),
        }
    }

    /// Adds a gauge without labels.
    pub(super) fn gauge(&mut self, name: &'static str, help: &str, value: u64) {
        self.gauge_of(name, help, [], value);
    }

    /// Adds a gauge's value for these labels.
    pub(super) fn gauge_of<const N: usize>(
        &mut self,
        name: &'static str,
        help: &str,
        labels: [(&'static str, &str); N],
        value: u64,
    ) {
        let Self { registry, gauges, .. } = self;
        let family = gauges.entry(name).or_insert_with(|| {
            let family = Family::default();
            registry.register(name, help, Family::clone(&family));
            family
        });
        family.get_or_create(&owned(labels)).set(i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// Adds a counter's value for these labels; its name in the text ends with `_total`.
    pub(super) fn counter<const N: usize>(
        &mut self,
        name: &'static str,
        help: &str,
        labels: [(&'static str, &str); N],
        value: u64,
    ) {
        let Self { registry, counters, .. } = self;
        let family = counters.entry(name).or_insert_with(|| {
            let family = Family::default();
            registry.register(name, help, Family::clone(&family));
            family
        });
        family.get_or_create(&owned(labels)).inc_by(value);
    }

    /// All of them in Prometheus's text format 0.0.4.
    pub(super) fn text(&self) -> Result<String> {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn owned<const N: usize>(labels: [(&'static str, &str); N]) -> Labels {
    labels.into_iter().map(|(name, value)| (name, value.to_owned())).collect()
}
