//! Whole commands: what is printed, and the exit code.

/// Each file of `tests/cmd` shows commands with all that they print.
#[test]
fn commands_print_what_the_files_show() {
    trycmd::TestCases::new()
        .case("tests/cmd/*.trycmd")
        .env("COLUMNS", "100")
        .env("TRUEUP_HOME", "no-caches/trueup")
        .env("HF_HOME", "no-caches/huggingface");
}
