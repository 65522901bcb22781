//! The header of a page: a struct in Thrift's compact protocol, of which only the sizes are read
//! (parquet-format, `parquet.thrift`, `PageHeader`). The `parquet` crate does not expose its own
//! parser. This one is stricter, so that the two cannot read different sizes from the same bytes:
//! fields must be in ascending order and therefore occur once, known fields must have their type,
//! and no number may be longer than its type. All writers write such headers.

/// The sizes that a header declares.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PageHeader {
    /// Bytes of the page in memory.
    pub uncompressed: u64,
    /// Bytes of the page in the file.
    pub compressed: u64,
    /// Bytes before the values that are never compressed: the levels in version 2 of data pages.
    pub levels: u64,
    /// Values of a data page, nulls included.
    pub values: u64,
    /// Values of a dictionary.
    pub dictionary: u64,
}

const I32: u8 = 5;
const STRUCT: u8 = 12;
/// The deepest nesting of structs: statistics contain none.
const DEPTH: u8 = 4;

impl PageHeader {
    /// Parses the header at the start of the bytes.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (mut input, mut id) = (Compact(bytes), 0);
        let (mut header, mut uncompressed, mut compressed) = (Self::default(), None, None);
        while let Some(kind) = input.field(&mut id)? {
            match (id, kind) {
                (2, I32) => uncompressed = Some(input.size()?),
                (3, I32) => compressed = Some(input.size()?),
                // The page's type and its checksum.
                (1 | 4, I32) => input.int().map(|_| ())?,
                (5, STRUCT) => header.values = input.sizes::<4>()?[0],
                (6, STRUCT) => input.sizes::<0>().map(|_| ())?,
                (7, STRUCT) => header.dictionary = input.sizes::<2>()?[0],
                (8, STRUCT) => {
                    let [values, _, _, _, definition, repetition] = input.sizes::<6>()?;
                    (header.values, header.levels) =
                        (header.values.max(values), definition + repetition);
                }
                (1..=8, _) => return None,
                _ => input.skip(kind, DEPTH)?,
            }
        }
        Some(Self { uncompressed: uncompressed?, compressed: compressed?, ..header })
    }
}

/// The remaining bytes in the compact protocol. Methods return `None` if the bytes are not what is
/// requested.
struct Compact<'a>(&'a [u8]);

impl Compact<'_> {
    fn bytes(&mut self, count: u64) -> Option<&[u8]> {
        let (bytes, left) = self.0.split_at_checked(usize::try_from(count).ok()?)?;
        self.0 = left;
        Some(bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn int(&mut self) -> Option<i32> {
        let folded = self.varint()?;
        i32::try_from((folded >> 1) as i64 ^ -((folded & 1) as i64)).ok()
    }

    fn size(&mut self) -> Option<u64> {
        self.int()?.try_into().ok()
    }

    /// The type of a struct's next field, whose number is stored as the difference to the previous
    /// one; `Some(None)` at the struct's end.
    fn field(&mut self, id: &mut u32) -> Option<Option<u8>> {
        let byte = self.byte()?;
        let (step, kind) = (byte >> 4, byte & 15);
        *id += u32::from(step);
        match (step, kind) {
            (0, 0) => Some(None),
            (0, _) | (_, 0) => None,
            _ => Some(Some(kind)),
        }
    }

    /// A struct whose first N fields are sizes or small codes; a missing field is 0.
    fn sizes<const N: usize>(&mut self) -> Option<[u64; N]> {
        let (mut sizes, mut id) = ([0; N], 0);
        while let Some(kind) = self.field(&mut id)? {
            match sizes.get_mut(id as usize - 1) {
                Some(size) if kind == I32 => *size = self.size()?,
                Some(_) => return None,
                None => self.skip(kind, DEPTH)?,
            }
        }
        Some(sizes)
    }

    fn skip(&mut self, kind: u8, depth: u8) -> Option<()> {
        match kind {
            // The type itself says whether it is true or false.
            1 | 2 => {}
            3 => self.byte().map(|_| ())?,
            4..=6 => self.varint().map(|_| ())?,
            7 => self.bytes(8).map(|_| ())?,
            8 => {
                let length = self.varint()?;
                self.bytes(length)?;
            }
            STRUCT if depth > 0 => {
                let mut id = 0;
                while let Some(kind) = self.field(&mut id)? {
                    self.skip(kind, depth - 1)?;
                }
            }
            // Lists, sets and maps: a header has none.
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// type 0, uncompressed 100, compressed 60, data page (7 values, plain, levels run-length
    /// encoded, statistics with a minimum of 4 bytes).
    const DATA: &[u8] = &[
        0x15, 0, 0x15, 200, 1, 0x15, 120, 0x2c, 0x15, 14, 0x15, 0, 0x15, 6, 0x15, 6, 0x1c, 0x18, 4,
        1, 2, 3, 4, 0, 0, 0,
    ];

    #[test]
    fn sizes() {
        assert_eq!(
            PageHeader::parse(DATA),
            Some(PageHeader {
                uncompressed: 100,
                compressed: 60,
                values: 7,
                ..PageHeader::default()
            })
        );
        let dictionary =
            [0x15, 4, 0x15, 16, 0x15, 16, 0x15, 9, 0x3c, 0x15, 4, 0x15, 0, 0x12, 0, 0, 99];
        assert_eq!(
            PageHeader::parse(&dictionary),
            Some(PageHeader {
                uncompressed: 8,
                compressed: 8,
                dictionary: 2,
                ..PageHeader::default()
            })
        );
        let second = [
            0x15, 6, 0x15, 16, 0x15, 16, 0x5c, 0x15, 4, 0x15, 0, 0x15, 4, 0x15, 0, 0x15, 2, 0x15,
            6, 0x11, 0, 0,
        ];
        assert_eq!(
            PageHeader::parse(&second),
            Some(PageHeader {
                uncompressed: 8,
                compressed: 8,
                values: 2,
                levels: 4,
                ..PageHeader::default()
            })
        );
    }

    #[test]
    fn what_could_be_read_in_two_ways() {
        for cut in 0..DATA.len() {
            assert_eq!(PageHeader::parse(&DATA[..cut]), None, "{cut}");
        }
        let with = |at: usize, bytes: &[u8]| {
            PageHeader::parse(&[&DATA[..at], bytes, &DATA[at..]].concat())
        };
        // A size once more, by its full number; a number longer than its type; a field without a
        // type; a size of another type; a list.
        assert_eq!(with(7, &[0x05, 4, 0x7e]), None);
        assert_eq!(
            PageHeader::parse(&[0x15, 0, 0x15, 0xff, 0xff, 0xff, 0xff, 0x7f, 0x15, 0, 0]),
            None
        );
        assert_eq!(
            PageHeader::parse(&[
                0x15, 0, 0x15, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
                0x15, 0, 0
            ]),
            None
        );
        assert_eq!(with(7, &[0x10]), None);
        assert_eq!(PageHeader::parse(&[0x15, 0, 0x16, 0, 0x15, 0, 0]), None);
        assert_eq!(with(DATA.len() - 1, &[0x79, 0x10]), None);
        // A negative size, and a struct in a struct in a struct…
        assert_eq!(PageHeader::parse(&[0x15, 0, 0x15, 1, 0x15, 0, 0]), None);
        assert_eq!(with(DATA.len() - 1, &[0x7c; 2000]), None);
    }
}
