//! The rules about the repository itself, so that `cargo test` tells who breaks one.

#[test]
fn the_repository_is_tidy() {
    let complaints = xtask::tidy::check(&xtask::files::root());
    let complaints = complaints.unwrap_or_else(|error| panic!("{error:#}"));
    let lines: Vec<String> = complaints.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}
