//! The transformation of the logits. See SEMANTICS.md S1.

/// The transformation of the logits: `z ← cap·tanh(z/(T·cap))`, or `z/T` without a softcap. −∞
/// stays −∞.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Transform {
    /// T.
    pub temperature: f64,
    /// The softcap.
    pub softcap: Option<f64>,
}

impl Transform {
    /// Whether the transformation is the identity.
    pub fn is_identity(&self) -> bool {
        self.temperature == 1.0 && self.softcap.is_none()
    }

    /// The transformed logit.
    pub fn apply(&self, logit: f64) -> f64 {
        match self.softcap {
            Some(cap) if logit != f64::NEG_INFINITY => {
                cap * (logit / self.temperature / cap).tanh()
            }
            _ => logit / self.temperature,
        }
    }
}
