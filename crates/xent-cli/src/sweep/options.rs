//! The options of `xent sweep`.

use std::path::PathBuf;

use clap::Args;

use crate::error::{Error, Result};
use crate::train::{DataOptions, NetworkOptions, PriorName, Settings, count, share};

/// Options of `xent sweep`.
#[derive(Debug, Clone, Args)]
pub struct SweepOptions {
    #[command(flatten)]
    pub data: DataOptions,
    /// Amounts of label smoothing, each from 0 to 1
    #[arg(long, value_name = "LIST", default_value = "0,0.02,0.05,0.1,0.2,0.3,0.4", value_delimiter = ',', value_parser = share, allow_negative_numbers = true, alias = "label-smoothing")]
    pub epsilon: Vec<f64>,
    /// Where smoothing puts its mass; with both, every ε is trained with each
    #[arg(long, value_name = "LIST", default_value = "uniform", value_delimiter = ',')]
    pub prior: Vec<PriorName>,
    #[command(flatten)]
    pub network: NetworkOptions,
    /// Repetitions of each, with seeds 0, 1, 2, …
    #[arg(long, value_name = "N", default_value = "8", value_parser = count, allow_negative_numbers = true)]
    pub seeds: usize,
    /// Runs at a time; the numbers do not depend on it [default: one a core]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// Folder for report.html, report.json and, in runs/, what has been finished: the same command goes on where it stopped, and one with more ε or seeds adds to it
    #[arg(long, value_name = "DIR", default_value = "xent-sweep")]
    pub out: PathBuf,
    /// Print nothing but errors
    #[arg(long)]
    pub quiet: bool,
}

impl SweepOptions {
    /// What is trained under a prior.
    pub fn settings(&self, prior: PriorName) -> Settings {
        Settings {
            data: self.data.data.to_string(),
            label: self.data.label.clone(),
            label_noise: self.data.label_noise,
            epsilon: self.epsilon.clone(),
            prior,
            hidden: self.network.hidden.clone(),
            epochs: self.network.epochs,
            batch_size: self.network.batch_size,
            lr: self.network.lr,
            seeds: self.seeds,
        }
    }

    /// Prior and ε of each column of the report. Without smoothing priors do not differ: ε = 0 comes once.
    ///
    /// # Errors
    /// A value that comes twice.
    pub fn arms(&self) -> Result<Vec<(PriorName, f64)>> {
        let twice = |what: &str, value: String| Err(Error::input(format!("{what} names {value} twice")));
        for (index, epsilon) in self.epsilon.iter().enumerate() {
            if self.epsilon[..index].contains(epsilon) {
                return twice("--epsilon", epsilon.to_string());
            }
        }
        for (index, prior) in self.prior.iter().enumerate() {
            if self.prior[..index].contains(prior) {
                return twice("--prior", format!("{prior:?}").to_lowercase());
            }
        }
        let all = self.prior.iter().flat_map(|prior| self.epsilon.iter().map(move |epsilon| (*prior, *epsilon)));
        Ok(all.filter(|(prior, epsilon)| *epsilon > 0.0 || *prior == self.prior[0]).collect())
    }

    /// The command that gives the same numbers again.
    pub fn command(&self) -> String {
        let settings = self.settings(self.prior[0]);
        let priors: Vec<&str> = self.prior.iter().map(|prior| if *prior == PriorName::Uniform { "uniform" } else { "others" }).collect();
        let train = settings.command().replacen("xent train", "xent sweep", 1);
        train.replacen(&format!("--prior {}", priors[0]), &format!("--prior {}", priors.join(",")), 1)
    }
}
