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
        refused(&["--seeds=3", "--lr=0.01"]).contains("a run with other settings, data or version")
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
