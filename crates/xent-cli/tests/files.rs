//! Files as other programs write them: the right numbers, or an error that says what is wrong and
//! which option helps. The right numbers are NumPy's, in float64.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The inputs, and a folder for reports.
struct Files {
    reports: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self { reports: tempfile::tempdir().unwrap() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.reports.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.at(name), text).unwrap();
        self.at(name).display().to_string()
    }

    fn eval(&self, arguments: &[&str]) -> Output {
        self.xent(&[&["eval", "--json"], arguments].concat())
    }

    fn xent(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_xent"))
            .args(arguments)
            .arg("--out")
            .arg(self.at("report"))
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files"))
            .output()
            .unwrap()
    }

    /// Classes, NLL and accuracy of every model.
    fn scores(&self, arguments: &[&str]) -> Vec<(u64, f64, f64)> {
        let output = self.eval(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {errors}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let number = |value: &Value| value.as_f64().unwrap();
        let models = report["models"].as_array().unwrap().iter();
        models
            .map(|model| {
                let raw = &model["raw"];
                (
                    model["classes"].as_u64().unwrap(),
                    number(&raw["nll"]["value"]),
                    number(&raw["accuracy"]["value"]),
                )
            })
            .collect()
    }

    fn scores_are(&self, arguments: &[&str], right: &[(u64, f64, f64)]) {
        let found = self.scores(arguments);
        let near = |(a, b): (&(u64, f64, f64), &(u64, f64, f64))| {
            a.0 == b.0 && (a.1 - b.1).abs() < 5e-5 && (a.2 - b.2).abs() < 1e-12
        };
        assert!(
            found.len() == right.len() && found.iter().zip(right).all(near),
            "{arguments:?}: {found:?}, expected {right:?}"
        );
    }

    fn refused(&self, arguments: &[&str], says: &str) {
        self.xent_refused(&[&["eval"], arguments].concat(), says);
    }

    fn xent_refused(&self, arguments: &[&str], says: &str) {
        let output = self.xent(arguments);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
        assert!(message.contains(says), "{arguments:?}: {message}");
    }
}

const FIRST: (u64, f64, f64) = (4, 0.6128, 0.825);

#[test]
fn labels_are_no_class_whichever_file_has_them() {
    let files = Files::new();
    files.scores_are(
        &["--logits=a_label.csv", "--compare=b_label.csv", "--targets=a_label.csv:label"],
        &[FIRST, (4, 0.8445, 0.825)],
    );
    for (logits, labels) in [
        ("./a_label.csv", "a_label.csv:label"),
        ("a_label.csv", "labels.npy"),
        ("a_label.csv", "float_labels.csv:label"),
        ("float_labels.csv", "labels.npy"),
        ("pandas_index.csv", "pandas_index.csv:label"),
        ("noheader_logits.csv", "noheader_labels.csv"),
        ("noheader_logits.csv", "labels.npy"),
    ] {
        files.scores_are(&["--logits", logits, "--targets", labels], &[FIRST]);
    }
    files.scores_are(&["--logits=a_label.csv"], &[FIRST]);
}

#[test]
fn classes_are_in_the_order_of_their_numbers() {
    let files = Files::new();
    files.scores_are(
        &["--logits=columns_alphabetical.csv", "--targets=columns_alphabetical.csv:label"],
        &[(12, 0.7606, 0.9)],
    );
    files.scores_are(
        &[
            "--logits=columns_alphabetical.csv",
            "--targets=columns_alphabetical.csv:label",
            "--columns=class_*",
        ],
        &[(12, 0.7606, 0.9)],
    );
}

#[test]
fn a_column_that_may_be_no_class_is_an_error_that_names_the_option() {
    let files = Files::new();
    files.refused(
        &["--logits=binary_id_score.csv", "--targets=binary_id_score.csv:label"],
        "column id is not a class by its name; --drop id leaves it out",
    );
    files.refused(
        &["--logits=semicolon_decimal_comma.csv", "--targets=semicolon_decimal_comma.csv:label"],
        "'-0,656' with a decimal comma, expected a decimal point",
    );
    let rows = |row: &dyn Fn(usize) -> String| (0..12).map(row).collect::<String>();
    let count = rows(&|i| format!("{},{}.5,{}.25,{}\n", i, i % 3, i % 2, i % 2));
    let counted = files.write("counted.csv", &format!("n,cat,dog,label\n{count}"));
    files.refused(&["--logits", &counted], "column n is an index: it counts the rows; --drop n");
    assert_eq!(files.scores(&["--logits", &counted, "--drop=n"])[0].0, 2);
    assert_eq!(files.scores(&["--logits", &counted, "--columns=cat..dog"])[0].0, 2);
    files.refused(&["--logits", &counted, "--drop=m"], "no column 'm'");
    let whole = rows(&|i| format!("{}.5,{}.25,{}\n", i % 3, i % 2, i % 2));
    let whole = files.write("whole.csv", &whole);
    files.refused(
        &["--logits", &whole, "--targets=labels.npy"],
        "column 2 has whole numbers only, as labels have",
    );
    assert_eq!(files.scores(&["--logits", &whole, "--targets", &format!("{whole}:2")])[0].0, 2);
    let zero = files.write("zero.csv", "0\n1\n1\n");
    files.refused(
        &["--logits=a_label.csv", "--targets", &zero],
        "its only column begins with 0, which is either its name",
    );
}

#[test]
fn a_score_per_row_is_that_of_class_1() {
    let files = Files::new();
    let logits = ["--binary", "--logits=binary_id_score.csv:score"];
    files.scores_are(&logits, &[(2, 0.73334774, 0.6)]);
    files
        .refused(&["--binary", "--logits=binary_id_score.csv"], "expected a name after the file's");
    let p = files.write("p.csv", "p,label\n0.75,1\n0.25,1\n0.5,0\n");
    let place = format!("{p}:p");
    let nll = -(0.75f64.ln() + 0.25f64.ln() + 0.5f64.ln()) / 3.0;
    let right = [(2, nll, 2.0 / 3.0)];
    files.scores_are(&["--binary", "--probabilities", "--logits", &place], &right);
    // Beside another model of the same rows.
    let both = ["--binary", "--probabilities", "--logits", &place, "--compare", &place];
    let named = ["--names=a,b", "--targets", &format!("{p}:label")];
    files.scores_are(&[&both[..], &named].concat(), &[right[0], right[0]]);
    let out_of_range = files.write("q.csv", "q,label\n1.25,1\n0.5,0\n");
    files.refused(
        &["--binary", "--probabilities", "--logits", &format!("{out_of_range}:q")],
        "row 0 is no distribution",
    );
}

#[test]
fn separators_and_compression_are_seen() {
    let files = Files::new();
    let text = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files/a_label.csv"),
    )
    .unwrap();
    for (name, separator) in [("a.tsv", "\t"), ("tabs.csv", "\t"), ("semicolons.csv", ";")] {
        let file = files.write(name, &text.replace(',', separator));
        files.scores_are(&["--logits", &file], &[FIRST]);
    }
    let file = files.at("a.csv.gz");
    let mut gzip = flate2::write::GzEncoder::new(
        std::fs::File::create(&file).unwrap(),
        flate2::Compression::default(),
    );
    std::io::Write::write_all(&mut gzip, text.as_bytes()).unwrap();
    gzip.finish().unwrap();
    let file = file.display().to_string();
    files.scores_are(&["--logits", &file, "--targets", &format!("{file}:label")], &[FIRST]);
}

#[test]
fn shards_are_in_the_order_of_their_numbers() {
    let files = Files::new();
    files.scores_are(&["--logits=shards/logits_*.npy", "--targets=labels.npy"], &[FIRST]);
    files.scores_are(&["--logits=shards/logits_*.npy", "--targets=shards/labels_*.npy"], &[FIRST]);
    // As a shell lists them.
    let mut listed: Vec<String> =
        (0..12).map(|shard| format!("shards/logits_{shard}.npy")).collect();
    listed.sort();
    let mut arguments = vec!["--targets=labels.npy", "--logits"];
    arguments.extend(listed.iter().map(String::as_str));
    files.refused(&arguments, "shards/logits_11.npy comes before shards/logits_2.npy");
    files.refused(
        &["--targets=labels.npy", "--logits", "shards/logits_0.npy", "./shards/logits_0.npy"],
        "are the same file",
    );
}

#[test]
fn labels_of_parquet_have_many_types() {
    let files = Files::new();
    files.scores_are(&["--logits=label_dictionary.parquet"], &[FIRST]);
    files.scores_are(&["--logits=label_bool.parquet"], &[(2, 1.0716, 0.475)]);
    // The strings are the labels, and not the integers called id.
    files.scores_are(&["--logits=id_as_label.parquet"], &[(4, 0.4963, 0.75)]);
}

#[test]
fn probabilities_are_no_logits() {
    let files = Files::new();
    let table = ["--logits", "probabilities.csv", "--targets", "probabilities.csv:label"];
    let output = files.eval(&table);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.contains("--probabilities takes them"), "{stderr}");
    let taken = [&table[..], &["--probabilities"]].concat();
    files.scores_are(&taken, &[(4, 0.6128, 0.825)]);
    assert!(files.eval(&taken).stderr.is_empty());
    let logits = ["--logits", "a_label.csv", "--targets", "a_label.csv:label"];
    assert!(files.eval(&logits).stderr.is_empty());
    let output = files.eval(&[&logits[..], &["--probabilities"]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("a_label.csv: row 0 is no distribution"), "{stderr}");
}

#[test]
fn labels_from_1_get_a_hint() {
    let files = Files::new();
    let path = files.write("ones.csv", "cat,dog,label\n1.5,0.5,1\n0.5,1.25,2\n");
    let output = files.eval(&["--logits", &path, "--targets", &format!("{path}:label")]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("classes are counted from 0"), "{stderr}");
}

#[test]
fn tables_that_are_none_say_what_they_lack() {
    let files = Files::new();
    let wide = |separator: &str| {
        let rows = (0..9).map(|row| ["0.5", "1.25", ["0", "1"][row % 2]].join(separator) + "\n");
        ["cat", "dog", "label"].join(separator) + "\n" + &rows.collect::<String>()
    };
    for (name, separator) in [("bars.csv", "|"), ("spaces.csv", " ")] {
        let file = files.write(name, &wide(separator));
        let says = format!(
            "its classes are the column cat{separator}dog{separator}label alone; expected at least two columns of numbers, separated by commas"
        );
        files.refused(&["--logits", &file], &says);
        files.refused(&["--logits", &file, "--targets=labels.npy"], &says);
    }
    let file = files.write("lists.csv", "logits,label\n\"[0.5, 1.5]\",1\n");
    files.refused(&["--logits", &file], "its classes are the column logits alone");
    for (order, name) in
        [(u16::to_le_bytes as fn(u16) -> [u8; 2], "le.csv"), (u16::to_be_bytes, "be.csv")]
    {
        let text = format!("\u{feff}{}", wide(","));
        std::fs::write(files.at(name), text.encode_utf16().flat_map(order).collect::<Vec<_>>())
            .unwrap();
        let file = files.at(name).display().to_string();
        files.refused(&["--logits", &file], "it is in UTF-16, expected UTF-8");
    }
    // A name for the rows that the header does not have, as R writes it.
    let rows = (0..9).map(|row| format!("{},0.5,1.25,{}\n", row + 1, row % 2));
    let file = files.write("short.csv", &format!("cat,dog,label\n{}", rows.collect::<String>()));
    files.refused(&["--logits", &file], "row 0 has 4 fields, expected 3");
    for (name, says) in [
        ("z.feather", "its name ends in '.feather', expected .npy"),
        ("z.csv.zst", "its name ends in '.zst', expected .npy"),
    ] {
        files.refused(&["--logits", &files.write(name, "")], says);
    }
    files.refused(&["--logits=labels.npy"], "--targets is missing: labels.npy has no labels");
}

#[test]
fn rows_that_can_be_left_out_name_the_option() {
    let files = Files::new();
    let table = |row: &str| {
        let rows = format!("cat,dog,label\n1.5,0.5,0\n{row}\n0.5,1.25,0\n");
        files.write("table.csv", &rows)
    };
    let masked = table("0.5,1.5,-100");
    files.refused(&["--logits", &masked], "; --ignore-index=-100 leaves such rows out");
    assert_eq!(files.scores(&["--logits", &masked, "--ignore-index=-100"])[0].2, 0.5);
    let holes = table("0.5,NaN,1");
    files.refused(&["--logits", &holes], "; --skip-non-finite leaves such rows out");
    assert_eq!(files.scores(&["--logits", &holes, "--skip-non-finite"])[0].2, 0.5);
}

#[test]
fn parquet_may_have_a_column_per_class() {
    let files = Files::new();
    for arguments in [
        &["--logits=wide.parquet"][..],
        &["--logits=./wide.parquet", "--targets=wide.parquet:label"],
        &["--logits=wide.parquet", "--targets=labels.npy"],
        &["--logits=wide.parquet", "--columns=class_*"],
        &["--logits=wide.parquet", "--targets=labels.npy", "--drop=label"],
    ] {
        files.scores_are(arguments, &[FIRST]);
    }
    files.refused(
        &["--logits=wide.parquet", "--columns=class_0..class_3", "--drop=class_0"],
        "row 1 has the label 3, expected a class from 0 to 2",
    );
}

#[test]
fn columns_are_chosen_where_there_are_columns() {
    let files = Files::new();
    for option in ["--columns=class_0", "--drop=label"] {
        files.refused(
            &["--logits=shards/logits_*.npy", "--targets=labels.npy", option],
            "--columns and --drop are for tables",
        );
    }
    files.refused(
        &["--logits=label_bool.parquet:logits", "--drop=label"],
        "its logits are the column logits, of which --columns and --drop choose nothing",
    );
    files.refused(&["--logits=label_bool.parquet", "--drop=id"], "no column 'id'; it has");
    files.scores_are(&["--logits=label_bool.parquet", "--drop=label"], &[(2, 1.0716, 0.475)]);
}

#[test]
fn labels_may_be_names_of_classes() {
    let files = Files::new();
    let text = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files/a_label.csv"),
    )
    .unwrap();
    const NAMES: [&str; 4] = ["cat", "dog", "new york", "ox"];
    let named: String = text
        .lines()
        .skip(1)
        .map(|line| {
            let (logits, label) = line.rsplit_once(',').unwrap();
            format!("{logits},{}\n", NAMES[label.parse::<usize>().unwrap()])
        })
        .collect();
    let plain = files.write("plain.csv", &format!("cat,dog,new york,ox,animal\n{named}"));
    let prefixed =
        files.write("prefixed.csv", &format!("p_cat,p_dog,p_new york,p_ox,label\n{named}"));
    let labels = format!("{plain}:animal");
    files.scores_are(&["--logits", &plain, "--targets", &labels], &[FIRST]);
    files.scores_are(&["--logits", &prefixed], &[FIRST]);
    files.scores_are(&["--logits", &prefixed, "--targets", &labels], &[FIRST]);
    let list = files.write("names.txt", &(NAMES.join("\n") + "\n"));
    for names in ["cat,dog,new york,ox", &list] {
        let numbered = ["--logits=wide.parquet", "--targets", &labels, "--class-names", names];
        files.scores_are(&numbered, &[FIRST]);
    }
    files.refused(
        &["--logits=wide.parquet", "--targets", &labels],
        "column animal: 'new york', expected an integer or a class, one of class_0",
    );
    files.refused(
        &["--logits=wide.parquet", "--targets", &labels, "--class-names=cat,dog"],
        "4 classes, but --class-names has 2 names",
    );
    files.refused(
        &["--logits=wide.parquet", "--class-names=cat,cat"],
        "--class-names names cat twice",
    );
    // Shards whose classes are in another order are not one data set.
    let swapped = files.write("swapped.csv", &format!("dog,cat,new york,ox,animal\n{named}"));
    files.refused(
        &["--logits", &plain, &swapped, "--targets", &labels, &format!("{swapped}:animal")],
        "class 0 is called dog, expected cat as in the files before",
    );
}

#[test]
fn columns_for_training_are_numbers_or_categories_and_no_index() {
    let files = Files::new();
    for command in ["train", "sweep"] {
        for (data, says) in [
            (
                "train_one_typo.csv",
                r#"line 9, column "a": "5.O", expected a number as in most rows"#,
            ),
            (
                "train_decimal_comma.csv",
                r#"line 2, column "a": "-0,656" with a comma, expected a number with a decimal point"#,
            ),
            (
                "train_pandas_index.csv",
                "the column without a name names the rows, as pandas and R write them, and is no feature; --drop '' leaves it out",
            ),
        ] {
            files.xent_refused(&[command, "--data", data], says);
        }
    }
    let few = ["--epochs=2", "--seeds=1", "--epsilon=0", "--hidden=4"];
    for chosen in [["--drop", ""], ["--columns", "a,b"]] {
        let arguments = [&["train", "--data=train_pandas_index.csv"], &chosen[..], &few].concat();
        let output = files.xent(&arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = std::fs::read_to_string(files.at("report").join("report.html")).unwrap();
        assert!(text.contains("2 columns as 2 features"));
    }
}

#[test]
fn the_axis_of_the_classes_is_the_one_that_labels_lack() {
    let files = Files::new();
    let images = ["--logits=nchw_c_eq_w.npy", "--targets=nchw_labels.npy"];
    files.refused(
        &images,
        "nchw_c_eq_w.npy: shape (2, 4, 4, 4), with labels of shape (2, 4, 4): the classes may be on axis 1, 2 or 3; --axis says which",
    );
    let with = |axis| [&images[..], &["--axis", axis]].concat();
    let right = files.scores(&with("1"))[0];
    assert!(right.0 == 4 && (right.1 - 1.4397).abs() < 5e-5, "{right:?}");
    assert_eq!(files.scores(&with("-3")), [right]);
    let last = files.scores(&with("3"))[0];
    assert!((last.1 - 1.5095).abs() < 5e-5, "{last:?}");
    files.refused(&with("4"), "shape (2, 4, 4, 4): no axis 4");
    files.refused(&["--logits=a_label.csv", "--axis=1"], "--axis is for arrays");
}

#[test]
fn labels_that_seem_not_to_fit_are_remarked_on() {
    let files = Files::new();
    let remark = |arguments: &[&str], says: Option<&str>| {
        let output = files.eval(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let remarks = &report["models"][0]["remarks"];
        let page = std::fs::read_to_string(files.at("report").join("report.html")).unwrap();
        match says {
            Some(says) => {
                assert!(stderr.starts_with("warning: ") && stderr.contains(says), "{stderr}");
                assert!(remarks[0].as_str().unwrap().contains(says), "{remarks}");
                let verdict = report["verdict"][0].as_str().unwrap();
                assert!(verdict.contains(says) && page.contains(&says.replace(" %", "\u{a0}%")));
            }
            None => {
                assert!(stderr.is_empty() && remarks.is_null(), "{stderr}{remarks}");
                assert!(!page.contains("far below the") && !page.contains("shifted by one"));
            }
        }
    };
    remark(&["--logits=a_label.csv"], None);
    remark(
        &["--logits=a_label.csv", "--targets=worse_than_chance_labels.npy"],
        Some("The accuracy is 5.00 %, far below the "),
    );
    let text = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files/a_label.csv"),
    )
    .unwrap();
    let with = |first: bool| {
        let rows = text.lines().skip(1).map(|line| {
            let (logits, label) = line.rsplit_once(',').unwrap();
            match (first, label.parse::<usize>().unwrap()) {
                (true, label) => format!("-9.5,{logits},{label}\n"),
                (false, label) => format!("{logits},-9.5,{}\n", label + 1),
            }
        });
        files.write("five.csv", &format!("a,b,c,d,e,label\n{}", rows.collect::<String>()))
    };
    remark(
        &["--logits", &with(true)],
        Some("82.50 % of the rows would be right if every label were one more"),
    );
    remark(
        &["--logits", &with(false)],
        Some("82.50 % of the rows would be right if every label were one less"),
    );
}

#[cfg(target_os = "linux")]
#[test]
fn names_of_files_may_be_any_bytes() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let files = Files::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files");
    let (a, b) = (OsStr::from_bytes(b"a\xff.csv"), OsStr::from_bytes(b"b\xfe.csv"));
    std::fs::copy(folder.join("a_label.csv"), files.reports.path().join(a)).unwrap();
    std::fs::copy(folder.join("b_label.csv"), files.reports.path().join(b)).unwrap();
    let xent = |arguments: &[&OsStr]| {
        let output = Command::new(env!("CARGO_BIN_EXE_xent"))
            .args(arguments)
            .current_dir(files.reports.path())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout), String::from_utf8(output.stderr))
    };
    let [eval, json, logits, compare, targets] =
        ["eval", "--json", "--logits", "--compare", "--targets"].map(OsStr::new);
    let labels = OsStr::from_bytes(b"a\xff.csv:label");
    let (code, printed, said) = xent(&[eval, json, logits, a, compare, b, targets, labels]);
    assert_eq!(code, Some(0), "{said:?}");
    let report: Value = serde_json::from_str(&printed.unwrap()).unwrap();
    assert_eq!(report["models"][0]["name"], "a\u{fffd}.csv");
    assert!((report["models"][1]["raw"]["nll"]["value"].as_f64().unwrap() - 0.8445).abs() < 5e-5);
    let (code, _, said) = xent(&[eval, logits, OsStr::from_bytes(b"\xff\x1b.csv")]);
    assert_eq!(code, Some(2));
    let said = said.unwrap();
    assert!(said.contains("No such file") && !said.contains('\u{1b}'), "{said}");
    // A pattern does not leave them out in silence.
    std::fs::copy(folder.join("a_label.csv"), files.at("c.csv")).unwrap();
    let (code, _, said) = xent(&[eval, logits, OsStr::new("*.csv")]);
    assert_eq!(code, Some(2));
    assert!(said.unwrap().contains("is not UTF-8, which *.csv does not match"));
    let few = ["--epochs=1", "--seeds=1", "--epsilon=0", "--hidden=2"].map(OsStr::new);
    for command in ["train", "sweep"].map(OsStr::new) {
        let (code, _, said) = xent(&[&[command, OsStr::new("--data"), a], &few[..]].concat());
        assert_eq!(code, Some(0), "{said:?}");
    }
}
