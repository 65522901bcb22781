//! v of rows that do not share it: the prior by true class, or a prior over the wrong classes of a
//! dense target.

use super::labels::RowLabels;
use super::row::RowPlan;
use super::table::ClassTable;
use crate::Prior;

/// Writes v of classes `start..` of a kept row, before class weights.
pub(super) fn fill(
    table: &ClassTable<'_>,
    labels: &RowLabels<'_>,
    plan: &RowPlan,
    start: usize,
    out: &mut [f64],
) {
    if let Prior::ByTrueClass(matrix) = &table.config().prior {
        out.fill(0.0);
        let mut add = |class: usize, share: f64| {
            if share > 0.0 {
                out.iter_mut().zip(&matrix.row(class)[start..]).for_each(|(v, u)| *v += share * u);
            }
        };
        plan.hot().iter().for_each(|hot| add(hot.class, hot.share));
        labels.for_each_probability(plan.row, add);
        return;
    }
    labels.fill_target(plan.row, start, out);
    let [open, excluded] = plan.target_mass;
    let (for_open, for_excluded) = (table.spreads_over(false), table.spreads_over(true));
    for (k, v) in out.iter_mut().enumerate() {
        let target = *v;
        *v = match (table.is_excluded(start + k), for_excluded) {
            (true, 0) => target,
            (true, _) => 0.0,
            (false, _) => {
                let from_open =
                    if for_open > 0 { (open - target).max(0.0) / for_open as f64 } else { target };
                from_open + if excluded > 0.0 { excluded / for_excluded as f64 } else { 0.0 }
            }
        };
    }
}
