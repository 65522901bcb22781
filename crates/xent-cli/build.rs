//! Writes down what this build was made of, for the reports: the compiler, the target and the
//! versions of the dependencies.

fn main() -> std::io::Result<()> {
    built::write_built_file()
}
