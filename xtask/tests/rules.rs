//! The rules hold for the workspace as it is.

#[test]
fn arrows_point_toward_words() {
    let found = xtask::layers::check(&xtask::root()).expect("crate graph");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn files_are_tidy() {
    let found = xtask::tidy::check(&xtask::root()).expect("files");
    assert!(found.is_empty(), "{}", found.join("\n"));
}
