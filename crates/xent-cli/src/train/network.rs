//! A multilayer perceptron with ReLU between its layers.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Linear, Module};
use rand::RngExt;

use super::logits::PartLogits;
use crate::error::{Error, Result};
use crate::seed::{Purpose, stream};

/// The number of rows that are evaluated at once: layers of up to 255 units stay below the size at
/// which candle uses other threads.
const ROWS_AT_ONCE: usize = 256;

/// Weights `[out, in]` and biases `[out]` in f32, from the input to the logits.
pub struct Network {
    layers: Vec<(Var, Var)>,
    width: usize,
    classes: usize,
}

impl Network {
    /// Weights uniform in ±√(6/in) (He et al. 2015, arXiv 1502.01852), biases 0. They are drawn
    /// here because candle's own generator cannot be seeded on a CPU.
    pub fn new(width: usize, hidden: &[usize], classes: usize, seed: u64) -> Result<Self> {
        let mut rng = stream(seed, Purpose::Weights);
        let widths: Vec<usize> = [&[width], hidden, &[classes]].concat();
        let mut layers = Vec::with_capacity(widths.len() - 1);
        for pair in widths.windows(2) {
            let (from, to) = (pair[0], pair[1]);
            let bound = (6.0 / from as f32).sqrt();
            let weights: Vec<f32> =
                (0..from * to).map(|_| rng.random_range(-bound..bound)).collect();
            layers.push((
                Var::from_vec(weights, (to, from), &Device::Cpu)?,
                Var::zeros(to, DType::F32, &Device::Cpu)?,
            ));
        }
        Ok(Self { layers, width, classes })
    }

    /// All weights and biases.
    pub fn variables(&self) -> Vec<Var> {
        self.layers.iter().flat_map(|(weight, bias)| [weight.clone(), bias.clone()]).collect()
    }

    /// Logits `[rows, classes]` of features `[rows, width]`.
    pub fn forward(&self, features: &Tensor) -> Result<Tensor> {
        let mut activations = features.clone();
        for (index, (weight, bias)) in self.layers.iter().enumerate() {
            if index > 0 {
                activations = activations.relu()?;
            }
            activations = Linear::new(weight.as_tensor().clone(), Some(bias.as_tensor().clone()))
                .forward(&activations)?;
        }
        Ok(activations)
    }

    /// The logits of features `[rows, width]`, as numbers.
    pub fn logits(&self, features: &[f32]) -> Result<PartLogits> {
        let mut values = Vec::with_capacity(features.len() / self.width * self.classes);
        for rows in features.chunks(ROWS_AT_ONCE * self.width) {
            let features =
                Tensor::from_slice(rows, (rows.len() / self.width, self.width), &Device::Cpu)?;
            let logits = self.forward(&features)?.flatten_all()?.to_vec1::<f32>()?;
            values.extend(logits.into_iter().map(f64::from));
        }
        Ok(PartLogits::new(values, self.classes))
    }

    /// Writes the weights as `layers.0.weight`, `layers.0.bias`, … in safetensors.
    pub fn save(&self, path: &Path) -> Result<()> {
        let named = |index: usize, name: &str, var: &Var| {
            (format!("layers.{index}.{name}"), var.as_tensor().clone())
        };
        let tensors: HashMap<String, Tensor> = self
            .layers
            .iter()
            .enumerate()
            .flat_map(|(index, (weight, bias))| {
                [named(index, "weight", weight), named(index, "bias", bias)]
            })
            .collect();
        let folder = path.parent().unwrap_or(Path::new("."));
        let temporary = tempfile::Builder::new()
            .prefix(".xent-")
            .tempdir_in(folder)
            .map_err(|error| Error::writing(path, error))?;
        let unfinished = temporary.path().join("weights");
        candle_core::safetensors::save(&tensors, &unfinished)
            .map_err(|error| Error::writing(path, error))?;
        std::fs::rename(&unfinished, path).map_err(|error| Error::writing(path, error))
    }
}
