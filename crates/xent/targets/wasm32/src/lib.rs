//! The conformance suite as one WebAssembly module, for `run.mjs`: a module without an operating
//! system has no test harness.

mod batches;
#[path = "../../../tests/common/mod.rs"]
mod common;

use xent_spec::{Answer, CHECKS, Candidate, Case, Subject, run_check};

struct Cpu;

impl Subject for Cpu {
    const NAME: &'static str = "xent in WebAssembly";

    fn run(case: &Case) -> Result<Answer, String> {
        common::run(case, None)
    }
}

#[link(wasm_import_module = "host")]
unsafe extern "C" {
    /// Prints UTF-8.
    fn print(text: *const u8, bytes: usize);
}

fn say(text: &str) {
    // SAFETY: the host reads these bytes before it returns.
    unsafe { print(text.as_ptr(), text.len()) }
}

/// To be called first.
#[unsafe(no_mangle)]
pub extern "C" fn start() {
    std::panic::set_hook(Box::new(|panic| say(&panic.to_string())));
    say(&format!("instructions: {}", xent::Instructions::best()));
}

/// How many checks there are.
#[unsafe(no_mangle)]
pub extern "C" fn checks() -> usize {
    CHECKS.len()
}

/// Says the name of a check.
#[unsafe(no_mangle)]
pub extern "C" fn name(check: usize) {
    say(CHECKS[check].0);
}

/// Whether a check passes; says what was wrong.
#[unsafe(no_mangle)]
pub extern "C" fn check(check: usize) -> bool {
    run_check(CHECKS[check].0, &Candidate::of::<Cpu>()).map_err(|why| say(&why)).is_ok()
}

/// Runs the fixed batches: how many failed. Says how many there were and their worst errors.
#[unsafe(no_mangle)]
pub extern "C" fn batches() -> usize {
    batches::run(say)
}
