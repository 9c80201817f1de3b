//! `cargo xtask layers|tidy`: checks of the project's own rules.

use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    let root = xtask::root();
    let findings = match std::env::args().nth(1).as_deref() {
        Some("layers") => xtask::layers::check(&root)?,
        Some("tidy") => xtask::tidy::check(&root)?,
        _ => {
            eprintln!(
                "usage: cargo xtask layers|tidy\n  layers  compare the crate graph with .ci/layers.toml\n  tidy    module docs, file lengths, unfinished code"
            );
            return Ok(ExitCode::from(2));
        }
    };
    for finding in &findings {
        println!("{finding}");
    }
    Ok(if findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
