//! The options of `xent train` and what makes them valid.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use xent::{Config, Criterion};
use xent_metrics::UniformPrior;

use crate::data::Source;
use crate::error::{Error, Result};

/// Most seeds, epochs, rows in a batch or units in a layer: what is beyond is a slip of the finger.
const MOST: u64 = 1_000_000;

/// What networks are trained on.
#[derive(Debug, Clone, Args)]
pub struct DataOptions {
    /// What to train on: digits, mixture, a CSV file, or a folder with IDX files as MNIST has them (plain or .gz)
    #[arg(long, value_name = "DATA", default_value = "digits")]
    pub data: Source,
    /// Column of the CSV file with the class: its name, or its position counted from 1 [default: the last]
    #[arg(long, value_name = "COLUMN")]
    pub label: Option<String>,
    /// Share of the training labels that are given a wrong class, from 0 to 1
    #[arg(long, value_name = "P", default_value = "0", value_parser = share, allow_negative_numbers = true)]
    pub label_noise: f64,
}

/// A network and how it is trained.
#[derive(Debug, Clone, Args)]
pub struct NetworkOptions {
    /// Width of each hidden layer
    #[arg(long, value_name = "LIST", default_value = "128", value_delimiter = ',', value_parser = count, allow_negative_numbers = true)]
    pub hidden: Vec<usize>,
    /// Passes over the training part
    #[arg(long, value_name = "N", default_value = "100", value_parser = count, allow_negative_numbers = true)]
    pub epochs: usize,
    /// Rows a step
    #[arg(long, value_name = "N", default_value = "64", value_parser = count, allow_negative_numbers = true)]
    pub batch_size: usize,
    /// Learning rate of Adam
    #[arg(long, value_name = "RATE", default_value = "0.001", value_parser = positive, allow_negative_numbers = true)]
    pub lr: f64,
}

/// Options of `xent train`.
#[derive(Debug, Clone, Args)]
pub struct TrainOptions {
    #[command(flatten)]
    pub data: DataOptions,
    /// Amounts of label smoothing to compare, each from 0 to 1
    #[arg(long, value_name = "LIST", default_value = "0,0.05,0.1,0.2", value_delimiter = ',', value_parser = share, allow_negative_numbers = true, alias = "label-smoothing")]
    pub epsilon: Vec<f64>,
    /// Where smoothing puts its mass: on all classes alike, or on the others than the true one
    #[arg(long, value_name = "PRIOR", default_value = "uniform")]
    pub prior: PriorName,
    #[command(flatten)]
    pub network: NetworkOptions,
    /// Repetitions of each, with seeds 0, 1, 2, …: other split, other initial weights, other order of the rows
    #[arg(long, value_name = "N", default_value = "8", value_parser = count, allow_negative_numbers = true)]
    pub seeds: usize,
    /// Threads to train on; the numbers do not depend on it [default: one a core]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// Folder for report.html and report.json
    #[arg(long, value_name = "DIR", default_value = "xent-out")]
    pub out: PathBuf,
    /// Save the trained weights, too, as safetensors
    #[arg(long)]
    pub save: bool,
    /// Print nothing but errors
    #[arg(long)]
    pub quiet: bool,
}

/// Where smoothing puts its mass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PriorName {
    /// ε/K on every class, the true one too
    Uniform,
    /// ε/(K−1) on every class but the true one
    Others,
}

impl From<PriorName> for UniformPrior {
    fn from(name: PriorName) -> Self {
        match name {
            PriorName::Uniform => Self::Uniform,
            PriorName::Others => Self::Others,
        }
    }
}

/// What decides the numbers: everything but threads, places and talk.
#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    /// As given to `--data`.
    pub data: String,
    /// As given to `--label`.
    pub label: Option<String>,
    /// Share of wrong training labels.
    pub label_noise: f64,
    /// The amounts compared, in the order given.
    pub epsilon: Vec<f64>,
    /// Where smoothing puts its mass.
    pub prior: PriorName,
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// Passes over the training part.
    pub epochs: usize,
    /// Rows a step.
    pub batch_size: usize,
    /// Learning rate of Adam.
    pub lr: f64,
    /// Number of seeds, from 0 up.
    pub seeds: usize,
}

impl TrainOptions {
    /// The part that decides the numbers, checked.
    ///
    /// # Errors
    /// An ε given twice. What can be said of one option alone has been said when it was parsed.
    pub fn settings(&self) -> Result<Settings> {
        for (i, epsilon) in self.epsilon.iter().enumerate() {
            if self.epsilon[..i].contains(epsilon) {
                return Err(Error::input(format!("--epsilon names {epsilon} twice")));
            }
        }
        Ok(Settings {
            data: self.data.data.to_string(),
            label: self.data.label.clone(),
            label_noise: self.data.label_noise,
            epsilon: self.epsilon.clone(),
            prior: self.prior,
            hidden: self.network.hidden.clone(),
            epochs: self.network.epochs,
            batch_size: self.network.batch_size,
            lr: self.network.lr,
            seeds: self.seeds,
        })
    }
}

impl Settings {
    /// The loss with an amount of smoothing.
    pub fn loss(&self, epsilon: f64) -> Config {
        Config::new().label_smoothing(epsilon).prior(UniformPrior::from(self.prior).prior())
    }

    /// The same, checked and ready.
    pub fn criterion(&self, epsilon: f64) -> Result<Criterion> {
        self.loss(epsilon).build().map_err(Error::failed)
    }

    /// The command that gives the same numbers again.
    pub fn command(&self) -> String {
        let list = |values: &[String]| values.join(",");
        let mut words = vec!["xent train".to_string(), format!("--data {}", quoted(&self.data))];
        words.extend(self.label.as_ref().map(|label| format!("--label {}", quoted(label))));
        if self.label_noise > 0.0 {
            words.push(format!("--label-noise {}", self.label_noise));
        }
        words.push(format!("--epsilon {}", list(&self.epsilon.iter().map(f64::to_string).collect::<Vec<_>>())));
        words.push(format!("--prior {}", if self.prior == PriorName::Uniform { "uniform" } else { "others" }));
        words.push(format!("--hidden {}", list(&self.hidden.iter().map(usize::to_string).collect::<Vec<_>>())));
        words.push(format!("--epochs {} --batch-size {} --lr {} --seeds {}", self.epochs, self.batch_size, self.lr, self.seeds));
        words.join(" ")
    }
}

/// For a shell, where it needs it.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.to_string() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Parses an option's value.
pub fn share(text: &str) -> std::result::Result<f64, String> {
    match text.trim().parse::<f64>() {
        // −0 is 0 here, and would print as another number.
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value + 0.0),
        _ => Err("expected a number from 0 to 1".to_string()),
    }
}

/// Parses an option's value.
pub fn positive(text: &str) -> std::result::Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err("expected a finite number above 0".to_string()),
    }
}

/// Parses an option's value.
pub fn count(text: &str) -> std::result::Result<usize, String> {
    match text.trim().parse::<u64>() {
        Ok(value) if (1..=MOST).contains(&value) => Ok(value as usize),
        _ => Err(format!("expected a whole number from 1 to {MOST}")),
    }
}

#[cfg(test)]
pub mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        options: TrainOptions,
    }

    /// As the program does.
    pub fn parse(arguments: &[&str]) -> std::result::Result<TrainOptions, String> {
        Cli::try_parse_from([&["xent"], arguments].concat()).map(|cli| cli.options).map_err(|error| error.to_string())
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for epsilon in ["1.01", "-0.1", "nan", "inf", "0.1,2", "", "0.1,,0.2", "ten"] {
            let message = parse(&[&format!("--epsilon={epsilon}")]).unwrap_err();
            assert!(message.contains("--epsilon") && message.contains("expected a number from 0 to 1"), "{epsilon}: {message}");
        }
        for (option, value) in [("epochs", "0"), ("batch-size", "-1"), ("seeds", "0"), ("threads", "0"), ("hidden", "128,0"), ("epochs", "1000001")] {
            let message = parse(&[&format!("--{option}={value}")]).unwrap_err();
            assert!(message.contains(option) && message.contains("expected a whole number from 1 to 1000000"), "{message}");
        }
        for rate in ["0", "-1", "nan", "inf"] {
            assert!(parse(&[&format!("--lr={rate}")]).unwrap_err().contains("expected a finite number above 0"));
        }
        assert!(parse(&["--label-noise=1.5"]).is_err());
        assert!(parse(&["--prior=none"]).unwrap_err().contains("[possible values: uniform, others]"));
        assert!(parse(&["--data=nowhere.csv"]).unwrap_err().contains("expected digits, mixture, a CSV file or a folder with IDX files"));
        assert_eq!(parse(&["--epsilon=0,0.1,-0"]).unwrap().settings().unwrap_err().to_string(), "--epsilon names 0 twice");
    }

    #[test]
    fn the_command_gives_the_settings_again() {
        let options = parse(&["--epsilon=0.3,0", "--prior=others", "--hidden=32,16", "--lr=0.01", "--label-noise=0.2", "--seeds=2"]).unwrap();
        let settings = options.settings().unwrap();
        let command = settings.command();
        let words: Vec<&str> = command.split(' ').skip(2).collect();
        assert_eq!(format!("{:?}", parse(&words).unwrap().settings().unwrap()), format!("{settings:?}"));
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
