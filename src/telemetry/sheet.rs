//! Series whose values are kept elsewhere, written down for one scrape.

use std::fmt::Write;

/// One series of a family: its labels and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Names and values; values may hold any text.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

/// A text in the exposition format of Prometheus, version 0.0.4.
#[derive(Debug, Default)]
pub struct Sheet(String);

impl Sheet {
    /// A value that rises and falls. A name in `_total`, which custom leaves to counters, is
    /// declared untyped.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        let kind = if name.ends_with("_total") {
            "untyped"
        } else {
            "gauge"
        };
        let labels = Vec::new();
        self.family(name, kind, help, &[Series { labels, value }]);
    }

    /// Values that rise and fall, by label.
    pub fn gauges(&mut self, name: &str, help: &str, series: &[Series]) {
        self.family(name, "gauge", help, series);
    }

    /// A value that never falls.
    pub fn counter(&mut self, name: &str, help: &str, value: f64) {
        let labels = Vec::new();
        self.counters(name, help, &[Series { labels, value }]);
    }

    /// Values that never fall.
    pub fn counters(&mut self, name: &str, help: &str, series: &[Series]) {
        self.family(name, "counter", help, series);
    }

    /// The text.
    pub fn into_text(self) -> String {
        self.0
    }

    fn family(&mut self, name: &str, kind: &str, help: &str, series: &[Series]) {
        let text = &mut self.0;
        // Writing to a text cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for Series { labels, value } in series {
            text.push_str(name);
            for (i, (label, of)) in labels.iter().enumerate() {
                let of = of.replace('\\', "\\\\").replace('"', "\\\"");
                let of = of.replace('\n', "\\n");
                let before = if i == 0 { '{' } else { ',' };
                let _ = write!(text, "{before}{label}=\"{of}\"");
            }
            let after = if labels.is_empty() { "" } else { "}" };
            let _ = writeln!(text, "{after} {value}");
        }
    }
}
