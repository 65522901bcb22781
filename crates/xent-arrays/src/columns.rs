//! Which columns of a table are classes, and which one is the label: decided by their names and by
//! what was asked for, the same way in every format.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::error::{Problem, excerpt, names};

/// What is said of a table's columns on the command line.
///
/// Each entry is a name, a pattern with `*`, or a range `FIRST..LAST` in the table's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// The classes, or the features. If there are none, they are recognised.
    pub chosen: Vec<String>,
    /// Columns that are neither these nor labels.
    pub drop: Vec<String>,
}

/// Rows whose contents are looked at before the classes are settled.
pub const PEEKED: usize = 64;

/// Names of labels' columns, in lower case.
const LABELS: [&str; 10] = [
    "label",
    "labels",
    "target",
    "targets",
    "y_true",
    "true_label",
    "label_id",
    "ground_truth",
    "class_label",
    "label_idx",
];
/// Names that labels' columns have, but that a class may have, too.
const PERHAPS_LABELS: [&str; 5] = ["y", "class", "truth", "gt", "category"];
/// Names of columns that number or name the rows.
const ROWS: [&str; 9] =
    ["id", "idx", "index", "row", "rowid", "row_number", "uuid", "filename", "file_name"];
/// Names of columns that describe or sum up a row.
const OTHERS: [&str; 10] = [
    "score",
    "pred",
    "prediction",
    "predicted",
    "y_pred",
    "confidence",
    "fold",
    "split",
    "weight",
    "loss",
];

fn lower(name: &str) -> String {
    name.to_lowercase()
}

/// Whether a column of this name is one of labels, whatever it holds.
pub fn is_label(name: &str) -> bool {
    LABELS.contains(&lower(name).as_str())
}

/// Whether a column of this name is an index, which pandas and R write without a name.
pub fn is_unnamed(name: &str) -> bool {
    name.is_empty() || name.starts_with("Unnamed: ") || name == "__index_level_0__"
}

/// Whether a column of this name numbers or names the rows.
fn is_row(name: &str) -> bool {
    is_unnamed(name) || ROWS.contains(&lower(name).as_str()) || lower(name).ends_with("_id")
}

/// Whether a column of this name numbers or describes a row.
pub fn is_other(name: &str) -> bool {
    is_row(name) || OTHERS.contains(&lower(name).as_str())
}

impl Columns {
    /// The columns that are features, beside the labels.
    ///
    /// # Errors
    /// A name or a pattern is that of no column.
    pub fn features(&self, all: &[&str], label: usize) -> Result<Vec<usize>, Problem> {
        let dropped = select(all, &self.drop)?;
        let mut features = match &self.chosen[..] {
            [] => (0..all.len()).collect(),
            chosen => select(all, chosen)?,
        };
        features.retain(|column| *column != label && !dropped.contains(column));
        Ok(features)
    }

    /// Refuses a feature that tells the rows apart and nothing more: an index, or an id. `numbers`
    /// are its values, if they are numbers. Features that were chosen may be anything.
    ///
    /// # Errors
    /// The column with the option that helps.
    pub fn expect_feature(&self, name: &str, numbers: Option<&[f64]>) -> Result<(), Problem> {
        let distinct = |numbers: &[f64]| {
            let all: HashSet<u64> = numbers.iter().map(|number| number.to_bits()).collect();
            all.len() == numbers.len()
        };
        let why = if is_unnamed(name) {
            "names the rows, as pandas and R write them, and is no feature"
        } else if numbers.is_some_and(is_index) {
            "is an index: it counts the rows"
        } else if is_row(name) && numbers.is_some_and(distinct) {
            "is different in every row, as an id is"
        } else {
            return Ok(());
        };
        if !self.chosen.is_empty() {
            return Ok(());
        }
        Err(undecided(name, why, "--columns names the features"))
    }
}

/// The columns that are classes, in the classes' order.
#[derive(Debug, PartialEq, Eq)]
pub struct Classes {
    /// Their positions in the table.
    pub columns: Vec<usize>,
    /// Whether names alone decided: what they hold may still say that one is none.
    pub guessed: bool,
}

/// The classes among the columns of a table, whose labels are in its column `label`, if it has one
/// of that name.
pub fn classes(all: &[&str], label: Option<&str>, wanted: &Columns) -> Result<Classes, Problem> {
    let dropped = select(all, &wanted.drop)?;
    let rest: Vec<usize> = (0..all.len())
        .filter(|column| !dropped.contains(column) && Some(all[*column]) != label)
        .collect();
    if !wanted.chosen.is_empty() {
        let columns = select(all, &wanted.chosen)?;
        let columns = columns.into_iter().filter(|column| rest.contains(column)).collect();
        return Ok(Classes { columns, guessed: false });
    }
    let families = families(all, &rest);
    let whole = |family: &Family| family.is_contiguous();
    let plain = |column: &usize| {
        let name = all[*column];
        !is_unnamed(name) && !is_label(name) && !PERHAPS_LABELS.contains(&lower(name).as_str())
    };
    let mut candidates = families.iter().filter(|family| whole(family));
    match (candidates.next(), candidates.next()) {
        (Some(family), None) => {
            let beside = rest
                .iter()
                .filter(|column| plain(column))
                .find(|column| family.members.iter().all(|(_, member)| member != *column));
            match beside {
                None => Ok(Classes { columns: family.columns(), guessed: false }),
                Some(column) => Err(undecided(
                    all[*column],
                    &format!("stands beside {}", family.range(all)),
                    &format!("--columns '{}'", family.pattern()),
                )),
            }
        }
        (Some(one), Some(other)) => Err(Problem(format!(
            "{} and {} could both be the classes; --columns '{}' takes the first, --drop '{}', too",
            one.range(all),
            other.range(all),
            one.pattern(),
            other.pattern()
        ))),
        (None, _) => {
            let named: Vec<usize> =
                rest.iter().copied().filter(|column| !is_label(all[*column])).collect();
            if let [family] = &families[..]
                && named.iter().filter(|column| plain(column)).count() == family.members.len()
            {
                return Err(Problem(format!(
                    "the columns {} are numbered, but not from 0 or 1 without a gap; --columns '{}' takes them in the order of their numbers",
                    family.range(all),
                    family.pattern()
                )));
            }
            by_name(all, named, label)
        }
    }
}

/// Classes whose names have nothing in common.
fn by_name(all: &[&str], named: Vec<usize>, label: Option<&str>) -> Result<Classes, Problem> {
    let doubtful = |column: &&usize| {
        let name = all[**column];
        // Beside a label that is known, another column of labels is unlikely to be called y.
        let perhaps = PERHAPS_LABELS.contains(&lower(name).as_str())
            && !label.is_some_and(|label| all.contains(&label));
        is_other(name) || perhaps
    };
    match named.iter().find(doubtful) {
        Some(column) if PERHAPS_LABELS.contains(&lower(all[*column]).as_str()) => {
            Err(undecided(all[*column], "may be the labels", "--columns names the classes"))
        }
        Some(column) => Err(undecided(
            all[*column],
            "is not a class by its name",
            "--columns names the classes",
        )),
        None => Ok(Classes { columns: named, guessed: true }),
    }
}

/// The error for a column that is perhaps no class.
pub fn undecided(name: &str, why: &str, columns: &str) -> Problem {
    let (called, name) = match name {
        "" => ("the column without a name".to_string(), "''".to_string()),
        name => {
            let name = excerpt(name);
            (
                format!("column {name}"),
                if name.contains([' ', '*']) { format!("'{name}'") } else { name },
            )
        }
    };
    Problem(format!("{called} {why}; --drop {name} leaves it out, {}", says(columns)))
}

fn says(columns: &str) -> String {
    if columns.ends_with('\'') {
        format!("{columns} names the classes")
    } else {
        columns.to_string()
    }
}

/// Columns whose names differ in a number alone.
struct Family {
    prefix: String,
    suffix: String,
    /// Number and column, by number.
    members: Vec<(u64, usize)>,
}

impl Family {
    /// Whether the numbers are 0, 1, 2, … or 1, 2, 3, …
    fn is_contiguous(&self) -> bool {
        let first = self.members.first().map_or(2, |(number, _)| *number);
        first <= 1 && self.members.iter().zip(first..).all(|((number, _), next)| *number == next)
    }

    fn columns(&self) -> Vec<usize> {
        self.members.iter().map(|(_, column)| *column).collect()
    }

    fn pattern(&self) -> String {
        excerpt(&format!("{}*{}", self.prefix, self.suffix))
    }

    fn range(&self, all: &[&str]) -> String {
        let name = |member: Option<&(u64, usize)>| {
            member.map_or(String::new(), |(_, column)| excerpt(all[*column]))
        };
        format!("{} … {}", name(self.members.first()), name(self.members.last()))
    }
}

/// A name as what is before its last number, the number and what is after it.
fn numbered(name: &str) -> Option<(&str, u64, &str)> {
    let end = name.rfind(|c: char| c.is_ascii_digit())? + 1;
    let start = name[..end]
        .rfind(|c: char| !c.is_ascii_digit())
        .map_or(0, |at| at + name[at..].chars().next().map_or(1, char::len_utf8));
    Some((&name[..start], name[start..end].parse().ok()?, &name[end..]))
}

/// The groups of two or more columns whose names differ in a number alone.
fn families(all: &[&str], among: &[usize]) -> Vec<Family> {
    let mut groups: BTreeMap<(&str, &str), Vec<(u64, usize)>> = BTreeMap::new();
    for column in among {
        // pandas numbers the columns that had no name.
        if let Some((prefix, number, suffix)) = numbered(all[*column])
            && !is_unnamed(all[*column])
        {
            groups.entry((prefix, suffix)).or_default().push((number, *column));
        }
    }
    groups
        .into_iter()
        .filter(|(_, members)| members.len() > 1)
        .map(|((prefix, suffix), mut members)| {
            members.sort_unstable();
            Family { prefix: prefix.to_string(), suffix: suffix.to_string(), members }
        })
        .collect()
}

/// Whether names are the numbers 0, 1, 2, … or 1, 2, 3, … in any order, as pandas names columns
/// that have no names.
pub fn are_positions(all: &[&str]) -> bool {
    let named: Vec<usize> = (0..all.len()).filter(|column| !is_unnamed(all[*column])).collect();
    let plain = named.iter().all(|column| all[*column].bytes().all(|byte| byte.is_ascii_digit()));
    let families = families(all, &named);
    plain
        && matches!(&families[..], [family]
            if family.members.len() == named.len() && family.is_contiguous())
}

/// The columns that names, patterns and ranges select, each once: those of a pattern by their
/// numbers if they differ in a number alone, otherwise in the table's order.
pub fn select(all: &[&str], wanted: &[String]) -> Result<Vec<usize>, Problem> {
    let mut selected = Vec::new();
    for text in wanted {
        let exact = |name: &str| all.iter().position(|other| *other == name);
        let found = if let Some(column) = exact(text) {
            vec![column]
        } else if let Some((Some(first), Some(last))) =
            text.split_once("..").map(|(first, last)| (exact(first), exact(last)))
        {
            (first.min(last)..=first.max(last)).collect()
        } else {
            let found: Vec<usize> = (0..all.len())
                .filter(|column| text.contains('*') && matches(text, all[*column]))
                .collect();
            match &families(all, &found)[..] {
                [family] if family.members.len() == found.len() => family.columns(),
                _ => found,
            }
        };
        if found.is_empty() {
            return Err(Problem::missing(
                "column",
                &excerpt(text),
                names("column", all.iter().copied()),
            ));
        }
        selected.extend(
            found.into_iter().filter(|column| !selected.contains(column)).collect::<Vec<_>>(),
        );
    }
    Ok(selected)
}

/// Whether a name is what a pattern with `*` describes.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Of the columns that may be labels, the one without a name being given: the only one that is
/// called so, or the only one.
pub fn label(all: &[&str], possible: &[usize]) -> Option<usize> {
    let only = |fits: &dyn Fn(&str) -> bool| {
        let mut found = possible.iter().filter(|column| fits(all[**column]));
        found.next().copied().filter(|_| found.next().is_none())
    };
    only(&is_label)
        .or_else(|| only(&|name| PERHAPS_LABELS.contains(&lower(name).as_str())))
        .or_else(|| {
            if possible.iter().any(|column| is_label(all[*column])) {
                None
            } else {
                only(&|name| !is_other(name))
            }
        })
}

/// What labels may be called, besides their indices: the names of the classes.
#[derive(Debug, Clone, Default)]
pub struct ClassNames {
    /// Class by name.
    classes: HashMap<String, i64>,
    /// The names, as messages have them.
    shown: String,
}

impl ClassNames {
    /// The classes' names, in their order. If all begin alike, as `logit_cat` and `logit_dog` do,
    /// labels may be called by what follows. Numbers are no names, but indices.
    pub fn new(classes: &[String]) -> Self {
        let is_name = |name: &str| !name.is_empty() && name.parse::<f64>().is_err();
        let prefix = prefix(classes);
        let short = classes.iter().map(|name| &name[prefix..]).zip(0..);
        // Whole names last, so that they go before what remains of others.
        let named = short.chain(classes.iter().map(String::as_str).zip(0..));
        Self {
            classes: named
                .filter(|(name, _)| is_name(name))
                .map(|(name, class)| (name.to_string(), class))
                .collect(),
            shown: names("class", classes.iter().map(String::as_str)),
        }
    }

    /// The class that a text means.
    pub(crate) fn class(&self, text: &str) -> Option<i64> {
        self.classes.get(text).copied().or_else(|| text_label(text))
    }

    /// What a label has to be.
    pub(crate) fn expected(&self) -> String {
        if self.classes.is_empty() {
            "an integer, or a name if --class-names has it".to_string()
        } else {
            format!("an integer or a class, one of {}", self.shown)
        }
    }
}

/// The length of what all names begin with, up to a character that divides words.
fn prefix(names: &[String]) -> usize {
    let first = names.first().map_or("", String::as_str);
    let common = names.iter().fold(first, |common, name| {
        let alike = common.chars().zip(name.chars()).take_while(|(a, b)| a == b);
        &common[..alike.map(|(c, _)| c.len_utf8()).sum()]
    });
    let word = common.trim_end_matches(char::is_alphanumeric);
    word.len()
}

/// A label as texts have it: an integer, a whole number with a point, or a truth value.
pub fn text_label(text: &str) -> Option<i64> {
    match text {
        "True" | "true" | "TRUE" => Some(1),
        "False" | "false" | "FALSE" => Some(0),
        text => text.parse().ok().or_else(|| whole(text.parse().ok()?)),
    }
}

/// A whole number as an integer.
pub fn whole(number: f64) -> Option<i64> {
    const EXACT: f64 = (1u64 << 53) as f64;
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

/// Refuses a class whose first values show that it is none: an index, or whole numbers among
/// columns that have fractions.
pub fn expect_logits(peeked: &[(&str, Vec<f64>)]) -> Result<(), Problem> {
    let whole = |values: &[f64]| values.iter().all(|value| value.fract() == 0.0);
    let fractions = peeked.iter().filter(|(_, values)| !whole(values)).count();
    for (name, values) in peeked {
        let why = if is_index(values) {
            "is an index: it counts the rows"
        } else if values.len() >= 8 && whole(values) && fractions == peeked.len() - 1 {
            "has whole numbers only, as labels have, where the other columns have fractions"
        } else {
            continue;
        };
        return Err(undecided(name, why, "--columns names the classes"));
    }
    Ok(())
}

/// Whether the numbers of a column are 0, 1, 2, … or 1, 2, 3, …, as an index has them.
fn is_index(values: &[f64]) -> bool {
    const FEWEST: usize = 4;
    values.len() >= FEWEST
        && values[0] >= 0.0
        && values[0] <= 1.0
        && values.iter().zip(0u32..).all(|(value, row)| *value == values[0] + f64::from(row))
        && values[0].fract() == 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(all: &[&str], label: Option<&str>) -> Result<Vec<usize>, String> {
        classes(all, label, &Columns::default())
            .map(|classes| classes.columns)
            .map_err(|problem| problem.to_string())
    }

    #[test]
    fn numbers_order_the_classes() {
        let columns = ["class_0", "class_1", "class_10", "class_2", "label"];
        assert!(chosen(&columns, Some("label")).unwrap_err().contains("without a gap"));
        let columns: Vec<String> = (0..12).map(|k| format!("p({k})")).collect();
        let mut columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        columns.sort_unstable();
        let order = chosen(&columns, None).unwrap();
        assert_eq!(
            order.iter().map(|k| columns[*k]).collect::<Vec<_>>()[9..],
            ["p(9)", "p(10)", "p(11)"]
        );
        assert_eq!(chosen(&["", "0", "1", "2"], None), Ok(vec![1, 2, 3]));
        assert_eq!(chosen(&["z3", "z1", "z2", "y", "Unnamed: 0"], None), Ok(vec![1, 2, 0]));
    }

    #[test]
    fn what_is_no_class_is_not_taken_for_one() {
        assert_eq!(chosen(&["cat", "dog", "label"], None), Ok(vec![0, 1]));
        assert_eq!(chosen(&["cat", "dog", "kind"], Some("kind")), Ok(vec![0, 1]));
        assert_eq!(chosen(&["x", "y", "z", "t"], Some("t")), Ok(vec![0, 1, 2]));
        for (columns, says) in [
            (
                &["id", "class_0", "class_1"][..],
                "column id stands beside class_0 … class_1; --drop id leaves it out, --columns 'class_*' names the classes",
            ),
            (&["id", "score", "label"], "column id is not a class by its name; --drop id"),
            (
                &["", "cat", "dog"],
                "the column without a name is not a class by its name; --drop ''",
            ),
            (&["x", "y", "z"], "column y may be the labels; --drop y"),
            (&["a_0", "a_1", "b_0", "b_1"], "--columns 'a_*' takes the first"),
        ] {
            let said = chosen(columns, None).unwrap_err();
            assert!(said.contains(says), "{said}");
        }
    }

    #[test]
    fn names_patterns_and_ranges_select() {
        let all = ["id", "z1", "z10", "z2", "x", "label"];
        let wanted = |classes: &[&str]| Columns {
            chosen: classes.iter().map(ToString::to_string).collect(),
            drop: Vec::new(),
        };
        let chosen =
            |texts: &[&str]| classes(&all, Some("label"), &wanted(texts)).map(|c| c.columns);
        assert_eq!(chosen(&["z*"]).unwrap(), [1, 3, 2]);
        assert_eq!(chosen(&["x", "z1..z2"]).unwrap(), [4, 1, 2, 3]);
        assert_eq!(chosen(&["x..label"]).unwrap(), [4]);
        assert!(chosen(&["w*"]).unwrap_err().to_string().contains("no column 'w*'"));
        assert!(matches("*_a*z", "x_abz") && !matches("a*a", "a") && matches("a*", "a"));
    }

    #[test]
    fn labels_are_found_by_name() {
        assert_eq!(label(&["id", "label"], &[0, 1]), Some(1));
        assert_eq!(label(&["id", "fold"], &[0, 1]), None);
        assert_eq!(label(&["id"], &[0]), None);
        assert_eq!(label(&["kind"], &[0]), Some(0));
        assert_eq!(label(&["label", "target"], &[0, 1]), None);
        assert!(is_index(&[1.0, 2.0, 3.0, 4.0]) && !is_index(&[0.0, 1.0, 2.0, 2.0]));
    }
}
