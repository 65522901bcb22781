//! A multilayer perceptron with ReLU between its layers, its gradient, and Adam.

use std::path::Path;

use ndarray::{Array, Array1, Array2, ArrayView2, Axis, Dimension, Zip};
use rand::RngExt;
use safetensors::tensor::{Dtype, TensorView, serialize};

use super::logits::PartLogits;
use crate::error::{Error, Result};
use crate::output::Outputs;
use crate::seed::{Purpose, stream};

/// The number of rows that are evaluated at once, so that their activations stay small.
const ROWS_AT_ONCE: usize = 256;

/// Adam's decay rates of the two averages, and what keeps its division from 0: the values of Kingma
/// and Ba 2015 (arXiv 1412.6980, algorithm 1).
const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const TINY: f32 = 1e-8;

/// A weight `[out, in]` and a bias `[out]` per layer, from the input to the logits.
pub struct Network {
    layers: Vec<Layer>,
}

struct Layer {
    weight: Parameter<ndarray::Ix2>,
    bias: Parameter<ndarray::Ix1>,
}

/// Values with Adam's averages of their gradients and of the squares.
struct Parameter<D: Dimension> {
    values: Array<f32, D>,
    mean: Array<f32, D>,
    square: Array<f32, D>,
}

/// What each layer read, and the logits: `[rows, width]` each.
pub struct Activations {
    inputs: Vec<Array2<f32>>,
    logits: Array2<f32>,
}

impl Network {
    /// Weights uniform in ±√(6/in) (He et al. 2015, arXiv 1502.01852), biases 0.
    pub fn new(width: usize, hidden: &[usize], classes: usize, seed: u64) -> Self {
        let mut rng = stream(seed, Purpose::Weights);
        let widths: Vec<usize> = [&[width], hidden, &[classes]].concat();
        let layer = |pair: &[usize]| {
            let bound = (6.0 / pair[0] as f32).sqrt();
            Layer {
                weight: Parameter::new(Array2::from_shape_simple_fn((pair[1], pair[0]), || {
                    rng.random_range(-bound..bound)
                })),
                bias: Parameter::new(Array1::zeros(pair[1])),
            }
        };
        Self { layers: widths.windows(2).map(layer).collect() }
    }

    /// What the layers make of features `[rows, width]`.
    pub fn forward(&self, features: Array2<f32>) -> Activations {
        let mut inputs = Vec::with_capacity(self.layers.len());
        let mut values = features;
        for layer in &self.layers {
            let mut next = values.dot(&layer.weight.values.t());
            next += &layer.bias.values;
            if inputs.len() + 1 < self.layers.len() {
                next.mapv_inplace(|value| value.max(0.0));
            }
            inputs.push(std::mem::replace(&mut values, next));
        }
        Activations { inputs, logits: values }
    }

    /// One step of Adam, from the gradient with respect to the logits.
    pub fn step(&mut self, activations: &Activations, gradient: Array2<f32>, rate: &Rate) {
        let mut gradient = gradient;
        for (layer, input) in self.layers.iter_mut().zip(&activations.inputs).rev() {
            let of_weight = gradient.t().dot(input);
            let of_bias = gradient.sum_axis(Axis(0));
            gradient = gradient.dot(&layer.weight.values);
            // The inputs of all layers but the first come from a ReLU.
            Zip::from(&mut gradient).and(input).for_each(|slope, &input| {
                if input <= 0.0 {
                    *slope = 0.0;
                }
            });
            layer.weight.step(&of_weight, rate);
            layer.bias.step(&of_bias, rate);
        }
    }

    /// The logits of features `[rows, width]`, as numbers.
    pub fn logits(&self, features: ArrayView2<'_, f32>) -> PartLogits {
        let logits = features
            .axis_chunks_iter(Axis(0), ROWS_AT_ONCE)
            .flat_map(|rows| self.forward(rows.to_owned()).logits.into_iter().map(f64::from));
        PartLogits::new(logits.collect(), self.classes())
    }

    fn classes(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.bias.values.len())
    }

    /// Writes the weights as `layers.0.weight`, `layers.0.bias`, … in safetensors.
    pub fn save(&self, path: &Path) -> Result<()> {
        let bytes: Vec<_> = self
            .layers
            .iter()
            .enumerate()
            .flat_map(|(index, Layer { weight, bias })| {
                [
                    (format!("layers.{index}.weight"), weight.values.shape(), weight.bytes()),
                    (format!("layers.{index}.bias"), bias.values.shape(), bias.bytes()),
                ]
            })
            .collect();
        let tensors = bytes
            .iter()
            .map(|(name, shape, bytes)| {
                TensorView::new(Dtype::F32, shape.to_vec(), bytes).map(|tensor| (name, tensor))
            })
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(Error::failed)?;
        let bytes = serialize(tensors, None).map_err(Error::failed)?;
        Outputs::default().open(path)?.write(|out| out.write_all(&bytes))
    }
}

impl Activations {
    /// `[rows, classes]`, row after row.
    pub fn logits(&self) -> &Array2<f32> {
        &self.logits
    }
}

/// How far a step goes: the learning rate, and how much of Adam's averages is still their initial 0.
pub struct Rate {
    rate: f32,
    steps: i32,
}

impl Rate {
    /// Before the first step.
    pub fn new(rate: f64) -> Self {
        Self { rate: rate as f32, steps: 0 }
    }

    /// The rate of the next step.
    pub fn next(&mut self) -> &Self {
        self.steps = self.steps.saturating_add(1);
        self
    }
}

impl<D: Dimension> Parameter<D> {
    fn new(values: Array<f32, D>) -> Self {
        let zeros = Array::zeros(values.raw_dim());
        Self { values, mean: zeros.clone(), square: zeros }
    }

    fn step(&mut self, gradient: &Array<f32, D>, rate: &Rate) {
        let whole_mean = 1.0 - BETA1.powi(rate.steps);
        let whole_square = 1.0 - BETA2.powi(rate.steps);
        Zip::from(&mut self.values)
            .and(&mut self.mean)
            .and(&mut self.square)
            .and(gradient)
            .for_each(|value, mean, square, &slope| {
                *mean = BETA1 * *mean + (1.0 - BETA1) * slope;
                *square = BETA2 * *square + (1.0 - BETA2) * slope * slope;
                let width = (*square / whole_square).sqrt() + TINY;
                *value -= rate.rate * (*mean / whole_mean) / width;
            });
    }

    /// The values in C order, each in little-endian order.
    fn bytes(&self) -> Vec<u8> {
        self.values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use xent::{Config, Rows};

    use super::*;

    /// Adam's first step is the learning rate times the gradient's sign, so that weights move
    /// against finite differences of the loss.
    #[test]
    fn a_step_goes_down_the_gradient() {
        let features = array![[0.5f32, -1.0, 2.0], [1.5, 0.25, -0.75]];
        let labels = [1u32, 0];
        let criterion = Config::new().label_smoothing(0.1).build().unwrap();
        let mut network = Network::new(3, &[4], 2, 0);
        let loss = |network: &Network| {
            let logits = network.forward(features.clone()).logits;
            let rows = Rows::new(logits.as_slice().unwrap(), 2).unwrap();
            criterion.forward(&rows, &labels).unwrap().loss.scalar().unwrap()
        };
        let slope = |network: &mut Network, layer: usize, at: [usize; 2]| {
            let mut moved = |by: f32| {
                network.layers[layer].weight.values[at] += by;
                let loss = loss(network);
                network.layers[layer].weight.values[at] -= by;
                loss
            };
            (moved(1e-2) - moved(-1e-2)) / 2e-2
        };
        let before: Vec<_> =
            network.layers.iter().map(|layer| layer.weight.values.clone()).collect();
        let mut slopes = Vec::new();
        for (layer, weight) in before.iter().enumerate() {
            for (at, _) in weight.indexed_iter() {
                let at = [at.0, at.1];
                slopes.push((layer, at, slope(&mut network, layer, at)));
            }
        }
        let activations = network.forward(features.clone());
        let rows = Rows::new(activations.logits.as_slice().unwrap(), 2).unwrap();
        let (_, gradient) = criterion.loss_and_gradient(&rows, &labels).unwrap();
        let gradient = Array2::from_shape_vec((2, 2), gradient).unwrap();
        network.step(&activations, gradient, Rate::new(1e-3).next());
        for (layer, at, slope) in slopes {
            let moved = network.layers[layer].weight.values[at] - before[layer][at];
            let expected = if slope.abs() < 1e-4 { 0.0 } else { -1e-3 * slope.signum() };
            assert!((moved - expected).abs() < 1e-5, "layer {layer} {at:?}: {moved} {slope}");
        }
    }
}
