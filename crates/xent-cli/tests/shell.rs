//! `xent completions` and `xent man` as their users start them.

use std::process::{Command, Output};

fn xent(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xent")).args(arguments).output().unwrap()
}

#[track_caller]
fn printed(arguments: &[&str]) -> String {
    let output = xent(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn completions_know_commands_and_options() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = printed(&["completions", shell]);
        for word in ["train", "eval", "sweep", "bench", "label", "temperature"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn pages_have_a_name_and_every_option() {
    let whole = printed(&["man"]);
    assert!(whole.contains(".TH xent 1") && whole.contains("xent\\-eval(1)"), "{whole}");
    for command in ["train", "loss", "eval", "sweep", "bench"] {
        let page = printed(&["man", command]);
        assert!(page.contains(&format!(".TH xent-{command} 1")), "{page}");
        let help = printed(&[command, "--help"]);
        let options = help.split_whitespace().filter(|word| word.starts_with("--"));
        for option in options.map(|word| word.trim_matches(|c: char| !c.is_ascii_alphanumeric())) {
            let name = option.split(['=', '[', ',']).next().unwrap();
            assert!(page.contains(&name.replace('-', "\\-")), "{command}: --{name}");
        }
    }
}

#[test]
fn unknown_names_are_errors_that_list_the_known_ones() {
    let output = xent(&["man", "evaluate"]);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("'evaluate'") && message.contains("train, loss, eval"), "{message}");
    assert_eq!(xent(&["completions", "tcsh"]).status.code(), Some(2));
}
