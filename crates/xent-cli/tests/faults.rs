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

    /// All names in a folder.
    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.at(folder)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
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
fn two_sweeps_do_not_share_a_folder() {
    let folder = Folder::new();
    let sweep = ["sweep", "--seeds", "2", "--epsilon", "0", "--hidden", "4", "--quiet"];
    let long = [&sweep[..], &["--epochs", "1000000"]].concat();
    let mut first = folder.command(&long).spawn().unwrap();
    let claim = folder.at("xent-sweep/runs/.xent-claim");
    let started = Instant::now();
    while !claim.exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "the sweep has not begun");
        std::thread::sleep(Duration::from_millis(10));
    }
    refused(&folder.run(&long), "another xent sweep is at work there");
    end(&mut first, "-TERM");
    assert_eq!(folder.names("xent-sweep/runs"), [""; 0]);

    // A run that lost its power left an empty file; it is done again.
    let short = [&sweep[..], &["--epochs", "1"]].concat();
    succeeds(&folder.run(&short));
    let runs = folder.names("xent-sweep/runs");
    assert_eq!(runs.len(), 2);
    let run = folder.at("xent-sweep/runs").join(&runs[0]);
    let finished = fs::read(&run).unwrap();
    for lost in [Vec::new(), vec![0; finished.len()]] {
        fs::write(&run, lost).unwrap();
        succeeds(&folder.run(&short));
        assert_eq!(fs::read(&run).unwrap(), finished);
    }
}

/// Kills a writer at a moment: the file is the old one or the new one.
fn killed(folder: &Folder, arguments: &[&str], output: &str, signal: &str, after: Duration) {
    let old = fs::read(folder.at(output)).ok();
    let mut child =
        folder.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(after);
    end(&mut child, signal);
    let now = fs::read(folder.at(output)).ok();
    let length = |file: &Option<Vec<u8>>| file.as_ref().map(Vec::len);
    assert!(
        now == old
            || length(&now) == Some(fs::metadata(folder.at("whole")).unwrap().len() as usize),
        "{output} is neither old nor new"
    );
}

fn left(folder: &Folder) -> Vec<String> {
    folder.names(".").into_iter().filter(|name| name.starts_with(".xent-")).collect()
}

#[test]
fn killed_writers_leave_nothing_half_written() {
    let folder = Folder::new();
    folder.arrays(4000, 1000);
    let loss = ["loss", "--logits", "a.npy", "--targets", "y.npy", "--grad"];
    succeeds(&folder.run(&[&loss[..], &["whole"]].concat()));
    let grad = [&loss[..], &["grad.npy"]].concat();
    for moment in 0..12 {
        let signal = ["-INT", "-TERM"][moment % 2];
        killed(&folder, &grad, "grad.npy", signal, Duration::from_millis(7 * moment as u64));
        assert_eq!(left(&folder), [""; 0], "after {signal}");
    }
    // What KILL leaves, the next run removes; a writer that lives keeps its file.
    for moment in 0..6 {
        killed(&folder, &grad, "grad.npy", "-KILL", Duration::from_millis(10 * moment));
    }
    folder.write(".xent-left", "");
    succeeds(&folder.run(&grad));
    assert_eq!(left(&folder), [""; 0]);
    assert_eq!(fs::read(folder.at("grad.npy")).unwrap(), fs::read(folder.at("whole")).unwrap());
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
