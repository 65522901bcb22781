//! Which instruction set the kernels run on.

use fearless_simd::Level;

/// An instruction set for which xent has kernels. Default: the best one that the processor
/// supports; [`Config::instructions`](crate::Config::instructions) selects another.
///
/// Their results differ by a few units in the last place only, because some round a product and a
/// sum once and others twice.
///
/// ```
/// use xent::{Config, Instructions};
/// assert!(Instructions::available().contains(&Instructions::best()));
/// let criterion = Config::new().instructions(Instructions::Portable).build()?; // every processor has this one
/// # Ok::<(), xent::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Instructions {
    /// What every processor of the target supports: SSE2 on x86-64, NEON on AArch64, SIMD128 on
    /// WebAssembly if it is enabled in the build, otherwise scalar code.
    Portable,
    /// x86-64-v3: AVX2 and fused multiply-add.
    Avx2,
    /// AVX-512 from Ice Lake and Zen 4 on.
    Avx512,
}

impl Instructions {
    const BEST_FIRST: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Portable];

    /// The instruction sets that this processor supports, best first.
    pub fn available() -> Vec<Self> {
        Self::BEST_FIRST.into_iter().filter(|instructions| instructions.is_available()).collect()
    }

    /// The best instruction set that this processor supports.
    pub fn best() -> Self {
        let available = |instructions: &Self| instructions.is_available();
        Self::BEST_FIRST.into_iter().find(available).unwrap_or(Self::Portable)
    }

    /// The name on this target, which `Display` prints: `avx512`, `avx2`, `sse2`, `neon`, `simd128`
    /// or `scalar`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable if cfg!(xent_scalar) => "scalar",
            Self::Portable if cfg!(target_arch = "x86_64") => "sse2",
            Self::Portable if cfg!(target_arch = "aarch64") => "neon",
            Self::Portable if cfg!(target_feature = "simd128") => "simd128",
            Self::Portable => "scalar",
        }
    }

    /// Whether this processor has it.
    pub(crate) fn is_available(self) -> bool {
        self.level().is_some()
    }

    /// What to compute with: the baseline, should the processor not have it.
    pub(super) fn level_or_baseline(self) -> Level {
        self.level().unwrap_or(baseline())
    }

    /// `None` where the processor does not have it.
    fn level(self) -> Option<Level> {
        match self {
            Self::Portable => Some(baseline()),
            #[cfg(all(any(target_arch = "x86", target_arch = "x86_64"), not(xent_scalar)))]
            Self::Avx2 => Level::new().as_avx2().map(Level::Avx2),
            #[cfg(all(any(target_arch = "x86", target_arch = "x86_64"), not(xent_scalar)))]
            Self::Avx512 => Level::new().as_avx512().map(Level::Avx512),
            #[cfg(any(not(any(target_arch = "x86", target_arch = "x86_64")), xent_scalar))]
            Self::Avx2 | Self::Avx512 => None,
        }
    }
}

/// What [`Instructions::Portable`] computes with. `--cfg xent_scalar` makes that scalar code on any
/// target, and the only choice, so that whole suites run on it.
fn baseline() -> Level {
    #[cfg(xent_scalar)]
    return Level::fallback();
    #[cfg(not(xent_scalar))]
    return Level::baseline();
}

/// Runs an expression with the token of a level. Unlike `fearless_simd::dispatch` it makes nothing
/// for levels that [`Instructions`] does not name: all kernels exist once for each.
macro_rules! on_level {
    ($level:expr, $simd:ident => $body:expr) => {{
        let level: fearless_simd::Level = $level;
        #[cfg(xent_scalar)]
        match level {
            fearless_simd::Level::Fallback($simd) => $body,
            _ => unreachable!("scalar code is the only choice"),
        }
        #[cfg(all(target_arch = "x86_64", not(xent_scalar)))]
        match (level.as_avx512(), level.as_avx2(), level.as_sse2()) {
            (Some($simd), _, _) => $body,
            (_, Some($simd), _) => $body,
            (_, _, Some($simd)) => $body,
            _ => unreachable!("SSE2 is part of x86-64"),
        }
        #[cfg(not(any(target_arch = "x86_64", xent_scalar)))]
        fearless_simd::dispatch!(level, $simd => $body)
    }};
}
pub(super) use on_level;

impl std::fmt::Display for Instructions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
