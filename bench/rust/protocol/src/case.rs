//! What is computed: logits and targets as the runner wrote them.

use std::path::{Path, PathBuf};

use half::bf16;
use serde::{Deserialize, Serialize};

/// Type of the logits and of their gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// `f32`
    F32,
    /// `bf16`
    Bf16,
}

/// One case of the benchmark.
#[derive(Debug, Clone, Deserialize)]
pub struct Case {
    /// Type of the logits.
    pub dtype: Dtype,
    /// Shape of the logits.
    pub shape: Vec<usize>,
    /// Which of the axes counts classes.
    pub axis: usize,
    /// Label smoothing over all classes alike.
    pub epsilon: f64,
    logits: PathBuf,
    targets: PathBuf,
}

/// Logits, or a gradient, in memory of their own.
#[derive(Debug, Clone)]
pub enum Logits {
    /// `f32`
    F32(Vec<f32>),
    /// `bf16`
    Bf16(Vec<bf16>),
}

impl Case {
    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.shape[self.axis]
    }

    /// Number of rows, one target each.
    pub fn rows(&self) -> usize {
        self.shape.iter().product::<usize>() / self.classes()
    }

    pub(crate) fn read(&self) -> Result<(Logits, Vec<i64>), String> {
        let bytes = read(&self.logits)?;
        let logits = match self.dtype {
            Dtype::F32 => Logits::F32(
                bytes.as_chunks().0.iter().map(|&entry| f32::from_le_bytes(entry)).collect(),
            ),
            Dtype::Bf16 => Logits::Bf16(
                bytes.as_chunks().0.iter().map(|&entry| bf16::from_le_bytes(entry)).collect(),
            ),
        };
        let targets = read(&self.targets)?
            .as_chunks()
            .0
            .iter()
            .map(|&entry| i64::from_le_bytes(entry))
            .collect();
        Ok((logits, targets))
    }
}

impl Logits {
    /// Type of the entries.
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::Bf16(_) => Dtype::Bf16,
        }
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), String> {
        let bytes: Vec<u8> = match self {
            Self::F32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Bf16(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        };
        std::fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}
