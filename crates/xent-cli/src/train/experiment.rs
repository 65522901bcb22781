//! What decides the numbers of training: all options except threads, folders and output.

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use serde::Serialize;
use xent::{Config, Criterion};
use xent_metrics::UniformPrior;

use crate::args::{count, once, positive, share, uniform_prior};
use crate::data::{Dataset, Source, TableOptions};
use crate::error::{Error, Result};

/// What networks are trained on.
#[derive(Debug, Clone, Args, Serialize)]
pub struct DataOptions {
    /// What to train on: digits, mixture, a CSV file, or a folder with IDX files like MNIST's
    /// (plain or .gz)
    #[arg(long, value_name = "DATA", default_value = "digits", value_parser = source())]
    pub data: Source,
    #[command(flatten)]
    #[serde(flatten)]
    pub table: TableOptions,
    /// Share of the training labels that are given a wrong class, from 0 to 1
    #[arg(long, value_name = "P", default_value = "0", value_parser = share, allow_negative_numbers = true)]
    pub label_noise: f64,
}

fn source() -> impl TypedValueParser<Value = Source> {
    OsStringValueParser::new().try_map(Source::try_from)
}

impl DataOptions {
    /// Reads or generates the data.
    pub fn load(&self) -> Result<Dataset> {
        self.data.load(&self.table)
    }
}

/// A network and how it is trained.
#[derive(Debug, Clone, Args, Serialize)]
pub struct NetworkOptions {
    /// Width of each hidden layer
    #[arg(long, value_name = "LIST", default_value = "128", value_delimiter = ',', value_parser = count, allow_negative_numbers = true)]
    pub hidden: Vec<usize>,
    /// Passes over the training part
    #[arg(long, value_name = "N", default_value = "100", value_parser = count, allow_negative_numbers = true)]
    pub epochs: usize,
    /// Rows per step
    #[arg(long, value_name = "N", default_value = "64", value_parser = count, allow_negative_numbers = true)]
    pub batch_size: usize,
    /// Learning rate of Adam
    #[arg(long, value_name = "RATE", default_value = "0.001", value_parser = positive, allow_negative_numbers = true)]
    pub lr: f64,
}

/// Networks that are trained with several amounts of smoothing and several seeds.
#[derive(Debug, Clone, Args, Serialize)]
pub struct Experiment {
    #[command(flatten)]
    #[serde(flatten)]
    pub data: DataOptions,
    /// Amounts of label smoothing to compare, each from 0 to 1
    #[arg(long, value_name = "LIST", default_value = "0,0.05,0.1,0.2", value_delimiter = ',', value_parser = share, allow_negative_numbers = true, alias = "label-smoothing")]
    pub epsilon: Vec<f64>,
    /// Where smoothing puts its mass: on all classes alike, or on all except the true one
    #[arg(long, value_name = "PRIOR", default_value = "uniform", value_parser = uniform_prior())]
    pub prior: UniformPrior,
    #[command(flatten)]
    #[serde(flatten)]
    pub network: NetworkOptions,
    /// Repetitions of each, with seeds 0, 1, 2, …: each seed splits the rows, draws the initial
    /// weights and orders the batches anew
    #[arg(long, value_name = "N", default_value = "8", value_parser = count, allow_negative_numbers = true)]
    pub seeds: usize,
}

impl Experiment {
    /// Checks what cannot be said of one option alone.
    ///
    /// # Errors
    /// An ε is given twice.
    pub fn check(&self) -> Result<()> {
        once("epsilon", &self.epsilon, f64::to_string)
    }

    /// The loss with an amount of smoothing.
    pub fn loss(&self, epsilon: f64) -> Config {
        Config::new().label_smoothing(epsilon).prior(self.prior.prior())
    }

    /// The same as a criterion.
    pub fn criterion(&self, epsilon: f64) -> Result<Criterion> {
        self.loss(epsilon).build().map_err(Error::failed)
    }

    /// The command that computes the same numbers again, with one prior or several.
    pub fn command(&self, subcommand: &str, priors: &[UniformPrior]) -> String {
        let DataOptions { data, table, label_noise } = &self.data;
        let NetworkOptions { hidden, epochs, batch_size, lr } = &self.network;
        let mut words = vec![format!("xent {subcommand} --data {}", quoted(&data.to_string()))];
        words.extend(table.given().map(|(option, value)| format!("--{option} {}", quoted(&value))));
        if *label_noise > 0.0 {
            words.push(format!("--label-noise {label_noise}"));
        }
        words.push(format!(
            "--epsilon {} --prior {}",
            list(&self.epsilon, f64::to_string),
            list(priors, |prior| prior.kind().to_string())
        ));
        words.push(format!(
            "--hidden {} --epochs {epochs} --batch-size {batch_size} --lr {lr} --seeds {}",
            list(hidden, usize::to_string),
            self.seeds
        ));
        words.join(" ")
    }
}

fn list<T>(values: &[T], name: impl Fn(&T) -> String) -> String {
    values.iter().map(name).collect::<Vec<_>>().join(",")
}

/// In quotation marks if a shell needs them.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_string()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        experiment: Experiment,
    }

    /// As the program does.
    fn parse(arguments: &[&str]) -> std::result::Result<Experiment, String> {
        Cli::try_parse_from([&["xent"], arguments].concat())
            .map(|cli| cli.experiment)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn numbers_out_of_range_are_rejected() {
        for epsilon in ["1.01", "-0.1", "nan", "inf", "0.1,2", "", "0.1,,0.2", "ten"] {
            let message = parse(&[&format!("--epsilon={epsilon}")]).unwrap_err();
            assert!(
                message.contains("--epsilon") && message.contains("expected a number from 0 to 1"),
                "{epsilon}: {message}"
            );
        }
        for (option, value) in [
            ("epochs", "0"),
            ("batch-size", "-1"),
            ("seeds", "0"),
            ("seeds", "1.5"),
            ("hidden", "128,0"),
            ("epochs", "1000001"),
        ] {
            let message = parse(&[&format!("--{option}={value}")]).unwrap_err();
            assert!(
                message.contains(option)
                    && message.contains("expected a whole number from 1 to 1000000"),
                "{message}"
            );
        }
        for rate in ["0", "-1", "nan", "inf"] {
            assert!(
                parse(&[&format!("--lr={rate}")])
                    .unwrap_err()
                    .contains("expected a finite number above 0")
            );
        }
        assert!(parse(&["--label-noise=1.5"]).is_err());
        assert!(
            parse(&["--prior=none"])
                .unwrap_err()
                .contains("[possible values: uniform, wrong_classes]")
        );
        assert!(
            parse(&["--data=nowhere.csv"])
                .unwrap_err()
                .contains("expected digits, mixture, a CSV file or a folder with IDX files")
        );
        assert_eq!(
            parse(&["--epsilon=0,0.1,-0"]).unwrap().check().unwrap_err().to_string(),
            "--epsilon names 0 twice"
        );
    }

    #[test]
    fn the_command_gives_the_experiment_again() {
        let experiment = parse(&[
            "--epsilon=0.3,0",
            "--prior=others",
            "--hidden=32,16",
            "--lr=0.01",
            "--columns=a,b",
            "--drop=c",
            "--label-noise=0.2",
            "--seeds=2",
        ])
        .unwrap();
        experiment.check().unwrap();
        let command = experiment.command("train", &[experiment.prior]);
        let words: Vec<&str> = command.split(' ').skip(2).collect();
        assert_eq!(format!("{:?}", parse(&words).unwrap()), format!("{experiment:?}"));
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
