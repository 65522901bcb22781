//! The versions that a report was made with.

use serde::Serialize;

/// Versions that can change the numbers.
#[derive(Debug, Clone, Serialize)]
pub struct Versions {
    /// This program.
    pub xent: &'static str,
    /// The compiler.
    pub rustc: &'static str,
    /// The target and profile of the build.
    pub target: String,
    /// `debug` or `release`.
    #[serde(skip)]
    pub build: &'static str,
}

impl Versions {
    /// The versions of this build.
    pub fn of_this_build() -> Self {
        let build = env!("XENT_PROFILE");
        Self {
            xent: env!("CARGO_PKG_VERSION"),
            rustc: env!("XENT_RUSTC"),
            target: format!("{} ({build} build)", env!("XENT_TARGET")),
            build,
        }
    }

    /// Each version with its name.
    pub fn lines(&self) -> [(&'static str, &str); 3] {
        [("xent", self.xent), ("compiler", self.rustc), ("target", &self.target)]
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_versions_are_known() {
        let versions = super::Versions::of_this_build();
        assert!(versions.rustc.starts_with("rustc 1."), "{}", versions.rustc);
        assert!(versions.target.contains('-'), "{}", versions.target);
    }
}
