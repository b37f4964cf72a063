//! Pictures of a terminal for `docs/kubectl-regcred.md`: what `audit` and `status` print in colour over a small cluster, as SVG.
//! The test fails where a picture is not what is printed, and writes it with `UPDATE_PICTURES=1`, as `just generate` does.

use std::fmt::Write as _;

use serde_json::json;

use crate::args::By;
use crate::print::{Report as _, Style};
use crate::scene::fixtures::Stage;
use crate::verbs::{audit, status};

/// The size of a character, and the space around all, in pixels.
const CELL: (usize, usize) = (8, 19);
const MARGIN: usize = 16;
const FONT: &str = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace";
const BACKGROUND: &str = "#0d1117";
const PLAIN: &str = "#d1d7e0";
const COMMAND: &str = "#79c0ff";
const IMAGE: &str = "ghcr.io/acme/app:1";

/// A command and what it prints, as SVG.
fn picture(command: &str, printed: &str) -> String {
    let lines: Vec<Vec<(&str, &str)>> =
        std::iter::once(vec![(COMMAND, command)]).chain(printed.lines().map(coloured)).collect();
    let length = |line: &Vec<(&str, &str)>| line.iter().map(|(_, text)| text.chars().count()).sum::<usize>();
    let columns = lines.iter().map(length).max().unwrap_or_default();
    let (width, height) = (columns * CELL.0 + 2 * MARGIN, lines.len() * CELL.1 + 2 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
         <title>{}</title>\n<rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n\
         <g font-family=\"{FONT}\" font-size=\"13\" xml:space=\"preserve\">\n",
        escaped(command)
    );
    for (row, line) in lines.iter().enumerate() {
        let mut column = 0;
        for (colour, text) in line {
            let count = text.chars().count();
            let (x, y) = (MARGIN + column * CELL.0, MARGIN + row * CELL.1 + 14);
            column += count;
            // Each piece is as wide as its characters would be, whichever font there is.
            let place = format!("x=\"{x}\" y=\"{y}\" textLength=\"{}\"", count * CELL.0);
            writeln!(svg, "<text {place} fill=\"{colour}\">{}</text>", escaped(text)).unwrap();
        }
    }
    svg + "</g>\n</svg>\n"
}

/// The pieces of a line, each in its colour.
fn coloured(line: &str) -> Vec<(&'static str, &str)> {
    let mut pieces = line.split("\u{1b}[");
    let first = (PLAIN, pieces.next().unwrap());
    let piece = |piece| {
        let (code, text) = str::split_once(piece, 'm').unwrap();
        let colour = match code {
            "31" => "#ff7b72",
            "32" => "#7ee787",
            "33" => "#e3b341",
            "0" => PLAIN,
            code => panic!("no colour: {code}"),
        };
        (colour, text)
    };
    std::iter::once(first).chain(pieces.map(piece)).filter(|(_, text)| !text.is_empty()).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A credential that is in place in most namespaces, and Pods that cannot pull for a reason each.
fn cluster() -> Stage {
    let status = json!({"metadata": {"generation": 3}, "status": {
        "observedGeneration": 3,
        "conditions": [{"type": "Ready", "status": "False", "reason": "PartiallySynced",
                        "message": "5 of 6 namespaces in sync; legacy: Forbidden (refused by ValidatingAdmissionPolicy team-policy)",
                        "lastTransitionTime": "2026-11-25T03:29:00Z"}],
        "registries": [
            {"server": "ghcr.io", "source": "Secret", "fingerprint": "605bf0f6", "refreshedAt": "2026-11-25T11:52:00Z",
             "expiresAt": "2027-02-01T12:00:00Z"},
            {"server": "docker.io", "source": "Secret", "fingerprint": "47142202", "refreshedAt": "2026-10-25T12:00:00Z"},
        ],
        "namespaces": {"matched": 6, "synced": 5, "failed": 1},
        "serviceAccounts": {"matched": 6, "attached": 5, "failed": 1},
        "failures": [{"namespace": "legacy", "kind": "Secret", "name": "platform-pull", "reason": "Forbidden",
                      "since": "2026-11-25T03:29:00Z", "message": "refused by ValidatingAdmissionPolicy team-policy"}],
    }});
    let mut stage = Stage::new().credential("platform-pull", "ghcr.io", &status);
    for name in ["billing", "data", "edge", "legacy", "payments", "shop"] {
        stage =
            stage.namespace(name, &json!({"pull": "private"})).account(name, "default", &["platform-pull"]);
    }
    stage.namespace("team-b", &json!({})).account("team-b", "default", &[]).account("shop", "builder", &[])
}

fn with_pods(stage: Stage) -> Stage {
    let stage = stage.pod("shop/web:StatefulSet", &["platform-pull"], IMAGE, "");
    let stage = stage.pod("billing/api:StatefulSet", &["platform-pull"], "ghcr.io/acme/api:4", "");
    let stage = stage.pod("shop/stale", &[], IMAGE, "ErrImagePull");
    let stage = stage.pod_of("shop/build:Job", "builder", &[], IMAGE, "ImagePullBackOff");
    let stage = stage.pod("data/etl:StatefulSet", &["hub"], "ghcr.io/acme/etl:3", "ImagePullBackOff");
    let stage = stage.pod("team-b/dead", &["platform-pull"], IMAGE, "FailedToRetrieveImagePullSecret");
    let stage = stage.pod("team-b/api:StatefulSet", &[], "ghcr.io/acme/api:4", "ErrImagePull");
    let stage = stage.pod("legacy/report:DaemonSet", &["platform-pull"], "ghcr.io/acme/rep:7", "");
    stage.pod("team-b/agent:DaemonSet", &[], "public.ecr.aws/acme/agent:1", "")
}

#[test]
fn pictures_show_what_is_printed() {
    let style = Style { colour: true, headers: true, wide: false };
    let status = status::report(&cluster().0, Some("platform-pull")).text(style);
    let audit = audit::report(&with_pods(cluster()).0, By::Workload).text(style);
    for (name, command, printed) in [
        ("status", "$ kubectl regcred status platform-pull", status),
        ("audit", "$ kubectl regcred audit -A", audit),
    ] {
        let path = format!("{}/../../docs/pictures/kubectl-regcred-{name}.svg", env!("CARGO_MANIFEST_DIR"));
        let wanted = picture(command, &printed);
        if std::env::var_os("UPDATE_PICTURES").is_some() {
            std::fs::write(&path, &wanted).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == wanted,
            "{path} does not show what is printed; write it by `just generate`:\n{printed}"
        );
    }
}

#[test]
fn colours_become_pieces_and_text_is_no_markup() {
    let pieces = coloured("\u{1b}[31mFAIL\u{1b}[0m  a<b");
    assert_eq!(pieces, [("#ff7b72", "FAIL"), (PLAIN, "  a<b")]);
    let svg = picture("$ x", "a<b & c");
    assert!(svg.contains("a&lt;b &amp; c</text>"), "{svg}");
}
