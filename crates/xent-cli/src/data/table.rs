//! CSV files for training: a header line that names the columns, numbers and texts below it, one
//! column with the class.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;

use clap::Args;
use csv::StringRecord;
use serde::Serialize;
use xent_arrays::Columns;

use super::dataset::{Dataset, Features, number_classes};
use crate::error::{Error, Result};

/// The longest line (or quoted text over several lines) that is read into memory, and the CSV
/// reader's buffer beyond it.
const LONGEST_RECORD: u64 = 1 << 20;
const BUFFER: usize = 1 << 13;
/// A text column becomes one feature per distinct text; a column with more texts holds names or
/// comments, not categories.
const MOST_CATEGORIES: usize = 100;
/// The largest number of values in all rows together.
const MOST_VALUES: usize = 1 << 28;
/// What other programs write for a missing value, in lower case.
const MISSING: [&str; 7] = ["", "?", "na", "n/a", "nan", "null", "none"];

/// What the columns of a CSV file are.
#[derive(Debug, Clone, Default, Args, Serialize)]
pub struct TableOptions {
    /// Column of the CSV file with the class: its name, or its position counted from 1 [default:
    /// the last]
    #[arg(long, value_name = "COLUMN")]
    pub label: Option<String>,
    /// Columns of the CSV file that are features: names, patterns like 'x_*', ranges like a..f
    /// [default: all except the class]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// Columns of the CSV file that are no features, such as an index: names, patterns or ranges
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<String>,
    /// Columns of the CSV file that are categories although most of their texts are numbers: names,
    /// patterns or ranges
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
}

impl TableOptions {
    /// Those that are given: their names with their values, as on the command line.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, String)> {
        let lists =
            [("columns", &self.columns), ("drop", &self.drop), ("categories", &self.categories)];
        let lists = lists.into_iter().filter(|(_, names)| !names.is_empty());
        let label = self.label.clone().map(|label| ("label", label));
        label.into_iter().chain(lists.map(|(option, names)| (option, names.join(","))))
    }
}

/// Reads a file.
pub fn read(path: &Path, options: &TableOptions) -> Result<Dataset> {
    let file = std::fs::File::open(path).map_err(|error| Error::reading(path, error))?;
    parse(file, options).map_err(|message| Error::in_file(path, message))
}

fn parse(source: impl Read, options: &TableOptions) -> std::result::Result<Dataset, String> {
    let table = Table::read(source)?;
    let label = table.label_column(options.label.as_deref())?;
    let (labels, classes) = table.classes(label)?;
    let all: Vec<&str> = table.header.iter().collect();
    let wanted = Columns { chosen: options.columns.clone(), drop: options.drop.clone() };
    let features = wanted.features(&all, label).map_err(|problem| problem.to_string())?;
    let chosen = Columns { chosen: options.categories.clone(), drop: Vec::new() };
    let categories = match &options.categories[..] {
        [] => Vec::new(),
        _ => chosen.features(&all, label).map_err(|problem| problem.to_string())?,
    };
    let columns: Vec<Column> = features
        .into_iter()
        .map(|column| {
            if categories.contains(&column) {
                table.categories(column)
            } else {
                table.column(column, &wanted)
            }
        })
        .collect::<std::result::Result<_, _>>()?;
    let standardise: Vec<bool> = columns.iter().flat_map(Column::standardise).collect();
    let (rows, width) = (labels.len(), standardise.len());
    if width == 0 {
        return Err(format!("no column in addition to the label {:?}", &table.header[label]));
    }
    if rows.saturating_mul(width) > MOST_VALUES {
        return Err(format!(
            "{rows} rows of {width} features, expected at most {MOST_VALUES} values in all"
        ));
    }
    let mut values = Vec::with_capacity(rows * width);
    for row in 0..rows {
        columns.iter().for_each(|column| column.append(row, &mut values));
    }
    Ok(Dataset {
        about: format!(
            "{rows} rows, {} columns as {width} features, class in column {:?}.",
            columns.len(),
            &table.header[label]
        ),
        width,
        features: Features::Reals { values, standardise },
        labels,
        classes,
        given_test: None,
        truth: None,
    })
}

/// The contents of the file: texts, none of them missing.
struct Table {
    header: StringRecord,
    records: Vec<StringRecord>,
}

impl Table {
    fn read(source: impl Read) -> std::result::Result<Self, String> {
        let since_record = Rc::new(Cell::new(0));
        let bounded = Bounded { source, since_record: Rc::clone(&since_record) };
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .buffer_capacity(BUFFER)
            .from_reader(bounded);
        let header = reader.headers().map_err(describe)?.clone();
        if let Some((column, number)) = header
            .iter()
            .enumerate()
            .find(|(_, name)| name.parse::<f64>().is_ok() && name.parse::<i64>().is_err())
        {
            return Err(format!(
                "line 1 has {number:?} in column {}; expected the columns' names there",
                column + 1
            ));
        }
        if let Some(separator) = [';', '\t', '|']
            .into_iter()
            .find(|&separator| header.len() == 1 && header[0].contains(separator))
        {
            return Err(format!(
                "line 1 has one column, {:?}, expected columns separated by commas; these seem to be by {separator:?}",
                &header[0]
            ));
        }
        let mut records = Vec::new();
        loop {
            since_record.set(0);
            let mut record = StringRecord::new();
            if !reader.read_record(&mut record).map_err(describe)? {
                break;
            }
            if let Some(column) =
                record.iter().position(|text| MISSING.contains(&text.to_lowercase().as_str()))
            {
                return Err(format!(
                    "{}: missing value {:?}; fill it in or remove the row",
                    place(&header, &record, column),
                    &record[column]
                ));
            }
            records.push(record);
        }
        if records.is_empty() {
            return Err("no rows below the header line".to_string());
        }
        Ok(Self { header, records })
    }

    /// The column with the class: by its name, or, if no column has that name, by its position
    /// counted from 1.
    fn label_column(&self, wanted: Option<&str>) -> std::result::Result<usize, String> {
        let columns = self.header.len();
        let Some(wanted) = wanted else {
            return Ok(columns - 1);
        };
        let named: Vec<usize> =
            (0..columns).filter(|&column| &self.header[column] == wanted).collect();
        match (&named[..], wanted.parse::<usize>()) {
            ([column], _) => Ok(*column),
            ([], Ok(position)) if (1..=columns).contains(&position) => Ok(position - 1),
            ([], _) => Err(format!(
                "no column {wanted:?}; expected one of {} or a position from 1 to {columns}",
                self.names()
            )),
            (several, _) => Err(format!(
                "{} columns are named {wanted:?}; name the one with the class by its position from 1 to {columns}",
                several.len()
            )),
        }
    }

    /// The names of the first columns.
    fn names(&self) -> String {
        let mut names: Vec<String> =
            self.header.iter().take(12).map(|name| format!("{name:?}")).collect();
        if self.header.len() > names.len() {
            names.push("…".to_string());
        }
        names.join(", ")
    }

    fn classes(&self, column: usize) -> std::result::Result<(Vec<u32>, Vec<String>), String> {
        let names: Vec<String> =
            self.records.iter().map(|record| record[column].to_string()).collect();
        let (labels, classes) = number_classes(&names);
        if classes.len() > names.len() / 2 {
            return Err(format!(
                "column {:?} has {} different values in {} rows: too many for classes; name the column with the class by --label",
                &self.header[column],
                classes.len(),
                names.len()
            ));
        }
        Ok((labels, classes))
    }

    /// Numbers if all texts are numbers, categories if most are none.
    fn column(&self, column: usize, wanted: &Columns) -> std::result::Result<Column, String> {
        let texts = || self.records.iter().map(|record| &record[column]);
        let numbers: Option<Vec<f64>> = texts().map(|text| text.parse().ok()).collect();
        wanted
            .expect_feature(&self.header[column], numbers.as_deref())
            .map_err(|problem| problem.to_string())?;
        let Some(numbers) = numbers else {
            let meant = texts().filter(|text| is_number(text) || has_comma(text)).count();
            let odd = texts().position(|text| !is_number(text));
            return match odd.filter(|_| 2 * meant >= self.records.len()) {
                Some(row) => Err(self.no_number(row, column)),
                None => self.categories(column),
            };
        };
        match numbers.iter().position(|number| !number.is_finite()) {
            Some(row) => Err(format!(
                "{}: {:?}, expected a finite number",
                self.place(row, column),
                &self.records[row][column]
            )),
            None => Ok(Column::Numbers(numbers)),
        }
    }

    /// One feature for each different text.
    fn categories(&self, column: usize) -> std::result::Result<Column, String> {
        let mut categories: BTreeMap<&str, usize> =
            self.records.iter().map(|record| (&record[column], 0)).collect();
        let most = MOST_CATEGORIES.min(self.records.len() / 2);
        if categories.len() > most {
            return Err(format!(
                "column {:?} has {} different texts, too many for categories (at most {most}); --drop leaves it out",
                &self.header[column],
                categories.len()
            ));
        }
        categories.values_mut().zip(0..).for_each(|(index, next)| *index = next);
        Ok(Column::Categories {
            count: categories.len(),
            of_row: self.records.iter().map(|record| categories[&record[column]]).collect(),
        })
    }

    /// The error for a text where most of the column are numbers.
    fn no_number(&self, row: usize, column: usize) -> String {
        let (place, text) = (self.place(row, column), &self.records[row][column]);
        if has_comma(text) {
            return format!(
                "{place}: {text:?} with a comma, expected a number with a decimal point"
            );
        }
        format!(
            "{place}: {text:?}, expected a number as in most rows; --categories {:?} takes all of its texts for categories",
            &self.header[column]
        )
    }

    fn place(&self, row: usize, column: usize) -> String {
        place(&self.header, &self.records[row], column)
    }
}

fn is_number(text: &str) -> bool {
    text.parse::<f64>().is_ok()
}

/// Whether a text is a number with a decimal comma, or with commas between thousands.
fn has_comma(text: &str) -> bool {
    text.contains(',')
        && (is_number(&text.replacen(',', ".", 1)) || is_number(&text.replace(',', "")))
}

/// One column, ready to become features.
enum Column {
    Numbers(Vec<f64>),
    Categories { count: usize, of_row: Vec<usize> },
}

impl Column {
    /// One entry per feature that the column becomes.
    fn standardise(&self) -> Vec<bool> {
        match self {
            Self::Numbers(_) => vec![true],
            Self::Categories { count, .. } => vec![false; *count],
        }
    }

    fn append(&self, row: usize, values: &mut Vec<f64>) {
        match self {
            Self::Numbers(numbers) => values.push(numbers[row]),
            Self::Categories { count, of_row } => values
                .extend((0..*count).map(|category| f64::from(u8::from(category == of_row[row])))),
        }
    }
}

fn place(header: &StringRecord, record: &StringRecord, column: usize) -> String {
    let line = record.position().map_or(0, csv::Position::line);
    format!("line {line}, column {:?}", &header[column])
}

/// The CSV reader's errors in the words of this program.
fn describe(error: csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
            let line = pos.as_ref().map_or(0, csv::Position::line);
            format!("line {line} has {len} fields, expected {expected_len} as in the header")
        }
        csv::ErrorKind::Utf8 { pos, err } => {
            let line = pos.as_ref().map_or(0, csv::Position::line);
            format!("line {line}, column {}: not UTF-8", err.field() + 1)
        }
        csv::ErrorKind::Io(error) => error.to_string(),
        _ => error.to_string(),
    }
}

/// Fails once a record has taken more bytes than the longest that is read.
struct Bounded<R> {
    source: R,
    since_record: Rc<Cell<u64>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.since_record.get() > LONGEST_RECORD {
            return Err(std::io::Error::other(format!(
                "a record of more than {LONGEST_RECORD} bytes (is a quotation mark left open?)"
            )));
        }
        let read = self.source.read(buffer)?;
        self.since_record.set(self.since_record.get() + read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(label: Option<&str>) -> TableOptions {
        TableOptions { label: label.map(str::to_string), ..TableOptions::default() }
    }

    fn failure(text: &str, label: Option<&str>) -> String {
        parse(text.as_bytes(), &by(label)).unwrap_err()
    }

    #[test]
    fn numbers_are_kept_and_texts_become_one_feature_each() {
        let table = parse(
            "size,colour,kind\n1.5, red ,cat\n-2,blue,dog\n1e3,red,cat\n0,blue,dog\n".as_bytes(),
            &by(None),
        )
        .unwrap();
        assert_eq!(table.labels, [0, 1, 0, 1]);
        assert_eq!(table.classes, ["cat", "dog"]);
        assert_eq!(table.width, 3);
        let values = vec![1.5, 0.0, 1.0, -2.0, 1.0, 0.0, 1000.0, 0.0, 1.0, 0.0, 1.0, 0.0];
        assert_eq!(
            table.features,
            Features::Reals { values, standardise: vec![true, false, false] }
        );
    }

    #[test]
    fn the_label_is_named_or_counted() {
        let text = "a,b,1\nx,1,5\ny,2,6\nx,1,5\ny,2,6\n";
        let classes = |label| parse(text.as_bytes(), &by(label)).map(|table| table.classes);
        assert_eq!(classes(None).unwrap(), ["5", "6"]);
        assert_eq!(classes(Some("a")).unwrap(), ["x", "y"]);
        assert_eq!(classes(Some("2")).unwrap(), ["1", "2"]);
        assert_eq!(classes(Some("1")).unwrap(), ["5", "6"], "a name goes before a position");
        assert_eq!(
            classes(Some("4")).unwrap_err(),
            r#"no column "4"; expected one of "a", "b", "1" or a position from 1 to 3"#
        );
        assert_eq!(
            failure("a,a\n1,2\n", Some("a")),
            r#"2 columns are named "a"; name the one with the class by its position from 1 to 2"#
        );
    }

    #[test]
    fn errors_name_line_and_column() {
        assert_eq!(
            failure("a,b\n1,x\n,y\n", None),
            r#"line 3, column "a": missing value ""; fill it in or remove the row"#
        );
        assert_eq!(
            failure("a,b\n1,x\n2,NaN\n", None),
            r#"line 3, column "b": missing value "NaN"; fill it in or remove the row"#
        );
        assert_eq!(
            failure("a,b\n1,x\n2,y,z\n", None),
            "line 3 has 3 fields, expected 2 as in the header"
        );
        assert_eq!(
            failure("a,b\n1,x\ninf,x\n2,y\n2,y\n", None),
            r#"line 3, column "a": "inf", expected a finite number"#
        );
        assert_eq!(
            failure("5.1,x\n4.9,y\n", None),
            r#"line 1 has "5.1" in column 1; expected the columns' names there"#
        );
        assert_eq!(failure("a,b\n", None), "no rows below the header line");
        assert_eq!(failure("b\nx\nx\ny\ny\n", None), r#"no column in addition to the label "b""#);
        assert!(
            failure("a;b\n1;x\n2;y\n", None)
                .contains("expected columns separated by commas; these seem to be by ';'")
        );
        assert!(
            failure("a,b\n1,1.5\n2,2.5\n3,3.5\n", None).contains("3 different values in 3 rows")
        );
        assert!(
            parse(&b"a,b\n1,\xff\n"[..], &by(None))
                .unwrap_err()
                .contains("line 2, column 2: not UTF-8")
        );
        assert_eq!(
            failure("a,b\n1,x\n5.O,x\n2.5,y\n2,y\n", None),
            r#"line 3, column "a": "5.O", expected a number as in most rows; --categories "a" takes all of its texts for categories"#
        );
        for text in ["1,5", "1,250", "1,250.5", "1,250,000"] {
            let rows = format!("a,b\n\"{text}\",x\n\"{text}\",x\n2,y\n2,y\n");
            assert!(
                failure(&rows, None).contains("with a comma, expected a number with a decimal")
            );
        }
        let names: String = (0..300).map(|row| format!("name {row},{}\n", row % 2)).collect();
        assert!(failure(&format!("a,b\n{names}"), None).contains("300 different texts"));
    }

    #[test]
    fn columns_are_features_as_they_are_told() {
        let rows: String =
            (0..8).map(|i| format!("{i},{},{},{}\n", (i * 5) % 8, i / 4 % 2, i % 2)).collect();
        let named = |names: &str, options: TableOptions| {
            parse(format!("{names}\n{rows}").as_bytes(), &options).map(|table| table.width)
        };
        let list = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        for (names, says) in [
            (
                ",a,b,y",
                "the column without a name names the rows, as pandas and R write them, and is no feature; --drop '' leaves it out, --columns names the features",
            ),
            ("Unnamed: 0,a,b,y", "--drop 'Unnamed: 0' leaves it out"),
            ("t,a,b,y", "column t is an index: it counts the rows; --drop t leaves it out"),
        ] {
            assert!(named(names, by(None)).unwrap_err().contains(says));
        }
        let drop = TableOptions { drop: list(&["t"]), ..by(None) };
        assert!(named("t,id,b,y", drop.clone()).unwrap_err().contains("column id is different in"));
        assert_eq!(named("t,a,b,y", drop), Ok(2));
        let columns = |names: &[&str]| TableOptions { columns: list(names), ..by(None) };
        assert_eq!(named(",id,b,y", columns(&["*"])), Ok(3));
        assert_eq!(named(",id,b,y", columns(&["b"])), Ok(1));
        assert!(named(",id,b,y", columns(&["c"])).unwrap_err().contains("no column 'c'"));
        let categories = TableOptions { categories: list(&["b"]), ..columns(&["a", "b"]) };
        assert_eq!(named("t,a,b,y", categories), Ok(3));
    }

    #[test]
    fn a_quotation_mark_left_open_does_not_fill_the_memory() {
        let endless = "a,b\n1,\"".as_bytes().chain(std::io::repeat(b'x'));
        assert!(parse(endless, &by(None)).unwrap_err().contains("is a quotation mark left open?"));
    }
}
