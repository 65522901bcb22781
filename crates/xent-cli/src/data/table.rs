//! CSV files for training: a header line that names the columns, numbers and texts below it, one
//! column with the class.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;

use csv::StringRecord;

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

/// Reads a file; the class is in the column `label` (a name, or a position counted from 1).
/// Default: the last column.
pub fn read(path: &Path, label: Option<&str>) -> Result<Dataset> {
    let file = std::fs::File::open(path).map_err(|error| Error::reading(path, error))?;
    parse(file, label).map_err(|message| Error::in_file(path, message))
}

fn parse(source: impl Read, label: Option<&str>) -> std::result::Result<Dataset, String> {
    let table = Table::read(source)?;
    let label = table.label_column(label)?;
    let (labels, classes) = table.classes(label)?;
    let columns: Vec<Column> = (0..table.header.len())
        .filter(|&column| column != label)
        .map(|column| table.column(column))
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

    /// Numbers if all texts are numbers; otherwise categories.
    fn column(&self, column: usize) -> std::result::Result<Column, String> {
        let number = |record: &StringRecord| record[column].parse::<f64>().ok();
        let Some(text) = self.records.iter().find(|record| number(record).is_none()) else {
            let numbers: Vec<f64> = self.records.iter().filter_map(number).collect();
            return match numbers.iter().position(|number| !number.is_finite()) {
                Some(row) => Err(format!(
                    "{}: {:?}, expected a finite number",
                    self.place(row, column),
                    &self.records[row][column]
                )),
                None => Ok(Column::Numbers(numbers)),
            };
        };
        let mut categories: BTreeMap<&str, usize> =
            self.records.iter().map(|record| (&record[column], 0)).collect();
        if categories.len() > MOST_CATEGORIES {
            let place = place(&self.header, text, column);
            return Err(format!(
                "{place}: {:?} is not a number, and the {} different texts in its column are too many for categories (at most {MOST_CATEGORIES}); remove the column or correct it",
                &text[column],
                categories.len()
            ));
        }
        categories.values_mut().zip(0..).for_each(|(index, next)| *index = next);
        Ok(Column::Categories {
            count: categories.len(),
            of_row: self.records.iter().map(|record| categories[&record[column]]).collect(),
        })
    }

    fn place(&self, row: usize, column: usize) -> String {
        place(&self.header, &self.records[row], column)
    }
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

    fn failure(text: &str, label: Option<&str>) -> String {
        parse(text.as_bytes(), label).unwrap_err()
    }

    #[test]
    fn numbers_are_kept_and_texts_become_one_feature_each() {
        let table = parse(
            "size,colour,kind\n1.5, red ,cat\n-2,blue,dog\n1e3,red,cat\n0,blue,dog\n".as_bytes(),
            None,
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
        let classes = |label| parse(text.as_bytes(), label).map(|table| table.classes);
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
            parse(&b"a,b\n1,\xff\n"[..], None).unwrap_err().contains("line 2, column 2: not UTF-8")
        );
        let names: String = (0..300).map(|row| format!("name {row},{}\n", row % 2)).collect();
        assert!(failure(&format!("a,b\n{names}"), None).contains("300 different texts"));
    }

    #[test]
    fn a_quotation_mark_left_open_does_not_fill_the_memory() {
        let endless = "a,b\n1,\"".as_bytes().chain(std::io::repeat(b'x'));
        assert!(parse(endless, None).unwrap_err().contains("is a quotation mark left open?"));
    }
}
