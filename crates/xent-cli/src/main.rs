//! `xent`: label-smoothed cross-entropy on the command line.
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
mod shell;
mod spread;
mod sweep;
mod terminal;
mod train;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Label-smoothed cross-entropy: train with and without smoothing and compare, evaluate logits,
/// compute the loss.
///
/// Without a command, `xent` trains: `xent --seeds 2` is `xent train --seeds 2`.
#[derive(Debug, Parser)]
#[command(name = "xent", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    train: train::TrainOptions,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train small networks with several amounts of label smoothing and compare them
    Train(train::TrainOptions),
    /// Compute the label-smoothed cross-entropy of arrays in .npy files, and its gradient
    Loss(loss::LossOptions),
    /// Evaluate a model from its logits: accuracy, calibration, risk by coverage, temperature,
    /// logit gap
    Eval(eval::EvalOptions),
    /// Train over a grid of amounts of smoothing, resumably, and test which differences are more
    /// than noise
    Sweep(sweep::SweepOptions),
    /// Measure how long the loss takes on this machine, for your shapes
    Bench(bench::BenchOptions),
    /// Print completions for a shell
    Completions(shell::CompletionsOptions),
    /// Print a manual page
    Man(shell::ManOptions),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Some(Command::Train(options)) => train::train(options),
        Some(Command::Loss(options)) => loss::loss(&options),
        Some(Command::Eval(options)) => eval::eval(&options),
        Some(Command::Sweep(options)) => sweep::sweep(&options),
        Some(Command::Bench(options)) => bench::bench(&options),
        Some(Command::Completions(options)) => shell::completions(&options, Cli::command()),
        Some(Command::Man(options)) => shell::man(&options, Cli::command()),
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
