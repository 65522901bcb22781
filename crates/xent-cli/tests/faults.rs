//! What must not happen whatever fails: a file that is read is lost, an output is half there,
//! something stays behind, the program dies of a limit.
//!
//! Limits are set by the shell (`ulimit`), and none of the tests needs to be root or not to be.
#![cfg(unix)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const XENT: &str = env!("CARGO_BIN_EXE_xent");
const LOGITS: &str = "a,b,c,label\n1.5,2.0,3.0,2\n3.0,1.0,2.0,0\n0.0,1.0,0.0,1\n2.0,2.5,1.0,0\n";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.at(name), contents).unwrap();
        self.at(name)
    }

    /// `a.npy`, float32 zeros, and `y.npy`, class 0.
    fn arrays(&self, rows: usize, classes: usize) {
        self.write("a.npy", npy("<f4", &format!("({rows}, {classes})"), rows * classes * 4));
        self.write("y.npy", npy("<i8", &format!("({rows},)"), rows * 8));
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(XENT);
        command.args(arguments).current_dir(self.0.path());
        command
    }

    /// Under limits of the shell.
    fn limited(&self, limit: &str, arguments: &[&str]) -> Output {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{limit} && exec \"$0\" \"$@\""), XENT]).args(arguments);
        shell.current_dir(self.0.path()).output().unwrap()
    }
}

fn npy(dtype: &str, shape: &str, bytes: usize) -> Vec<u8> {
    let header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}");
    let header = format!("{header:<117}\n");
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.resize(file.len() + bytes, 0);
    file
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn refused(output: &Output, says: &str) {
    assert_eq!(output.status.code(), Some(2), "{}", stderr(output));
    assert!(stderr(output).contains(says), "{}", stderr(output));
    assert_eq!(stderr(output).lines().count(), 1, "{}", stderr(output));
}

#[track_caller]
fn succeeds(output: &Output) {
    assert!(output.status.success(), "{:?} {}", output.status, stderr(output));
}

fn end(child: &mut Child, signal: &str) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    child.wait().unwrap();
}

#[test]
fn no_output_replaces_an_input() {
    let folder = Folder::new();
    folder.arrays(4, 3);
    let table = folder.write("table.csv", LOGITS);
    succeeds(&folder.run(&["eval", "--logits", "a.npy", "--targets", "y.npy", "--out", "d"]));
    succeeds(&folder.run(&[
        "eval",
        "--logits",
        "table.csv",
        "--targets",
        "table.csv:label",
        "--partial",
        "part.json",
    ]));
    fs::create_dir(folder.at("linked")).unwrap();
    fs::hard_link(&table, folder.at("linked/report.json")).unwrap();
    fs::create_dir(folder.at("merged")).unwrap();
    fs::copy(folder.at("part.json"), folder.at("merged/report.json")).unwrap();
    let names = ["a.npy", "y.npy", "table.csv", "part.json", "merged/report.json"];
    let before: Vec<_> = names.iter().map(|name| fs::read(folder.at(name)).unwrap()).collect();
    let arrays = ["eval", "--logits", "a.npy", "--targets", "y.npy"];
    let with = |more: &[&'static str]| [&arrays[..], more].concat();
    for arguments in [
        with(&["--partial", "a.npy"]),
        with(&["--partial", "./y.npy"]),
        with(&["--per-class", "a.npy"]),
        vec!["eval", "--merge", "merged/report.json", "--out", "merged"],
        vec!["eval", "--merge", "part.json", "--per-class", "part.json"],
        vec!["eval", "--logits", "table.csv", "--targets", "table.csv:label", "--out", "linked"],
        vec!["loss", "--logits", "a.npy", "--targets", "y.npy", "--grad", "y.npy"],
        vec!["train", "--data", "table.csv", "--out", "linked"],
        vec!["sweep", "--data", "table.csv", "--out", "linked"],
    ] {
        refused(&folder.run(&arguments), "it would replace a file that is read");
        for (name, before) in names.iter().zip(&before) {
            assert_eq!(&fs::read(folder.at(name)).unwrap(), before, "{arguments:?}: {name}");
        }
    }
    refused(
        &folder.run(&with(&["--out", "d", "--per-class", "d/report.json"])),
        "it is written already",
    );
}

#[test]
fn what_cannot_be_written_is_found_before_the_work() {
    let folder = Folder::new();
    folder.arrays(4, 3);
    folder.write("file", "");
    // Training for so long would not end.
    let train = ["train", "--epochs", "1000000", "--out"];
    let sweep = ["sweep", "--epochs", "1000000", "--out"];
    for command in [train, sweep] {
        for (out, says) in [
            ("file", "it is a file, expected a folder"),
            ("file/below", "cannot make the folder"),
            ("/proc", "cannot write into the folder"),
        ] {
            refused(&folder.run(&[&command[..], &[out]].concat()), says);
        }
    }
    fs::create_dir_all(folder.at("taken/report.html")).unwrap();
    refused(&folder.run(&[&train[..], &["taken"]].concat()), "it is a folder, pipe or device");
    fs::create_dir(folder.at("full")).unwrap();
    folder.write("full/weights", "");
    refused(&folder.run(&[&train[..], &["full", "--save"]].concat()), "expected a folder");
    // Labels that are missing would be found later.
    let eval = ["eval", "--logits", "a.npy", "--targets", "missing.npy"];
    for (option, path) in [("--partial", "no/a.json"), ("--per-class", "no/a.csv")] {
        refused(&folder.run(&[&eval[..], &[option, path]].concat()), "is not a folder");
    }
    let loss = ["loss", "--logits", "a.npy", "--targets", "missing.npy", "--grad"];
    for path in ["/dev/null", "taken", "no/g.npy"] {
        refused(&folder.run(&[&loss[..], &[path]].concat()), path);
    }
}

#[test]
fn sweeps_with_other_options_do_not_share_a_folder() {
    let folder = Folder::new();
    let sweep = ["sweep", "--seeds", "2", "--epsilon", "0", "--hidden", "4", "--quiet"];
    let long = [&sweep[..], &["--epochs", "1000000"]].concat();
    let mut first = folder.command(&long).spawn().unwrap();
    let at_work = folder.at("xent-sweep/runs/.xent-run-uniform-epsilon-0-seed-0");
    let started = Instant::now();
    while !at_work.exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "the sweep has not begun");
        std::thread::sleep(Duration::from_millis(10));
    }
    for (option, value, differs) in [
        ("--epochs", "9", "epochs is 1000000 there, 9 here"),
        ("--seeds", "3", "seeds is 2 there, 3 here"),
        ("--epsilon", "0,0.1", "epsilon is [0.0] there, [0.0,0.1] here"),
        ("--data", "mixture", "data is \"digits\" there, \"mixture\" here"),
    ] {
        let mut other = long.clone();
        match other.iter().position(|word| *word == option) {
            Some(index) => other[index + 1] = value,
            None => other.extend([option, value]),
        }
        let output = folder.run(&other);
        refused(&output, "another xent sweep is at work there with other options");
        refused(&output, differs);
    }
    end(&mut first, "-TERM");
    let runs = folder.at("xent-sweep/runs");
    assert_eq!(files(&runs), [""; 0].map(PathBuf::from));

    // A run that lost its power left an empty file; it is done again.
    let short = [&sweep[..], &["--epochs", "1"]].concat();
    succeeds(&folder.run(&short));
    let runs = files(&runs);
    assert_eq!(runs.len(), 2);
    let run = &runs[0];
    let finished = fs::read(run).unwrap();
    for lost in [Vec::new(), vec![0; finished.len()]] {
        fs::write(run, lost).unwrap();
        succeeds(&folder.run(&short));
        assert_eq!(fs::read(run).unwrap(), finished);
    }
}

/// Whether a file that the program wrote is there to its end.
fn is_whole(path: &Path) -> bool {
    let file = fs::read(path).unwrap();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => serde_json::from_slice::<serde_json::Value>(&file).is_ok(),
        Some("html") => file.ends_with(b"</html>"),
        Some("csv") => file.iter().filter(|byte| **byte == b'\n').count() == 4,
        Some("npy") => file.len() == 16_000_128,
        Some("safetensors") => {
            let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
            let header: serde_json::Value = serde_json::from_slice(&file[8..8 + header]).unwrap();
            let ends = header.as_object().unwrap().values();
            let ends = ends.filter_map(|tensor| tensor["data_offsets"][1].as_u64());
            file.len() as u64
                == 8 + header.to_string().len().next_multiple_of(8) as u64 + ends.max().unwrap()
        }
        _ => panic!("{path:?}"),
    }
}

/// All files in a folder and those below it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn is_left(path: &Path) -> bool {
    path.file_name().unwrap().to_str().unwrap().starts_with(".xent-")
}

/// The number of kills per command is that of `XENT_KILLS`, 10 by default.
#[test]
fn killed_writers_leave_nothing_half_written() {
    let folder = Folder::new();
    folder.arrays(4000, 1000);
    folder.write("table.csv", LOGITS);
    let commands = [
        "loss --logits a.npy --targets y.npy --grad out/grad.npy",
        "eval --logits a.npy --targets y.npy --partial out/part.json",
        "eval --logits table.csv --targets table.csv:label --out out --per-class out/classes.csv",
        "train --epsilon 0,0.1 --seeds 4 --epochs 1 --hidden 64 --save --out out",
        "sweep --epsilon 0,0.1 --seeds 4 --epochs 1 --hidden 4 --out out",
    ];
    let kills = std::env::var("XENT_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    for command in commands {
        let arguments: Vec<&str> = command.split(' ').collect();
        let out = folder.at("out");
        let _ = fs::remove_dir_all(&out);
        fs::create_dir(&out).unwrap();
        let started = Instant::now();
        succeeds(&folder.run(&arguments));
        let takes = started.elapsed();
        let expected = files(&out).len();
        for kill in 0..kills {
            let signal = ["-INT", "-TERM", "-KILL"][kill % 3];
            let mut child = folder
                .command(&arguments)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            // Spread over the time that it takes.
            std::thread::sleep(takes.mul_f64(((kill as f64 * 0.618) % 1.0) * 1.1));
            end(&mut child, signal);
            for file in files(&out) {
                let left = is_left(&file);
                assert!(!left || signal == "-KILL", "{command}: {file:?} after {signal}");
                assert!(left || is_whole(&file), "{command}: {file:?} after {signal}");
            }
            if signal == "-KILL" {
                succeeds(&folder.run(&arguments));
                assert_eq!(files(&out).len(), expected, "{command}: {:?}", files(&out));
            }
        }
    }
}

/// Every pair of commands in one folder.
#[test]
fn commands_share_a_folder() {
    let folder = Folder::new();
    folder.arrays(4000, 1000);
    folder.write("table.csv", LOGITS);
    let commands = [
        "loss --logits a.npy --targets y.npy --grad out/grad.npy",
        "eval --logits a.npy --targets y.npy --partial out/part.json",
        "eval --logits table.csv --targets table.csv:label --out out",
        "train --epsilon 0,0.1 --seeds 1 --epochs 1 --hidden 4 --save --out out",
        "sweep --epsilon 0,0.1 --seeds 1 --epochs 1 --hidden 4 --out out",
    ];
    fs::create_dir(folder.at("out")).unwrap();
    for first in commands {
        for second in commands {
            let start = |command: &str| {
                let mut command = folder.command(&command.split(' ').collect::<Vec<_>>());
                command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
            };
            for child in [start(first), start(second)] {
                succeeds(&child.wait_with_output().unwrap());
            }
            for file in files(&folder.at("out")) {
                assert!(!is_left(&file) && is_whole(&file), "{first}, {second}: {file:?}");
            }
        }
    }
}

#[test]
fn threads_that_cannot_be_had_are_done_without() {
    let folder = Folder::new();
    folder.arrays(3000, 100);
    folder.write("table.csv", LOGITS.to_string() + &"1.5,2.0,3.0,2\n0.0,3.5,1.0,1\n".repeat(40));
    // Of 4 GB of addresses, stacks of 1 GB leave room for three threads, and stacks of 8 GB for none.
    let limit = |stack: usize| {
        format!("ulimit -v 4194304 && export RAYON_NUM_THREADS=1000 RUST_MIN_STACK={}", stack << 30)
    };
    let eval = ["eval", "--logits", "a.npy", "--targets", "y.npy", "--quiet", "--threads", "1000"];
    let loss = ["loss", "--logits", "a.npy", "--targets", "y.npy"];
    let train = [
        "train",
        "--data",
        "table.csv",
        "--epochs",
        "1",
        "--seeds",
        "300",
        "--quiet",
        "--threads",
        "1000",
    ];
    for arguments in [&eval[..], &loss, &train] {
        for stack in [1, 8] {
            succeeds(&folder.limited(&limit(stack), arguments));
        }
    }
    // Numbers that are a mistake are taken for one.
    for command in [
        ["eval", "--logits", "a.npy"],
        ["train", "--data", "digits"],
        ["sweep", "--data", "digits"],
    ] {
        let output = folder.run(&[&command[..], &["--threads", "100000"]].concat());
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("from 1 to 1024"), "{}", stderr(&output));
    }
    let many = folder.limited("export RAYON_NUM_THREADS=100000", &loss);
    succeeds(&many);
}

#[test]
fn a_gradient_needs_no_second_copy() {
    let folder = Folder::new();
    folder.arrays(20_000, 1000); // 80 MB
    let grad = ["loss", "--logits", "a.npy", "--targets", "y.npy", "--grad", "g.npy"];
    succeeds(&folder.limited("ulimit -d 140000", &grad));
    let short = folder.limited("ulimit -d 60000", &grad);
    assert!(!short.status.success(), "the limit limits nothing");
    assert_eq!(fs::metadata(folder.at("g.npy")).unwrap().len(), 80_000_128);
}

/// What a header claims costs a file nothing.
#[test]
fn classes_without_memory_are_an_error() {
    let folder = Folder::new();
    folder.write("y.npy", npy("<i8", "(2,)", 16));
    let sparse = |classes: u64| {
        let path = folder.write("a.npy", npy("<f4", &format!("(2, {classes})"), 0));
        File::options().write(true).open(path).unwrap().set_len(128 + 8 * classes).unwrap();
    };
    let eval = ["eval", "--logits", "a.npy", "--targets", "y.npy"];
    let loss = ["loss", "--logits", "a.npy", "--targets", "y.npy"];
    sparse(1 << 36);
    refused(&folder.run(&eval), "68719476736 classes, expected at least 2 and at most 16777216");
    refused(
        &folder.limited("ulimit -v 3145728", &loss),
        "not enough memory for 549755813888 bytes",
    );
    sparse(16_000_000);
    refused(&folder.limited("ulimit -v 3145728", &eval), "not enough memory for 16000000 classes");
}

#[test]
fn names_of_files_do_not_reach_the_terminal_as_commands() {
    let folder = Folder::new();
    let name = "evil\u{1b}[31m\u{9b}2J\r.csv";
    let obeyed =
        |bytes: &[u8]| String::from_utf8_lossy(bytes).chars().any(|c| c.is_control() && c != '\n');
    let missing = folder.run(&["eval", "--logits", name, "--targets", name]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("evil\\u001b[31m"), "{}", stderr(&missing));
    folder.write(name, LOGITS);
    let eval = ["eval", "--logits", name, "--targets", &format!("{name}:label")];
    let reports = [&[][..], &["--json"], &["--out", "evil\u{1b}[0m"]]
        .map(|more| folder.run(&[&eval, more].concat()));
    for output in reports.iter().inspect(|output| succeeds(output)).chain([&missing]) {
        assert!(!obeyed(&output.stdout) && !obeyed(&output.stderr), "{}", stderr(output));
    }
    let json: serde_json::Value = serde_json::from_slice(&reports[1].stdout).unwrap();
    assert!(json.to_string().contains("evil"), "{json}");
}

fn full() -> Stdio {
    File::options().write(true).open(Path::new("/dev/full")).unwrap().into()
}

#[test]
fn a_full_device_is_a_failure() {
    let folder = Folder::new();
    folder.write("table.csv", LOGITS);
    let eval = ["eval", "--logits", "table.csv", "--targets", "table.csv:label"];
    let wrong = ["eval", "--nonsense"];
    let missing = ["eval", "--logits", "missing.npy", "--targets", "missing.npy"];
    let code = |arguments: &[&str], stdout: Stdio, stderr: Stdio| {
        folder.command(arguments).stdout(stdout).stderr(stderr).status().unwrap().code()
    };
    let help: [&[&str]; 6] = [
        &["--help"],
        &["--version"],
        &["eval", "--help"],
        &["man"],
        &["completions", "bash"],
        &eval,
    ];
    for arguments in help {
        assert_eq!(code(arguments, full(), Stdio::null()), Some(1), "{arguments:?}");
    }
    for arguments in [&wrong[..], &missing] {
        assert_eq!(code(arguments, Stdio::null(), full()), Some(2), "{arguments:?}");
    }
    assert_eq!(code(&eval, Stdio::null(), full()), Some(0));
}
