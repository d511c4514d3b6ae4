//! The `okapi` program.

fn main() -> std::process::ExitCode {
    okapi::cli::main()
}
