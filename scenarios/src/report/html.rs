//! The report as one page: no scripts, nothing fetched from anywhere.

use std::fmt::Write;

use super::{Report, Verdict, plot};
use crate::timeline::Kind;

const STYLE: &str = "
body{font:15px/1.5 system-ui,sans-serif;color:#1c2330;background:#fff;max-width:1080px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:.2rem 0}h2{font-size:1.1rem;margin:2rem 0 .5rem;border-bottom:1px solid #d8dde6;padding-bottom:.2rem}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.3rem .6rem;border-bottom:1px solid #e8ebf0}
th{color:#5a6577;font-weight:600}.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.badge{display:inline-block;padding:.15rem .7rem;border-radius:4px;color:#fff;font-weight:700;letter-spacing:.04em}
.pass{background:#1a7f4b}.fail{background:#b3261e}.none{background:#6b7280}.muted{color:#5a6577}
details{margin:.2rem 0}pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f5f7fa;padding:.5rem;margin:.2rem 0;font-size:12.5px}
svg{width:100%;height:auto;border:1px solid #e8ebf0;border-radius:4px}
";

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let mut html = String::with_capacity(64 * 1024);
    let class = match report.verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
        Verdict::CouldNotRun => "none",
    };
    let _ = write!(
        html,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{0}: {1}</title>\
         <style>{STYLE}</style></head><body>\
         <p><span class=\"badge {class}\">{1}</span> <span class=\"muted\">drill {0}{2}{3}</span></p>\
         <h1>{4}</h1><p>{5}</p>",
        escape(&report.drill),
        report.verdict.word(),
        if report.short { ", short form" } else { "" },
        begun(report),
        escape(&report.title),
        escape(&report.summary),
    );
    if let Some(reason) = &report.reason {
        let _ = write!(
            html,
            "<h2>Why it could not run</h2><pre>{}</pre>",
            escape(reason)
        );
        html.push_str("</body></html>");
        return html;
    }
    let _ = write!(html, "<h2>Timeline</h2>{}", plot::svg(report));
    measured(&mut html, report);
    judgements(&mut html, report);
    calls(&mut html, report);
    happened(&mut html, report);
    html.push_str("</body></html>\n");
    html
}

fn begun(report: &Report) -> String {
    i64::try_from(report.begun_unix_seconds)
        .ok()
        .filter(|s| *s > 0)
        .and_then(|s| jiff::Timestamp::from_second(s).ok())
        .map(|t| format!(", {t}"))
        .unwrap_or_default()
}

fn measured(html: &mut String, report: &Report) {
    html.push_str("<h2>Measured</h2><table>");
    for (name, value) in report.values() {
        let _ = write!(
            html,
            "<tr><td>{name}</td><td class=\"n\">{}</td></tr>",
            escape(&value)
        );
    }
    html.push_str("</table>");
}

fn judgements(html: &mut String, report: &Report) {
    html.push_str(
        "<h2>Judgements</h2><table><tr><th>Rule</th><th>Verdict</th><th>Finding</th></tr>",
    );
    for j in &report.judgements {
        let (class, word) = if j.passed {
            ("pass", "ok")
        } else {
            ("fail", "FAIL")
        };
        let _ = write!(
            html,
            "<tr><td>{}</td><td><span class=\"badge {class}\">{word}</span></td><td>{}",
            escape(&j.rule),
            escape(&j.finding)
        );
        if !j.evidence.is_empty() {
            let open = if j.passed { "" } else { " open" };
            let lines = escape(&j.evidence.join("\n"));
            let _ = write!(
                html,
                "<details{open}><summary>evidence</summary><pre>{lines}</pre></details>"
            );
        }
        html.push_str("</td></tr>");
    }
    html.push_str("</table>");
    if !report.losing_branches.is_empty() {
        html.push_str("<h2>Losing branches that are kept</h2><ul>");
        for branch in &report.losing_branches {
            let _ = write!(html, "<li>{}</li>", escape(branch));
        }
        html.push_str("</ul>");
    }
}

fn calls(html: &mut String, report: &Report) {
    html.push_str("<h2>Calls</h2><table><tr><th>Acknowledged</th><th class=\"n\">Count</th></tr>");
    for (name, count) in &report.acknowledged {
        let _ = write!(
            html,
            "<tr><td>{}</td><td class=\"n\">{count}</td></tr>",
            escape(name)
        );
    }
    html.push_str("<tr><th>Failed, and repeated by the caller</th><th></th></tr>");
    for (name, count) in &report.failed {
        let _ = write!(
            html,
            "<tr><td>{}</td><td class=\"n\">{count}</td></tr>",
            escape(name)
        );
    }
    html.push_str("</table>");
}

fn happened(html: &mut String, report: &Report) {
    html.push_str(
        "<h2>What happened</h2><table><tr><th>Time</th><th>Cluster</th><th>What</th></tr>",
    );
    for e in &report.timeline {
        let mark = match e.kind {
            Kind::Fault => "fault: ",
            Kind::Role => "says: ",
            Kind::Action | Kind::Note => "",
        };
        let mut lines = e.what.splitn(2, '\n');
        let _ = write!(
            html,
            "<tr><td class=\"n\">{}</td><td>{}</td><td>{mark}{}",
            seconds(e.at_ms),
            escape(e.cluster.as_deref().unwrap_or("")),
            escape(lines.next().unwrap_or_default())
        );
        if let Some(rest) = lines.next() {
            let _ = write!(
                html,
                "<details><summary>more</summary><pre>{}</pre></details>",
                escape(rest)
            );
        }
        html.push_str("</td></tr>");
    }
    html.push_str("</table>");
}

fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1000.0)
}

/// Text that cannot be mistaken for markup.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
