//! The header: a Python dictionary in exactly the form that the format prescribes. Nothing in it
//! nests, so nothing here recurses.

use super::MOST_AXES;
use super::array::Shape;
use super::values::{ByteOrder, Dtype};
use crate::error::Problem;

/// The contents of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The type of the entries.
    pub dtype: Dtype,
    /// The byte order of the entries.
    pub byte_order: ByteOrder,
    /// Whether the first axis varies fastest.
    pub fortran_order: bool,
    /// The length of each axis.
    pub shape: Vec<usize>,
}

impl Header {
    /// Reads `{'descr': …, 'fortran_order': …, 'shape': …}`, the keys in any order.
    pub fn parse(text: &[u8]) -> Result<Self, Problem> {
        let mut cursor = Cursor { text, at: 0 };
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        cursor.expect(b'{', "{")?;
        while !cursor.eat(b'}') {
            let key = cursor.string("a key in quotes, or }")?;
            cursor.expect(b':', ":")?;
            match key {
                b"descr" => once("descr", &mut descr, cursor.descr()?)?,
                b"fortran_order" => once("fortran_order", &mut fortran_order, cursor.truth()?)?,
                b"shape" => once("shape", &mut shape, cursor.shape()?)?,
                other => {
                    let other = excerpt(other);
                    return Err(Problem(format!(
                        "the header has the key '{other}', expected only 'descr', 'fortran_order' and 'shape'"
                    )));
                }
            }
            if !cursor.eat(b',') {
                cursor.expect(b'}', ", or }")?;
                break;
            }
        }
        cursor.end()?;
        let lacks = |key: &str| Problem(format!("the header lacks the key '{key}'"));
        let (dtype, byte_order) = descr.ok_or_else(|| lacks("descr"))?;
        let fortran_order = fortran_order.ok_or_else(|| lacks("fortran_order"))?;
        let shape = shape.ok_or_else(|| lacks("shape"))?;
        Ok(Self { dtype, byte_order, fortran_order, shape })
    }

    /// Whether at most one axis is longer than 1.
    pub fn is_flat(&self) -> bool {
        self.shape.iter().filter(|length| **length > 1).count() <= 1
    }

    /// The number of entries. The check for overflow leaves out lengths of 0, because strides are
    /// products of the other lengths.
    pub fn entries(&self) -> Result<usize, Problem> {
        let limit = isize::MAX as usize / self.dtype.size();
        self.shape
            .iter()
            .filter(|&&length| length > 0)
            .try_fold(1usize, |product, &length| {
                product.checked_mul(length).filter(|&product| product <= limit)
            })
            .map(|product| if self.shape.contains(&0) { 0 } else { product })
            .ok_or_else(|| {
                Problem(format!("shape {} has more bytes than any file", Shape(&self.shape)))
            })
    }
}

fn once<T>(key: &'static str, slot: &mut Option<T>, value: T) -> Result<(), Problem> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Problem(format!("the header has the key '{key}' twice, expected it once"))),
    }
}

/// The beginning of a text from a file, escaped because it goes to a terminal.
fn excerpt(text: &[u8]) -> String {
    const SHOWN: usize = 24;
    let dots = if text.len() > SHOWN { "…" } else { "" };
    let shown = text[..text.len().min(SHOWN)].escape_ascii().to_string();
    format!("{}{dots}", shown.replace("\\'", "'"))
}

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        let rest = &self.text[self.at..];
        self.at +=
            rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.text.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), Problem> {
        if self.eat(byte) { Ok(()) } else { Err(self.unexpected(expected)) }
    }

    fn unexpected(&self, expected: &'static str) -> Problem {
        let found = match self.text.get(self.at) {
            Some(byte) => format!("'{}'", byte.escape_ascii()),
            None => "the end".to_owned(),
        };
        Problem(format!("byte {} of the header is {found}, expected {expected}", self.at))
    }

    fn end(&mut self) -> Result<(), Problem> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.unexpected("nothing but white space after }")),
        }
    }

    /// A string in single or double quotes, without escapes: no key or type needs one.
    fn string(&mut self, expected: &'static str) -> Result<&'a [u8], Problem> {
        let quote = self
            .peek()
            .filter(|byte| matches!(byte, b'\'' | b'"'))
            .ok_or_else(|| self.unexpected(expected))?;
        let start = self.at + 1;
        let length = self.text[start..]
            .iter()
            .take_while(|&&byte| byte != quote && byte != b'\\' && (b' '..=b'~').contains(&byte))
            .count();
        self.at = start + length;
        if self.text.get(self.at) != Some(&quote) {
            return Err(self.unexpected("printable ASCII without escapes, up to the closing quote"));
        }
        self.at += 1;
        Ok(&self.text[start..start + length])
    }

    fn word(&mut self) -> &'a [u8] {
        self.peek();
        let rest = &self.text[self.at..];
        &rest[..rest
            .iter()
            .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_')
            .count()]
    }

    fn truth(&mut self) -> Result<bool, Problem> {
        let word = self.word();
        let truth = match word {
            b"True" => true,
            b"False" => false,
            _ => return Err(self.unexpected("True or False")),
        };
        self.at += word.len();
        Ok(truth)
    }

    /// A tuple of lengths. A single length needs a comma after it, as in Python.
    fn shape(&mut self) -> Result<Vec<usize>, Problem> {
        let mut shape = Vec::new();
        self.expect(b'(', "( of a tuple of lengths")?;
        while !self.eat(b')') {
            if shape.len() == MOST_AXES {
                return Err(Problem(format!("a shape with more than {MOST_AXES} axes")));
            }
            shape.push(self.length()?);
            if !self.eat(b',') {
                let expected =
                    if shape.len() == 1 { ", after the only length of a tuple" } else { ", or )" };
                if shape.len() == 1 || !self.eat(b')') {
                    return Err(self.unexpected(expected));
                }
                break;
            }
        }
        Ok(shape)
    }

    fn length(&mut self) -> Result<usize, Problem> {
        let expected = "a length: decimal digits, less than 2⁶³";
        let whole = self.word();
        // As Python 2 wrote long integers.
        let word = whole.strip_suffix(b"L").unwrap_or(whole);
        let plain = !word.is_empty()
            && word.iter().all(u8::is_ascii_digit)
            && (word[0] != b'0' || word.len() == 1);
        let length =
            str::from_utf8(word).ok().filter(|_| plain).and_then(|word| word.parse::<i64>().ok());
        let length = length
            .and_then(|length| usize::try_from(length).ok())
            .ok_or_else(|| self.unexpected(expected))?;
        self.at += whole.len();
        Ok(length)
    }

    fn descr(&mut self) -> Result<(Dtype, ByteOrder), Problem> {
        if matches!(self.peek(), Some(b'[' | b'(' | b'{')) {
            return Err(unsupported(&self.text[self.at..], "structured"));
        }
        let text = self.string("the descr: a type in quotes")?;
        dtype(text).ok_or_else(|| unsupported(text, kind(text)))
    }
}

fn unsupported(descr: &[u8], kind: &str) -> Problem {
    Problem(format!(
        "dtype '{}' ({kind}), expected int, uint or float of 8 to 64 bits, bool, or bfloat16 (V2)",
        excerpt(descr)
    ))
}

/// `<f4`, `>i8`, `|u1`, … Only types of one byte may omit the byte order.
fn dtype(descr: &[u8]) -> Option<(Dtype, ByteOrder)> {
    let (order, code) = str::from_utf8(descr).ok()?.split_at_checked(1)?;
    let dtype = Dtype::from_code(code)?;
    let byte_order = match order {
        "<" => ByteOrder::Little,
        // To NumPy, void types have no byte order; ml_dtypes stores the machine's, which is
        // little-endian wherever NumPy is built today.
        "|" if dtype.size() == 1 || dtype == Dtype::Bf16 => ByteOrder::Little,
        ">" if dtype != Dtype::Bf16 => ByteOrder::Big,
        _ => return None,
    };
    Some((dtype, byte_order))
}

/// The kind of an unsupported `descr`.
fn kind(descr: &[u8]) -> &'static str {
    let letters = match descr {
        [b'<' | b'>' | b'|' | b'=', rest @ ..] => rest,
        all => all,
    };
    match letters {
        code if str::from_utf8(code).is_ok_and(|code| Dtype::from_code(code).is_some()) => {
            "a byte order that does not match it"
        }
        [b'O', ..] => "Python objects",
        [b'S' | b'a' | b'U' | b'T', ..] => "strings",
        [b'M', ..] => "dates",
        [b'm', ..] => "time spans",
        [b'c', ..] => "complex numbers",
        [b'V', ..] => "raw bytes",
        [b'f', b'1', ..] | [b'g', ..] => "extended precision",
        _ => "no type that NumPy writes",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dtype_in_both_orders() {
        for &expected in Dtype::ALL {
            for (order, byte_order) in
                [("<", ByteOrder::Little), (">", ByteOrder::Big), ("|", ByteOrder::Little)]
            {
                let descr = format!("{order}{}", expected.code());
                let ambiguous = match order {
                    "|" => expected.size() > 1 && expected != Dtype::Bf16,
                    ">" => expected == Dtype::Bf16,
                    _ => false,
                };
                assert_eq!(
                    dtype(descr.as_bytes()),
                    if ambiguous { None } else { Some((expected, byte_order)) },
                    "{descr}"
                );
            }
        }
    }

    #[test]
    fn keys_in_any_order_and_any_spacing() {
        let expected = Header {
            dtype: Dtype::F32,
            byte_order: ByteOrder::Big,
            fortran_order: true,
            shape: vec![3, 4],
        };
        for text in [
            "{'descr': '>f4', 'fortran_order': True, 'shape': (3, 4), }      \n",
            "{'shape':(3,4,),'fortran_order':True,'descr':'>f4'}",
            "\n { \"descr\" : \">f4\" ,\t'shape' : ( 3 , 4 ) , 'fortran_order' : True , } \r\n",
            "{'descr': '>f4', 'fortran_order': True, 'shape': (3L, 4L), }",
        ] {
            assert_eq!(Header::parse(text.as_bytes()).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn entries_are_counted_without_overflow() {
        let entries = |shape: &[usize]| {
            Header {
                dtype: Dtype::F64,
                byte_order: ByteOrder::Little,
                fortran_order: false,
                shape: shape.to_vec(),
            }
            .entries()
        };
        assert_eq!(entries(&[]).unwrap(), 1);
        assert_eq!(entries(&[3, 0, 4]).unwrap(), 0);
        assert_eq!(entries(&[1 << 59]).unwrap(), 1 << 59);
        let overflows = |shape: &[usize]| {
            entries(shape).unwrap_err().to_string().contains("more bytes than any file")
        };
        assert!(overflows(&[1 << 60]));
        assert!(overflows(&[1 << 31, 1 << 31, 1 << 31]));
        assert!(overflows(&[0, 1 << 40, 1 << 40]));
    }
}
