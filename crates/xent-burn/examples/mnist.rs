//! Trains a small convolutional network with label smoothing, by burn's own training loop, and logs
//! loss and NLL both.
//!
//!     cargo run --release -p xent-burn --example mnist [FOLDER]
//!
//! FOLDER holds MNIST's four files (`train-images-idx3-ubyte`, `train-labels-idx1-ubyte`,
//! `t10k-…`), plain or gzipped, or any other images of bytes in that format; without it the 1,797
//! digits of 8×8 pixels that the repository carries are taken, every fifth for validation. Where
//! the smoothed loss cannot fall below its floor (.50 for ten classes at ε = .1), NLL can, and
//! compares with runs of any other ε.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use burn::data::dataloader::DataLoaderBuilder;
use burn::data::dataloader::batcher::Batcher;
use burn::data::dataset::InMemDataset;
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d, Relu};
use burn::optim::AdamConfig;
use burn::tensor::{Device, ExecutionError, Int, Tensor, TensorData, TensorReadError};
use burn::train::metric::state::{FormatOptions, NumericMetricState};
use burn::train::metric::{
    AccuracyInput, AccuracyMetric, Adaptor, ItemLazy, LossInput, LossMetric, Metric,
    MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes, NumericEntry,
    SerializedEntry,
};
use burn::train::{InferenceStep, Learner, SupervisedTraining, TrainOutput, TrainStep};
use flate2::read::GzDecoder;
use xent_burn::xent::Config;
use xent_burn::{CrossEntropy, CrossEntropyConfig};

const CLASSES: usize = 10;
const EPOCHS: usize = 10;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let (train, valid) = match std::env::args().nth(1) {
        Some(folder) => (images(Path::new(&folder), "train")?, images(Path::new(&folder), "t10k")?),
        None => digits()?,
    };
    let device = Device::default();
    device.seed(0);
    let rate = if train.len() > 10_000 { 1e-3 } else { 1e-2 };
    println!("{} images for training, {} for validation", train.len(), valid.len());
    let loader = |items| {
        DataLoaderBuilder::new(ToTensors).batch_size(64).shuffle(0).build(InMemDataset::new(items))
    };

    let folder = std::env::temp_dir().join("xent-burn-mnist");
    let training = SupervisedTraining::new(&folder, loader(train), loader(valid))
        .metrics((AccuracyMetric::new(), LossMetric::new(), NllMetric::new()))
        .num_epochs(EPOCHS)
        .summary();
    let model = Network::new(&device.autodiff());
    let trained = training.launch(Learner::new(model, AdamConfig::new().init(), rate));
    if let Some(error) = trained.error {
        return Err(error.to_string().into());
    }
    println!("Logs of every batch: {}", folder.display());
    Ok(())
}

#[derive(Module, Debug)]
struct Network {
    first: Conv2d,
    second: Conv2d,
    pool: AdaptiveAvgPool2d,
    last: Linear,
    relu: Relu,
    criterion: CrossEntropy,
}

impl Network {
    fn new(device: &Device) -> Self {
        let convolution = |channels| {
            Conv2dConfig::new(channels, [3, 3]).with_padding(PaddingConfig2d::Same).init(device)
        };
        Self {
            first: convolution([1, 8]),
            second: convolution([8, 16]),
            pool: AdaptiveAvgPool2dConfig::new([4, 4]).init(),
            last: LinearConfig::new(16 * 4 * 4, CLASSES).init(device),
            relu: Relu::new(),
            criterion: CrossEntropyConfig::new(Config::new().label_smoothing(0.1)).init(),
        }
    }

    fn logits(&self, images: Tensor<3>) -> Tensor<2> {
        let x = self.relu.forward(self.first.forward(images.unsqueeze_dim(1)));
        let x = self.relu.forward(self.second.forward(x));
        self.last.forward(self.pool.forward(x).flatten(1, 3))
    }

    fn evaluate(&self, batch: Batch) -> Evaluated {
        let logits = self.logits(batch.images);
        let output = self
            .criterion
            .on(logits.clone(), batch.labels.clone())
            .forward_with_output()
            .expect("labels are classes: the files were checked");
        Evaluated { loss: output.loss, nll: output.nll, logits, labels: batch.labels }
    }
}

impl TrainStep for Network {
    type Input = Batch;
    type Output = Evaluated;

    fn step(&self, batch: Batch) -> TrainOutput<Evaluated> {
        let item = self.evaluate(batch);
        TrainOutput::new(self, item.loss.backward(), item)
    }
}

impl InferenceStep for Network {
    type Input = Batch;
    type Output = Evaluated;

    fn step(&self, batch: Batch) -> Evaluated {
        self.evaluate(batch)
    }
}

/// What a step gives to the metrics.
struct Evaluated {
    loss: Tensor<1>,
    nll: Tensor<1>,
    logits: Tensor<2>,
    labels: Tensor<1, Int>,
}

impl ItemLazy for Evaluated {
    fn sync(self) -> Result<Self, ExecutionError> {
        let Self { loss, nll, logits, labels } = self;
        Ok(Self {
            loss: loss.without_autodiff(),
            nll: nll.without_autodiff(),
            logits: logits.without_autodiff(),
            labels: labels.without_autodiff(),
        })
    }
}

impl Adaptor<AccuracyInput> for Evaluated {
    fn adapt(&self) -> AccuracyInput {
        AccuracyInput::new(self.logits.clone(), self.labels.clone())
    }
}

impl Adaptor<LossInput> for Evaluated {
    fn adapt(&self) -> LossInput {
        LossInput::new(self.loss.clone())
    }
}

impl Adaptor<NllInput> for Evaluated {
    fn adapt(&self) -> NllInput {
        NllInput { nll: self.nll.clone(), rows: self.labels.dims()[0] }
    }
}

struct NllInput {
    nll: Tensor<1>,
    rows: usize,
}

/// The NLL that comes with the loss, from the same pass over the logits.
#[derive(Clone)]
struct NllMetric {
    name: MetricName,
    state: NumericMetricState,
}

impl NllMetric {
    fn new() -> Self {
        Self { name: Arc::new("NLL".into()), state: NumericMetricState::default() }
    }

    fn format(&self) -> FormatOptions {
        FormatOptions::new(self.name()).precision(3)
    }
}

impl Metric for NllMetric {
    type Input = NllInput;

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn update(
        &mut self,
        input: &NllInput,
        _: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        self.state.update(input.nll.clone().try_into_scalar()?, input.rows);
        Ok(self.state.compute_update(self.format()))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.state.compute_final(self.format()))
    }

    fn clear(&mut self) {
        self.state.reset();
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes { unit: None, higher_is_better: false }.into()
    }
}

impl Numeric for NllMetric {
    fn value(&self) -> Option<NumericEntry> {
        Some(self.state.current_value())
    }

    fn running_value(&self) -> Option<NumericEntry> {
        Some(self.state.running_value())
    }

    fn final_value(&self) -> NumericEntry {
        self.state.final_value()
    }
}

#[derive(Clone, Debug)]
struct Image {
    pixels: Vec<f32>,
    height: usize,
    width: usize,
    label: u8,
}

#[derive(Clone, Debug)]
struct Batch {
    images: Tensor<3>,
    labels: Tensor<1, Int>,
}

struct ToTensors;

impl Batcher<Image, Batch> for ToTensors {
    fn batch(&self, items: Vec<Image>, device: &Device) -> Batch {
        let (height, width) = items.first().map_or((0, 0), |image| (image.height, image.width));
        let labels: Vec<i64> = items.iter().map(|image| i64::from(image.label)).collect();
        let pixels: Vec<f32> =
            items.iter().flat_map(|image| image.pixels.iter().copied()).collect();
        Batch {
            images: Tensor::from_data(
                TensorData::new(pixels, [labels.len(), height, width]),
                device,
            ),
            labels: Tensor::from_data(TensorData::new(labels.clone(), [labels.len()]), device),
        }
    }
}

/// The digits that the repository carries: 1,437 for training and 360 for validation.
fn digits() -> Outcome<(Vec<Image>, Vec<Image>)> {
    let images = decode(
        "the digits' images",
        include_bytes!("../../xent-cli/data/digits-images.idx3-ubyte.gz"),
    )?;
    let labels = decode(
        "the digits' labels",
        include_bytes!("../../xent-cli/data/digits-labels.idx1-ubyte.gz"),
    )?;
    let (valid, train): (Vec<_>, Vec<_>) =
        pair("the digits", images, labels)?.into_iter().enumerate().partition(|(i, _)| i % 5 == 0);
    let items = |split: Vec<(usize, Image)>| split.into_iter().map(|(_, image)| image).collect();
    Ok((items(train), items(valid)))
}

/// One split of a folder.
fn images(folder: &Path, split: &str) -> Outcome<Vec<Image>> {
    let read = |name: String| {
        let plain = folder.join(&name);
        let path = if plain.exists() { plain } else { folder.join(name + ".gz") };
        let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        decode(&path.display().to_string(), &bytes)
    };
    pair(
        split,
        read(format!("{split}-images-idx3-ubyte"))?,
        read(format!("{split}-labels-idx1-ubyte"))?,
    )
}

/// The lengths and the values of an IDX file of bytes: `00 00 08`, the number of axes, their
/// lengths as big-endian u32, the values in C order.
fn decode(name: &str, bytes: &[u8]) -> Outcome<(Vec<usize>, Vec<u8>)> {
    let mut plain = Vec::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        GzDecoder::new(bytes).read_to_end(&mut plain)?;
    } else {
        plain.extend(bytes);
    }
    let [0, 0, 8, axes, rest @ ..] = plain.as_slice() else {
        return Err(format!("{name}: expected an IDX file of bytes").into());
    };
    let (lengths, values) = rest
        .split_at_checked(4 * usize::from(*axes))
        .ok_or_else(|| format!("{name}: the header is cut short"))?;
    let lengths: Vec<usize> =
        lengths.as_chunks().0.iter().map(|&length| u32::from_be_bytes(length) as usize).collect();
    if lengths.iter().try_fold(1usize, |all, &length| all.checked_mul(length)) != Some(values.len())
    {
        return Err(format!("{name}: {} values, expected {lengths:?}", values.len()).into());
    }
    Ok((lengths, values.to_vec()))
}

fn pair(
    name: &str,
    (lengths, pixels): (Vec<usize>, Vec<u8>),
    (_, labels): (Vec<usize>, Vec<u8>),
) -> Outcome<Vec<Image>> {
    let [count, height, width] = lengths[..] else {
        return Err(format!(
            "{name}: images of {} axes, expected count, height and width",
            lengths.len()
        )
        .into());
    };
    if count != labels.len() || count == 0 || height * width == 0 {
        return Err(format!("{name}: {count} images of {height}×{width} and {} labels, expected as many of both and some pixels", labels.len()).into());
    }
    if let Some(label) = labels.iter().find(|&&label| usize::from(label) >= CLASSES) {
        return Err(format!("{name}: label {label}, expected less than {CLASSES}").into());
    }
    let brightest = f32::from(pixels.iter().copied().max().unwrap_or(0)).max(1.0);
    let image = |(pixels, &label): (&[u8], &u8)| Image {
        pixels: pixels.iter().map(|&pixel| f32::from(pixel) / brightest).collect(),
        height,
        width,
        label,
    };
    Ok(pixels.chunks_exact(height * width).zip(&labels).map(image).collect())
}
