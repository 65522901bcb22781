//! What this machine is.

use std::fs::read_to_string;

use crate::args::cores;

/// Bytes of memory that are assumed to be free if the system does not report the number.
const ASSUMED_FREE: u64 = 16 << 30;

/// Properties of the machine that the times depend on.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Cores that this program may use.
    pub cores: usize,
    /// The processor's name, if the system reports it.
    pub cpu: Option<String>,
    /// Bytes of memory that are free.
    pub free: u64,
}

impl Machine {
    /// This machine in its present state.
    pub fn here() -> Self {
        let free = [free_on_machine(), free_in_container()]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(ASSUMED_FREE);
        Self { cores: cores(), cpu: cpu(), free }
    }
}

fn cpu() -> Option<String> {
    let text = read_to_string("/proc/cpuinfo").ok()?;
    let name = text.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(name.trim_start_matches([' ', '\t', ':']).trim().to_string())
}

/// Linux would grant more memory than exists and kill the process that uses it.
fn free_on_machine() -> Option<u64> {
    let text = read_to_string("/proc/meminfo").ok()?;
    let kib = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    kib.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn free_in_container() -> Option<u64> {
    let bytes = |file: &str| {
        read_to_string(format!("/sys/fs/cgroup/{file}")).ok()?.trim().parse::<u64>().ok()
    };
    Some(bytes("memory.max")?.saturating_sub(bytes("memory.current")?))
}
