//! What is printed about a case: one object or one row of the table.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::cases::Case;
use super::machine::Machine;
use super::measure::{Measured, Quartiles};
use crate::report::Versions;

/// A case and how long it took.
pub struct Timing<'a> {
    /// What was timed.
    pub case: Case,
    /// How long it took.
    pub measured: Measured,
    /// Amount of label smoothing.
    pub epsilon: f64,
    /// The machine.
    pub machine: &'a Machine,
    /// The program.
    pub versions: &'a Versions,
}

impl Timing<'_> {
    /// For each step its name, its times and how often it moves each logit's bytes.
    fn times(&self) -> [(&'static str, &Quartiles, usize); 4] {
        let Measured { read, copy, forward, forward_backward, .. } = &self.measured;
        [
            ("read", read, 1),
            ("copy", copy, 2),
            ("forward", forward, 1),
            ("forward_backward", forward_backward, 2),
        ]
    }

    /// Bytes per nanosecond, which is 10⁹ bytes per second.
    pub fn gb_per_second(&self, times: &Quartiles, moved: usize) -> f64 {
        (moved * self.case.dtype.size()) as f64 / times.median
    }

    /// How much longer the loss takes than reading its logits.
    pub fn forward_per_read(&self) -> f64 {
        self.measured.forward.median / self.measured.read.median
    }

    /// How much longer loss and gradient take than copying the logits.
    pub fn forward_backward_per_copy(&self) -> f64 {
        self.measured.forward_backward.median / self.measured.copy.median
    }
}

/// One object; the names of the times are made of the same parts.
impl Serialize for Timing<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("rows", &self.case.rows)?;
        map.serialize_entry("classes", &self.case.classes)?;
        map.serialize_entry("dtype", &self.case.dtype)?;
        map.serialize_entry("layout", &self.case.layout)?;
        map.serialize_entry("threads", &self.case.threads)?;
        map.serialize_entry("shape", &self.case.shape())?;
        map.serialize_entry("epsilon", &self.epsilon)?;
        map.serialize_entry("rounds", &self.measured.rounds)?;
        for (name, times, moved) in self.times() {
            map.serialize_entry(&format!("{name}_ns_per_element"), &times.median)?;
            map.serialize_entry(&format!("{name}_ns_per_element_low"), &times.low)?;
            map.serialize_entry(&format!("{name}_ns_per_element_high"), &times.high)?;
            map.serialize_entry(
                &format!("{name}_gb_per_second"),
                &self.gb_per_second(times, moved),
            )?;
        }
        map.serialize_entry("forward_per_read", &self.forward_per_read())?;
        map.serialize_entry("forward_backward_per_copy", &self.forward_backward_per_copy())?;
        map.serialize_entry("cores", &self.machine.cores)?;
        map.serialize_entry("cpu", &self.machine.cpu)?;
        map.serialize_entry("xent_version", self.versions.xent)?;
        map.serialize_entry("build", self.versions.build)?;
        map.end()
    }
}

/// An array with one object per line.
pub fn to_json(timings: &[impl Serialize]) -> serde_json::Result<String> {
    let lines =
        timings.iter().map(serde_json::to_string).collect::<serde_json::Result<Vec<_>>>()?;
    Ok(format!("[\n{}\n]", lines.join(",\n")))
}
