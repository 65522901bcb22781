//! `xent`: train with and without label smoothing and see what it does.
#![forbid(unsafe_code)]

mod args;
mod bench;
mod data;
mod error;
mod eval;
mod files;
mod loss;
mod report;
mod seed;
mod spread;
mod sweep;
mod terminal;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Label-smoothed cross-entropy: train with and without it and see what it does.
///
/// Without a command, `xent` trains: `xent --seeds 2` is `xent train --seeds 2`.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    train: train::TrainOptions,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train small networks with several amounts of label smoothing and compare them.
    Train(train::TrainOptions),
    /// The label-smoothed cross-entropy, and its gradient, of arrays in .npy files.
    Loss(loss::LossOptions),
    /// What a model's logits say about it: accuracy, calibration, risk by coverage, temperature, logit gap.
    Eval(eval::EvalOptions),
    /// Train over a grid of amounts of smoothing, resumably, and say which differences are more than noise.
    Sweep(sweep::SweepOptions),
    /// How long the loss takes on this machine, for the shapes that you have.
    Bench(bench::BenchOptions),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Some(Command::Train(options)) => train::train(options),
        Some(Command::Loss(options)) => loss::loss(&options),
        Some(Command::Eval(options)) => eval::eval(&options),
        Some(Command::Sweep(options)) => sweep::sweep(&options),
        Some(Command::Bench(options)) => bench::bench(&options),
        None => train::train(cli.train),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            error.exit_code()
        }
    }
}
