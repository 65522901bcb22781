//! `xent sweep` as its users start it, and kill it.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn sweep(folder: &Path, out: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xent"));
    command
        .args([
            "sweep",
            "--epochs=4",
            "--hidden=32",
            "--epsilon=0,0.1",
            "--prior=uniform,others",
            "--out",
            out,
        ])
        .args(more)
        .current_dir(folder);
    command
}

fn succeeded(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn runs(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, |entries| {
        entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().ends_with(".json"))
            .count()
    })
}

#[test]
fn killed_and_resumed_it_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    succeeded(sweep(at, "whole", &["--seeds=12", "--quiet"]).output().unwrap());
    let finished = at.join("killed/runs");
    let mut child = sweep(at, "killed", &["--seeds=12", "--quiet", "--threads=1"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while runs(&finished) < 2 && started.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let before = runs(&finished);
    assert!((2..36).contains(&before), "{before} runs when it was killed");
    assert!(!at.join("killed/report.json").exists());
    let stamp = |folder: &str| {
        std::fs::metadata(at.join(folder).join("runs/uniform-epsilon-0-seed-0.json"))
            .unwrap()
            .modified()
            .unwrap()
    };
    let (first, leftover) = (stamp("killed"), finished.join(".xent-leftover"));
    std::fs::write(&leftover, "{\"key\":").unwrap();
    let printed = succeeded(sweep(at, "killed", &["--seeds=12"]).output().unwrap());
    assert!(printed.contains(&format!("{before} of 36 runs were there already")), "{printed}");
    assert!(printed.lines().all(|line| line.chars().count() <= 80), "{printed}");
    assert!(printed.contains("\n• Accuracy against ε\u{a0}=\u{a0}0: "), "{printed}");
    let html = std::fs::read_to_string(at.join("killed/report.html")).unwrap();
    for plot in ["Accuracy", "NLL after temperature scaling", "ECE, raw", "AURC"] {
        assert!(html.contains(&format!("<figcaption>{plot} <small>")), "{plot}");
    }
    assert_eq!(stamp("killed"), first, "a finished run is not done again");
    assert!(!leftover.exists());
    for file in ["report.json", "report.html"] {
        assert!(
            std::fs::read(at.join("killed").join(file)).unwrap()
                == std::fs::read(at.join("whole").join(file)).unwrap(),
            "{file}"
        );
    }
}

#[test]
fn more_seeds_add_and_other_settings_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    succeeded(sweep(at, "out", &["--seeds=2", "--quiet"]).output().unwrap());
    assert!(
        succeeded(sweep(at, "out", &["--seeds=3"]).output().unwrap())
            .contains("6 of 9 runs were there already")
    );
    let refused = |more: &[&str]| {
        let output = sweep(at, "out", more).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(
        refused(&["--seeds=3", "--lr=0.01"])
            .contains("a run with other settings, data or version: lr is 0.001 there, 0.01 here;")
    );
    std::fs::write(at.join("out/runs/uniform-epsilon-0-seed-0.json"), "{}").unwrap();
    assert!(refused(&["--seeds=3"]).contains("not written by xent sweep"));
    let twice = Command::new(env!("CARGO_BIN_EXE_xent"))
        .args(["sweep", "--epsilon=0.1,0.1"])
        .current_dir(at)
        .output()
        .unwrap();
    assert!(String::from_utf8(twice.stderr).unwrap().contains("--epsilon names 0.1 twice"));
}

/// Both files of a sweep's report.
fn reports(at: &Path, out: &str) -> [Vec<u8>; 2] {
    ["report.json", "report.html"].map(|file| std::fs::read(at.join(out).join(file)).unwrap())
}

/// The number before some words of what a sweep printed; 0 if it did not say them.
fn said(printed: &str, words: &str) -> usize {
    let before = printed.split(words).next().filter(|before| before.len() < printed.len());
    before.map_or(0, |before| before.rsplit('\n').next().unwrap().parse().unwrap())
}

#[test]
fn processes_that_start_at_once_do_each_run_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    succeeded(sweep(at, "alone", &["--seeds=12", "--quiet"]).output().unwrap());
    let start = |_| {
        let mut process = sweep(at, "shared", &["--seeds=12", "--threads=1"]);
        process.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let processes: Vec<_> = (0..3).map(start).collect();
    let printed =
        processes.into_iter().map(|process| succeeded(process.wait_with_output().unwrap()));
    let trained = printed.map(|printed| {
        36 - said(&printed, " of 36 runs were there already")
            - said(&printed, " of 36 runs were done meanwhile")
    });
    assert_eq!(trained.sum::<usize>(), 36);
    assert_eq!(reports(at, "shared"), reports(at, "alone"));
    assert_eq!(runs(&at.join("shared/runs")), 36);
    assert_eq!(std::fs::read_dir(at.join("shared/runs")).unwrap().count(), 36);
    assert_eq!(std::fs::read_dir(at.join("shared")).unwrap().count(), 3);
}

/// A process that does not outlive a test that fails.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One of three processes is stopped while it trains, so that the others do all but its run and
/// wait; then it is killed or interrupted.
#[cfg(unix)]
#[test]
fn the_run_of_a_process_that_dies_is_taken_over() {
    use std::io::{BufRead, BufReader};

    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    succeeded(sweep(at, "alone", &["--seeds=2", "--quiet"]).output().unwrap());
    for signal in ["-KILL", "-INT"] {
        let out = format!("shared{signal}");
        let start = || {
            let mut process = sweep(at, &out, &["--seeds=2", "--threads=1"]);
            process.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let mut dies = Ended(start());
        let id = dies.0.id().to_string();
        let kill = |signal: &str| {
            assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        };
        let is_claim = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.unwrap().file_name().to_string_lossy().starts_with(".xent-run-")
        };
        let claims = || {
            std::fs::read_dir(at.join(&out).join("runs"))
                .map_or(0, |entries| entries.map(is_claim).filter(|is| *is).count())
        };
        // Stopped again and again until that is within a run.
        let started = Instant::now();
        loop {
            assert!(started.elapsed() < Duration::from_secs(60), "it never trains");
            kill("-STOP");
            std::thread::sleep(Duration::from_millis(1));
            if claims() > 0 {
                break;
            }
            kill("-CONT");
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut others = [start(), start()].map(Ended);
        for other in &mut others {
            let mut line = String::new();
            BufReader::new(other.0.stderr.take().unwrap()).read_line(&mut line).unwrap();
            // The first of them that has nothing left waits for the other, too.
            let left =
                ["1", "2"].map(|n| format!("waiting for other processes: {n} of 6 runs left\n"));
            assert!(left.contains(&line), "{line:?}");
        }
        assert!(!at.join(&out).join("report.json").exists());
        kill(signal);
        kill("-CONT");
        assert!(!dies.0.wait().unwrap().success());
        assert!(others.iter_mut().all(|other| other.0.wait().unwrap().success()), "{signal}");
        assert_eq!(reports(at, &out), reports(at, "alone"), "{signal}");
        assert_eq!(std::fs::read_dir(at.join(&out).join("runs")).unwrap().count(), 6, "{signal}");
    }
}
