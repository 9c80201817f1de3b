//! The timeline as a drawing: acknowledged and failed calls per second, replication lag, who each
//! cluster believed to be active, and the faults and actions as marks across all of it.

use std::fmt::Write;

use super::{Report, html::escape};
use crate::timeline::{Entry, Kind};

const WIDTH: f64 = 1060.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const MARKS_TOP: f64 = 14.0;
const ROW: f64 = 15.0;
const CALLS_HEIGHT: f64 = 170.0;
const LAG_HEIGHT: f64 = 90.0;
const ROLE_HEIGHT: f64 = 22.0;
const GAP: f64 = 34.0;

/// One colour per cluster, distinguished also by people who see few colours.
const COLOURS: [&str; 4] = ["#2563b0", "#c26a12", "#5b7f2b", "#7a4b9a"];
const BAD: &str = "#b3261e";
const QUIET: &str = "#5a6577";

/// The drawing.
pub(super) fn svg(report: &Report) -> String {
    let marks: Vec<&Entry> = report
        .timeline
        .iter()
        .filter(|e| matches!(e.kind, Kind::Fault | Kind::Action))
        .collect();
    let end_ms = end_ms(report);
    let calls_top = MARKS_TOP + marks.len() as f64 * ROW + 12.0;
    let lag_top = calls_top + CALLS_HEIGHT + GAP;
    let roles_top = lag_top + LAG_HEIGHT + GAP;
    let height = roles_top + ROLE_HEIGHT * report.clusters.len() as f64 + GAP;
    let axis = Axis { end_ms };
    let mut svg = String::with_capacity(32 * 1024);
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
         font-family=\"system-ui,sans-serif\" font-size=\"11\" role=\"img\" \
         aria-label=\"calls, lag and roles over time\">"
    );
    draw_marks(&mut svg, &axis, &marks, height - GAP);
    draw_calls(&mut svg, &axis, report, calls_top);
    draw_lag(&mut svg, &axis, report, lag_top);
    draw_roles(&mut svg, &axis, report, roles_top);
    draw_time(&mut svg, &axis, height - 14.0);
    svg.push_str("</svg>");
    svg
}

struct Axis {
    end_ms: u64,
}

impl Axis {
    fn x(&self, ms: u64) -> f64 {
        let share = ms.min(self.end_ms) as f64 / self.end_ms as f64;
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }
}

fn end_ms(report: &Report) -> u64 {
    let calls = report.throughput.len() as u64 * 1000;
    let entries = report
        .timeline
        .iter()
        .map(|e| e.until_ms)
        .max()
        .unwrap_or(0);
    calls.max(entries).max(1000)
}

/// Each fault and action gets a row of its own for its name and a line or band down through the lanes.
fn draw_marks(svg: &mut String, axis: &Axis, marks: &[&Entry], bottom: f64) {
    for (n, mark) in marks.iter().enumerate() {
        let y = MARKS_TOP + n as f64 * ROW;
        let (x, until) = (axis.x(mark.at_ms), axis.x(mark.until_ms));
        let colour = if mark.kind == Kind::Fault { BAD } else { QUIET };
        let width = (until - x).max(1.0);
        let _ = write!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{colour}\" opacity=\"0.06\"/>\
             <line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{y:.1}\" y2=\"{bottom:.1}\" stroke=\"{colour}\" opacity=\"0.45\"/>",
            y,
            bottom - y
        );
        // Names stand to the left of late marks, so that they stay on the page.
        let (anchor, at) = if x > WIDTH * 0.6 {
            ("end", x - 4.0)
        } else {
            ("start", x + 4.0)
        };
        let name = escape(mark.what.lines().next().unwrap_or_default());
        let _ = write!(
            svg,
            "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{name}</text>",
            y + 4.0
        );
    }
}

fn draw_calls(svg: &mut String, axis: &Axis, report: &Report, top: f64) {
    let most = report
        .throughput
        .iter()
        .flat_map(|s| s.acknowledged.values().copied())
        .max()
        .unwrap_or(0)
        .max(1);
    frame(
        svg,
        top,
        CALLS_HEIGHT,
        "calls per second",
        &most.to_string(),
    );
    let y = |count: u32| top + CALLS_HEIGHT * (1.0 - f64::from(count) / f64::from(most));
    let line = |values: Vec<u32>| -> String {
        let points: Vec<String> = values
            .iter()
            .enumerate()
            .map(|(n, v)| format!("{:.1},{:.1}", axis.x(n as u64 * 1000 + 500), y(*v)))
            .collect();
        points.join(" ")
    };
    for (n, cluster) in report.clusters.iter().enumerate() {
        let colour = COLOURS[n % COLOURS.len()];
        let values = report
            .throughput
            .iter()
            .map(|s| s.acknowledged.get(cluster).copied().unwrap_or(0))
            .collect();
        polyline(svg, &line(values), colour, "");
        let x = LEFT + 6.0 + 150.0 * n as f64;
        let _ = write!(
            svg,
            "<text x=\"{x:.1}\" y=\"{:.1}\" fill=\"{colour}\">acknowledged by {}</text>",
            top - 5.0,
            escape(cluster)
        );
    }
    // Repeated calls against a dead side can outnumber all others; the others keep the scale.
    let failed = report
        .throughput
        .iter()
        .map(|s| s.failed.min(most))
        .collect();
    polyline(svg, &line(failed), BAD, " stroke-dasharray=\"4 3\"");
    let _ = write!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{BAD}\">failed (dashed, cut off at the top)</text>",
        WIDTH - RIGHT,
        top - 5.0
    );
}

fn draw_lag(svg: &mut String, axis: &Axis, report: &Report, top: f64) {
    let most = report
        .lag
        .iter()
        .map(|s| s.lag_ms)
        .max()
        .unwrap_or(0)
        .max(10);
    frame(
        svg,
        top,
        LAG_HEIGHT,
        "replication lag",
        &format!("{most} ms"),
    );
    // A logarithmic scale: milliseconds while all is well, seconds while a link is cut.
    let scale = ((most + 1) as f64).ln();
    for sample in &report.lag {
        let y = top + LAG_HEIGHT * (1.0 - ((sample.lag_ms + 1) as f64).ln() / scale);
        let n = report
            .clusters
            .iter()
            .position(|c| *c == sample.to)
            .unwrap_or(0);
        let colour = if sample.seen {
            COLOURS[n % COLOURS.len()]
        } else {
            BAD
        };
        let _ = write!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"1.8\" fill=\"{colour}\"/>",
            axis.x(sample.at_ms)
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{QUIET}\">until a write shows on the other side, \
         logarithmic; red: not there yet</text>",
        LEFT + 6.0,
        top - 5.0
    );
}

/// A bar per cluster, coloured by the cluster it believed to be active.
fn draw_roles(svg: &mut String, axis: &Axis, report: &Report, top: f64) {
    for (row, cluster) in report.clusters.iter().enumerate() {
        let y = top + ROLE_HEIGHT * row as f64;
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{QUIET}\">{}</text>",
            LEFT - 6.0,
            y + 13.0,
            escape(cluster)
        );
        let views: Vec<&Entry> = report
            .timeline
            .iter()
            .filter(|e| e.kind == Kind::Role && e.cluster.as_ref() == Some(cluster))
            .collect();
        for (n, view) in views.iter().enumerate() {
            let until = views.get(n + 1).map_or(axis.end_ms, |next| next.at_ms);
            let active = view.what.split(' ').next().unwrap_or_default();
            let known = report.clusters.iter().position(|c| c == active);
            let (colour, ink) =
                known.map_or(("#d8dde6", QUIET), |n| (COLOURS[n % COLOURS.len()], "#fff"));
            let (x, end) = (axis.x(view.at_ms), axis.x(until));
            let _ = write!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\">\
                 <title>{}</title></rect>",
                (end - x).max(0.5),
                ROLE_HEIGHT - 5.0,
                escape(&view.what)
            );
            if end - x > 90.0 {
                let _ = write!(
                    svg,
                    "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{ink}\">{}</text>",
                    x + 5.0,
                    y + 12.5,
                    escape(view.what.split(',').next().unwrap_or_default())
                );
            }
        }
    }
    let _ = write!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{QUIET}\">who each cluster believes to be active</text>",
        LEFT + 6.0,
        top - 5.0
    );
}

fn draw_time(svg: &mut String, axis: &Axis, y: f64) {
    let seconds = axis.end_ms / 1000;
    let step = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600]
        .into_iter()
        .find(|step| seconds / step <= 15)
        .unwrap_or(1200);
    for second in (0..=seconds / step).map(|n| n * step) {
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"middle\" fill=\"{QUIET}\">{second} s</text>",
            axis.x(second * 1000)
        );
    }
}

fn frame(svg: &mut String, top: f64, height: f64, name: &str, most: &str) {
    let (width, middle) = (WIDTH - LEFT - RIGHT, top + height / 2.0);
    let _ = write!(
        svg,
        "<rect x=\"{LEFT}\" y=\"{top:.1}\" width=\"{width}\" height=\"{height}\" fill=\"none\" stroke=\"#d8dde6\"/>\
         <text x=\"{0:.1}\" y=\"{1:.1}\" text-anchor=\"end\" fill=\"{QUIET}\">{most}</text>\
         <text x=\"{0:.1}\" y=\"{2:.1}\" text-anchor=\"end\" fill=\"{QUIET}\">0</text>\
         <text x=\"14\" y=\"{middle:.1}\" transform=\"rotate(-90 14 {middle:.1})\" text-anchor=\"middle\" fill=\"{QUIET}\">{name}</text>",
        LEFT - 6.0,
        top + 9.0,
        top + height
    );
}

fn polyline(svg: &mut String, points: &str, colour: &str, more: &str) {
    let _ = write!(
        svg,
        "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"{more}/>"
    );
}
