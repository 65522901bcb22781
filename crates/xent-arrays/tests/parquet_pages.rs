//! Parquet pages: what writers write is read, whatever it is compressed with; what a page cannot
//! hold is refused before memory is taken for it, by its column and its place.

use std::io::Write;
use std::sync::Arc;

use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{ArrayRef, FixedSizeListArray, Int32Array, ListArray, RecordBatch};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, ParquetMetaData, ParquetMetaDataWriter, RowGroupMetaData,
};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::SchemaDescriptor;
use xent_arrays::{ArrayError, ClassNames, Columns, Floats, Place, open_labels, open_logits};

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, bytes: &[u8]) -> Place {
        let file = self.0.path().join("z.parquet");
        std::fs::write(&file, bytes).unwrap();
        Place { file, name: None }
    }

    fn refused(&self, file: &[u8], says: &str) {
        let place = self.write(file);
        let read = if file.windows(6).any(|name| name == b"logits") {
            logits(&place).err()
        } else {
            labels(&place).err()
        };
        let message = read.expect(says).to_string();
        assert!(
            message.contains("z.parquet: ") && message.contains(says),
            "{message:?} does not say {says:?}"
        );
    }
}

fn logits(place: &Place) -> Result<Vec<f64>, ArrayError> {
    let (mut rows, mut all) = (open_logits(place, None, &Columns::default(), None)?, Vec::new());
    loop {
        let block = rows.next(1000)?;
        match block.floats.decode() {
            _ if block.rows == 0 => return Ok(all),
            Floats::F32(values) => all.extend(values.into_iter().map(f64::from)),
            Floats::F64(values) => all.extend(values),
            Floats::Encoded(..) => panic!("decoded"),
        }
    }
}

fn labels(place: &Place) -> Result<Vec<i64>, ArrayError> {
    let (mut rows, mut all) = (open_labels(place, &ClassNames::default())?, Vec::new());
    while rows.next(1000, &mut all)? > 0 {}
    Ok(all)
}

fn codecs() -> [Compression; 6] {
    let (gzip, zstd) = (GzipLevel::try_new(9).unwrap(), ZstdLevel::try_new(9).unwrap());
    [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::GZIP(gzip),
        Compression::ZSTD(zstd),
    ]
}

/// Rows of four logits as a list and as a list of fixed size, in a table with labels.
fn table(values: &[f64]) -> RecordBatch {
    let rows =
        || values.chunks(4).map(|row| Some(row.iter().copied().map(Some).collect::<Vec<_>>()));
    let single =
        values.chunks(4).map(|row| Some(row.iter().map(|z| Some(*z as f32)).collect::<Vec<_>>()));
    let columns: [(&str, ArrayRef); 3] = [
        ("logits", Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(single))),
        ("wide", Arc::new(FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>(rows(), 4))),
        (
            "label",
            Arc::new(Int32Array::from_iter_values(values.chunks(4).map(|row| row[0] as i32))),
        ),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

#[test]
fn what_writers_write_is_read() {
    let scratch = Scratch::new();
    // A million equal logits, which compress as well as anything; as many that hardly compress;
    // some of both, so that there are dictionaries.
    let equal = vec![3.0; 1 << 20];
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 8) / f64::from(1 << 20)
    };
    let unlike: Vec<f64> = (0..1 << 18).map(|_| random()).collect();
    let few: Vec<f64> = (0..4000).map(|_| random().floor()).collect();
    for codec in codecs() {
        for (version, dictionary) in [
            (WriterVersion::PARQUET_1_0, true),
            (WriterVersion::PARQUET_1_0, false),
            (WriterVersion::PARQUET_2_0, true),
            (WriterVersion::PARQUET_2_0, false),
        ] {
            for values in [&equal, &unlike, &few] {
                let properties = WriterProperties::builder()
                    .set_writer_version(version)
                    .set_compression(codec)
                    .set_dictionary_enabled(dictionary)
                    .set_data_page_size_limit(1 << 24)
                    .set_data_page_row_count_limit(1 << 24)
                    .build();
                let (mut file, table) = (Vec::new(), table(values));
                let mut writer =
                    ArrowWriter::try_new(&mut file, table.schema(), Some(properties)).unwrap();
                writer.write(&table).unwrap();
                writer.flush().unwrap();
                writer.write(&table.slice(0, 10)).unwrap();
                writer.close().unwrap();
                let place = scratch.write(&file);
                let expected = [values, &values[..40]].concat();
                let what =
                    format!("{codec}, {version:?}, dictionary {dictionary}, {} bytes", file.len());
                let named = |name: &str| Place { name: Some(name.to_string()), ..place.clone() };
                assert!(logits(&named("wide")).unwrap() == expected, "{what}");
                let single: Vec<f64> = expected.iter().map(|z| f64::from(*z as f32)).collect();
                assert!(logits(&named("logits")).unwrap() == single, "{what}");
                assert_eq!(
                    labels(&place).unwrap(),
                    expected.chunks(4).map(|row| row[0] as i64).collect::<Vec<_>>(),
                    "{what}"
                );
            }
        }
    }
}

const LABELS: &str = "message table { required int32 label; }";
const LOGITS: &str = "message table { required group logits (LIST) { repeated group list { required float element; } } }";

/// A file of one column whose pages are these bytes, and a footer that believes them.
fn file(schema: &str, codec: Compression, rows: i64, pages: &[u8]) -> Vec<u8> {
    file_of(schema, codec, rows, pages, pages.len())
}

fn file_of(schema: &str, codec: Compression, rows: i64, pages: &[u8], length: usize) -> Vec<u8> {
    let schema = Arc::new(SchemaDescriptor::new(Arc::new(parse_message_type(schema).unwrap())));
    let chunk = ColumnChunkMetaData::builder(schema.column(0))
        .set_compression(codec)
        .set_num_values(rows)
        .set_total_compressed_size(length as i64)
        .set_total_uncompressed_size(length as i64)
        .set_data_page_offset(4)
        .build()
        .unwrap();
    let group = RowGroupMetaData::builder(schema.clone())
        .set_num_rows(rows)
        .set_column_metadata(vec![chunk])
        .build()
        .unwrap();
    let metadata =
        ParquetMetaData::new(FileMetaData::new(1, rows, None, None, schema, None), vec![group]);
    let mut file = [b"PAR1", pages].concat();
    ParquetMetaDataWriter::new(&mut file, &metadata).finish().unwrap();
    file
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// Thrift's compact protocol: a field of 32 bits after the one before it.
fn field(value: u64) -> Vec<u8> {
    [vec![0x15], varint(value << 1)].concat()
}

fn sizes(kind: u64, uncompressed: u64, compressed: u64) -> Vec<u8> {
    [field(kind), field(uncompressed), field(compressed)].concat()
}

fn data_page(uncompressed: u64, compressed: u64, values: u64, encoding: u64) -> Vec<u8> {
    [
        sizes(0, uncompressed, compressed),
        vec![0x2c],
        field(values),
        field(encoding),
        field(3),
        field(3),
        vec![0, 0],
    ]
    .concat()
}

fn dictionary(uncompressed: u64, compressed: u64, values: u64) -> Vec<u8> {
    [sizes(2, uncompressed, compressed), vec![0x4c], field(values), field(0), vec![0, 0]].concat()
}

const PLAIN: u64 = 0;
const RLE_DICTIONARY: u64 = 8;

#[test]
fn claims_are_not_believed() {
    let scratch = Scratch::new();
    let body = [0; 12];
    let with = |header: Vec<u8>| [&header[..], &body].concat();
    // The file that fuzzing found: 2.5 GB for a dictionary that is not there.
    scratch.refused(
        &file(LABELS, Compression::SNAPPY, 5, &with(dictionary(12, 12, 642_554_162))),
        "column label, the page at byte 4: a dictionary of 642554162 values in 12 bytes, expected at most 3",
    );
    for (codec, most) in codecs().into_iter().zip([12, 264, 3060, 3060, 12384, 393_216]) {
        let says = format!(
            "the page at byte 4: 2147483647 bytes, of 12 in the file, expected at most {most}"
        );
        scratch.refused(
            &file(LABELS, codec, 5, &with(data_page(i32::MAX as u64, 12, 5, PLAIN))),
            &says,
        );
        scratch.refused(&file(LABELS, codec, 5, &with(dictionary(i32::MAX as u64, 12, 5))), &says);
    }
    let large = vec![0; 1 << 20];
    let page = [data_page(i32::MAX as u64, 1 << 20, 5, PLAIN), large].concat();
    scratch.refused(
        &file(LABELS, Compression::ZSTD(ZstdLevel::default()), 5, &page),
        "2147483647 bytes, of 1048576 in the file, expected at most 268435456",
    );
    let page = with(data_page(12, 12, 300_000_000, PLAIN));
    scratch.refused(
        &file(LOGITS, Compression::UNCOMPRESSED, 1, &page),
        "column logits, the page at byte 4: 300000000 logits, expected at most 67108864",
    );
    let page = with(data_page(1 << 30, 1 << 30, 5, PLAIN));
    scratch.refused(
        &file_of(LABELS, Compression::UNCOMPRESSED, 5, &page, 2 << 30),
        "column label, the page at byte 4: 1073741824 bytes, of 1073741824 in the file, expected at most 268435456",
    );
    let page = with(data_page(1 << 27, 1 << 27, 5, PLAIN));
    scratch.refused(
        &file_of(LABELS, Compression::UNCOMPRESSED, 5, &page, 2 << 30),
        "bytes to the end of the file, expected 134217728",
    );
    scratch.refused(
        &file(LABELS, Compression::UNCOMPRESSED, 5, &[0xff; 30]),
        "the page at byte 4: a header that is not a page's, expected one of at most 10000 bytes",
    );
}

/// A page whose logits are all the first one of the dictionary, of a row that begins with it or
/// goes on.
fn equal_logits(values: u64, begins: bool) -> Vec<u8> {
    let run = |count: u64, level: u8| [varint(count << 1), vec![level]].concat();
    let repeated = if begins { [run(1, 0), run(values - 1, 1)].concat() } else { run(values, 1) };
    let levels = |runs: Vec<u8>| [(runs.len() as u32).to_le_bytes().to_vec(), runs].concat();
    let body = [levels(repeated), levels(run(values, 1)), vec![0], varint(values << 1)].concat();
    let length = body.len() as u64;
    [data_page(length, length, values, RLE_DICTIONARY), body].concat()
}

#[test]
fn a_row_has_an_end() {
    let scratch = Scratch::new();
    let zero = [dictionary(4, 4, 1), vec![0; 4]].concat();
    let rows = |count: usize, values: u64| {
        [zero.clone(), equal_logits(values, true).repeat(count)].concat()
    };
    // As many pages as one likes, of a row each: a hundred million logits in a few kilobytes.
    let place = scratch.write(&file(LOGITS, Compression::UNCOMPRESSED, 100, &rows(100, 1 << 20)));
    let (mut rows_read, mut found) =
        (open_logits(&place, None, &Columns::default(), None).unwrap(), 0);
    while let rows @ 1.. = rows_read.next(1).unwrap().rows {
        found += rows;
    }
    assert_eq!((rows_read.classes(), found), (1 << 20, 100));
    // A row that goes on from page to page, 300 million logits long.
    let endless = [rows(1, 1 << 24), equal_logits(1 << 24, false).repeat(18)].concat();
    scratch.refused(
        &file(LOGITS, Compression::UNCOMPRESSED, 1, &endless),
        "a row that does not end, expected one of at most 16777216 logits",
    );
}

#[test]
fn a_page_has_an_end() {
    let scratch = Scratch::new();
    // 300 MB that say they are one, in 300 kB.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    let zeros = vec![0; 1 << 20];
    for _ in 0..300 {
        gzip.write_all(&zeros).unwrap();
        lz4.write_all(&zeros).unwrap();
    }
    for (codec, body) in [
        (Compression::GZIP(GzipLevel::default()), gzip.finish().unwrap()),
        (Compression::LZ4, lz4.finish().unwrap()),
    ] {
        let page = [data_page(1 << 20, body.len() as u64, 5, PLAIN), body].concat();
        scratch.refused(
            &file(LABELS, codec, 5, &page),
            "column label, the page at byte 4: more bytes than its header says, expected 1048576",
        );
    }
}
