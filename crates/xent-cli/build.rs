//! Hands the compiler's version, the target and the profile of this build to the reports.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| "unknown".into());
    let rustc = Command::new(variable("RUSTC")).arg("--version").output();
    let rustc = rustc.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string());
    println!("cargo::rustc-env=XENT_RUSTC={}", rustc.unwrap_or_else(|_| "unknown".into()));
    println!("cargo::rustc-env=XENT_TARGET={}", variable("TARGET"));
    println!("cargo::rustc-env=XENT_PROFILE={}", variable("PROFILE"));
}
