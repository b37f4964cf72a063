//! The dashboard for Grafana that the chart brings: a table of panels becomes `deploy/chart/files/dashboard.json`.

use serde_json::{Value, json};

/// What a panel looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// One number, green from 1 on where that is good, and red from 1 on where it is bad.
    Good,
    Bad,
    Plain,
    /// Rows by their labels.
    Table,
    /// Lines over time.
    Lines,
}

/// A panel.
#[derive(Debug, Clone, Copy)]
pub struct Panel {
    /// Its title.
    pub title: &'static str,
    description: &'static str,
    shape: Shape,
    unit: &'static str,
    width: u32,
    /// Its queries, each with the form of its legend.
    pub queries: &'static [(&'static str, &'static str)],
}

/// Widths, of 24 columns.
const NARROW: u32 = 4;
const HALF: u32 = 12;

const fn panel(
    width: u32,
    shape: Shape,
    title: &'static str,
    description: &'static str,
    unit: &'static str,
    queries: &'static [(&'static str, &'static str)],
) -> Panel {
    Panel { title, description, shape, unit, width, queries }
}

/// Every panel, from left to right and from top to bottom.
pub const PANELS: [Panel; 20] = [
    panel(
        NARROW,
        Shape::Good,
        "Replicas",
        "How many replicas are scraped; one of them works.",
        "short",
        &[("count(regcred_caged)", "")],
    ),
    panel(
        NARROW,
        Shape::Good,
        "Leader",
        "1 while one of the replicas works.",
        "short",
        &[("sum(regcred_leader)", "")],
    ),
    panel(
        NARROW,
        Shape::Good,
        "Caged",
        "1 where admission policies limit what the token of every replica can write.",
        "short",
        &[("min(regcred_caged)", "")],
    ),
    panel(
        NARROW,
        Shape::Bad,
        "Not ready",
        "RegistryCredentials that are not in place everywhere.",
        "short",
        &[(
            "sum(max by (name) (regcred_credential_condition{type=\"Ready\",status=\"False\"})) or vector(0)",
            "",
        )],
    ),
    panel(
        NARROW,
        Shape::Bad,
        "Contested objects",
        "Secrets and ServiceAccounts that somebody keeps changing back.",
        "short",
        &[("sum(regcred_contested_objects)", "")],
    ),
    panel(
        NARROW,
        Shape::Plain,
        "First credential to end",
        "Until then it has to be renewed.",
        "s",
        &[("min(regcred_credential_expiration_timestamp_seconds) - time()", "")],
    ),
    panel(
        HALF,
        Shape::Table,
        "RegistryCredentials",
        "1 for those that are Ready.",
        "short",
        &[("max by (name) (regcred_credential_condition{type=\"Ready\",status=\"True\"})", "")],
    ),
    panel(
        HALF,
        Shape::Table,
        "Credentials by their end",
        "Seconds until a credential ends, where that is known.",
        "s",
        &[("sort(min by (name, server) (regcred_credential_expiration_timestamp_seconds) - time())", "")],
    ),
    panel(
        HALF,
        Shape::Lines,
        "Namespaces",
        "Those that are selected, in sync, and failed.",
        "short",
        &[("sum by (state) (max by (name, state) (regcred_credential_namespaces))", "{{state}}")],
    ),
    panel(
        HALF,
        Shape::Lines,
        "ServiceAccounts",
        "Those that are selected, attached, failed, and contested.",
        "short",
        &[("sum by (state) (max by (name, state) (regcred_credential_serviceaccounts))", "{{state}}")],
    ),
    panel(
        HALF,
        Shape::Table,
        "Last rotation",
        "Seconds since a source last gave another credential.",
        "s",
        &[("time() - max by (name) (regcred_credential_last_rotation_timestamp_seconds)", "")],
    ),
    panel(
        HALF,
        Shape::Lines,
        "Looks at sources, and tokens",
        "Looks by how they ended, and tokens that clouds and registries were asked for.",
        "ops",
        &[
            ("sum by (result) (rate(regcred_source_reads_total[5m]))", "source {{result}}"),
            ("sum by (issuer, result) (rate(regcred_token_requests_total[5m]))", "{{issuer}} {{result}}"),
        ],
    ),
    panel(
        HALF,
        Shape::Lines,
        "Writes",
        "",
        "ops",
        &[
            ("sum by (step) (rate(regcred_steps_total{result=\"Succeeded\"}[5m]))", "{{step}}"),
            ("sum(rate(regcred_status_writes_total[5m]))", "status"),
        ],
    ),
    panel(
        HALF,
        Shape::Lines,
        "Writes that failed",
        "A conflict is somebody else's change, and is planned again.",
        "ops",
        &[
            (
                "sum by (step, result) (rate(regcred_steps_total{result!=\"Succeeded\"}[5m]))",
                "{{step}} {{result}}",
            ),
            ("sum by (write) (rate(regcred_credential_write_failures_total[5m]))", "{{write}}"),
        ],
    ),
    panel(
        HALF,
        Shape::Lines,
        "How long writes take",
        "99 of 100 take no longer.",
        "s",
        &[(
            "histogram_quantile(0.99, sum by (step, le) (rate(regcred_write_duration_seconds_bucket[5m])))",
            "{{step}}",
        )],
    ),
    panel(
        HALF,
        Shape::Lines,
        "Requests to the API server",
        "",
        "ops",
        &[
            (
                "sum by (verb, resource) (rate(regcred_api_requests_total{code=\"2xx\"}[5m]))",
                "{{verb}} {{resource}}",
            ),
            ("sum by (code) (rate(regcred_api_requests_total{code!=\"2xx\"}[5m]))", "{{code}}"),
        ],
    ),
    panel(
        HALF,
        Shape::Lines,
        "Queues",
        "Keys that wait for a pass.",
        "short",
        &[("sum by (queue) (regcred_queue_depth)", "{{queue}}")],
    ),
    panel(
        HALF,
        Shape::Lines,
        "How long keys wait",
        "99 of 100 wait no longer.",
        "s",
        &[(
            "histogram_quantile(0.99, sum by (queue, le) (rate(regcred_queue_wait_seconds_bucket[5m])))",
            "{{queue}}",
        )],
    ),
    panel(
        HALF,
        Shape::Lines,
        "Interruptions",
        "Watches that were begun again, looks at the lease that failed, and objects that cannot be read.",
        "ops",
        &[
            ("sum by (kind) (rate(regcred_watch_restarts_total[5m]))", "watch {{kind}}"),
            ("sum(rate(regcred_lease_failures_total[5m]))", "lease"),
            ("sum by (kind) (rate(regcred_unreadable_objects_total[5m]))", "unreadable {{kind}}"),
        ],
    ),
    panel(
        HALF,
        Shape::Lines,
        "Memory of each replica",
        "",
        "bytes",
        &[("process_resident_memory_bytes and on (instance) regcred_leader", "{{instance}}")],
    ),
];

/// The dashboard as Grafana reads it.
pub fn json() -> String {
    let mut panels = Vec::new();
    let (mut x, mut y) = (0, 0);
    for (id, panel) in (1..).zip(PANELS) {
        let height = if panel.width == 12 { 8 } else { 4 };
        panels.push(panel_json(id, &panel, &json!({"w": panel.width, "h": height, "x": x, "y": y})));
        x += panel.width;
        if x >= 24 {
            (x, y) = (0, y + height);
        }
    }
    let source = json!({
        "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {},
        "hide": 0,
    });
    let dashboard = json!({
        "title": "regcred", "uid": "regcred", "tags": ["regcred"], "schemaVersion": 39, "version": 2, "editable": true,
        "refresh": "1m", "time": {"from": "now-6h", "to": "now"}, "timezone": "browser",
        "templating": {"list": [source]}, "annotations": {"list": []}, "panels": panels,
    });
    format!("{dashboard:#}\n")
}

fn panel_json(id: u32, panel: &Panel, place: &Value) -> Value {
    let (kind, instant) = match panel.shape {
        Shape::Lines => ("timeseries", false),
        Shape::Table => ("table", true),
        Shape::Good | Shape::Bad | Shape::Plain => ("stat", true),
    };
    let mut defaults = json!({"unit": panel.unit});
    let colors = match panel.shape {
        Shape::Good => Some(("red", "green")),
        Shape::Bad => Some(("green", "red")),
        Shape::Plain | Shape::Table | Shape::Lines => None,
    };
    if let Some((below, above)) = colors {
        let steps = json!([{"color": below, "value": null}, {"color": above, "value": 1}]);
        defaults["thresholds"] = json!({"mode": "absolute", "steps": steps});
    }
    let targets = panel.queries.iter().zip('A'..).map(|((query, legend), letter)| {
        let mut target = json!({
            "refId": letter.to_string(), "expr": query, "legendFormat": legend, "instant": instant,
        });
        if panel.shape == Shape::Table {
            target["format"] = json!("table");
        }
        target
    });
    json!({
        "id": id, "title": panel.title, "description": panel.description, "type": kind,
        "datasource": {"type": "prometheus", "uid": "${datasource}"}, "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []}, "targets": targets.collect::<Vec<_>>(),
    })
}
