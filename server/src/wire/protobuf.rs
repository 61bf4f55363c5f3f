//! A protobuf field reader that borrows and checks every step. Hot path.

use thiserror::Error;

/// Why bytes are not a protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProtobufError {
    /// A varint, a length or a fixed number runs over the end of its message.
    #[error("the message is cut short")]
    Truncated,
    /// A varint of more than 64 bits.
    #[error("a varint is longer than 64 bits")]
    VarintOverflow,
    /// Field number 0, or one over 2^29.
    #[error("field number {0} is not allowed")]
    FieldNumber(u64),
    /// Wire types 3, 4 (groups), 6 and 7.
    #[error("wire type {0} is not supported")]
    WireType(u8),
    /// A known field came with another wire type than its declaration has.
    #[error("field {0} has the wrong wire type")]
    WrongWireType(u32),
}

/// The value of one field, as it lies in the message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FieldValue<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2: bytes, a string or a message.
    Bytes(&'a [u8]),
    /// Wire type 5.
    Fixed32(u32),
}

/// One field of a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Field<'a> {
    /// The number of the declaration.
    pub number: u32,
    /// The value.
    pub value: FieldValue<'a>,
}

impl<'a> Field<'a> {
    /// The value of a string, bytes or message field.
    ///
    /// # Errors
    /// The field came with another wire type.
    pub fn bytes(&self) -> Result<&'a [u8], ProtobufError> {
        match self.value {
            FieldValue::Bytes(bytes) => Ok(bytes),
            FieldValue::Varint(_) | FieldValue::Fixed64(_) | FieldValue::Fixed32(_) => {
                Err(ProtobufError::WrongWireType(self.number))
            }
        }
    }

    /// The value of an integer or enum field.
    ///
    /// # Errors
    /// The field came with another wire type.
    pub fn varint(&self) -> Result<u64, ProtobufError> {
        match self.value {
            FieldValue::Varint(value) => Ok(value),
            FieldValue::Bytes(_) | FieldValue::Fixed64(_) | FieldValue::Fixed32(_) => {
                Err(ProtobufError::WrongWireType(self.number))
            }
        }
    }

    /// The value of a `double` field.
    ///
    /// # Errors
    /// The field came with another wire type.
    pub fn double(&self) -> Result<f64, ProtobufError> {
        match self.value {
            FieldValue::Fixed64(bits) => Ok(f64::from_bits(bits)),
            FieldValue::Bytes(_) | FieldValue::Varint(_) | FieldValue::Fixed32(_) => {
                Err(ProtobufError::WrongWireType(self.number))
            }
        }
    }
}

/// Walks the fields of one message.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the first field of a message.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes lie before the next field.
    #[inline]
    pub fn position(&self) -> usize {
        self.at
    }

    /// The bytes of the message in `[from, to)` (offsets that [`Reader::position`] gave).
    #[inline]
    pub fn span(&self, from: usize, to: usize) -> &'a [u8] {
        self.bytes.get(from..to).unwrap_or_default()
    }

    /// The next byte, without moving.
    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// A varint that is no field: one of a packed list.
    ///
    /// # Errors
    /// The bytes end inside of it, or it has more than 64 bits.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, ProtobufError> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0u64;
        let mut shift = 0u32;
        loop {
            let byte = *self.bytes.get(self.at).ok_or(ProtobufError::Truncated)?;
            self.at += 1;
            // The tenth byte holds the last bit of 64.
            if shift == 63 && byte > 1 {
                return Err(ProtobufError::VarintOverflow);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    #[inline]
    fn take(&mut self, len: u64) -> Result<&'a [u8], ProtobufError> {
        let len = usize::try_from(len).map_err(|_| ProtobufError::Truncated)?;
        let end = self.at.checked_add(len).ok_or(ProtobufError::Truncated)?;
        let part = self.bytes.get(self.at..end).ok_or(ProtobufError::Truncated)?;
        self.at = end;
        Ok(part)
    }

    /// The next field, or `None` at the end of the message.
    ///
    /// # Errors
    /// The bytes are not a field.
    #[inline]
    pub fn next_field(&mut self) -> Result<Option<Field<'a>>, ProtobufError> {
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = key >> 3;
        if number == 0 || number > 0x1fff_ffff {
            return Err(ProtobufError::FieldNumber(number));
        }
        let value = match (key & 7) as u8 {
            0 => FieldValue::Varint(self.varint()?),
            1 => FieldValue::Fixed64(u64::from_le_bytes(self.fixed()?)),
            2 => {
                let len = self.varint()?;
                FieldValue::Bytes(self.take(len)?)
            }
            5 => FieldValue::Fixed32(u32::from_le_bytes(self.fixed()?)),
            other => return Err(ProtobufError::WireType(other)),
        };
        Ok(Some(Field { number: number as u32, value }))
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], ProtobufError> {
        let part = self.take(N as u64)?;
        part.try_into().map_err(|_| ProtobufError::Truncated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_every_wire_type() {
        let bytes = b"\x08\x96\x01\x11\0\0\0\0\0\0\xf0\x3f\x1a\x02hi\x25\x01\0\0\0";
        let mut reader = Reader::new(bytes);
        let mut seen = Vec::new();
        while let Some(field) = reader.next_field().unwrap() {
            seen.push(field.value);
        }
        let expected = [
            FieldValue::Varint(150),
            FieldValue::Fixed64(1f64.to_bits()),
            FieldValue::Bytes(b"hi"),
            FieldValue::Fixed32(1),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn malformed_bytes_are_named() {
        let cases: [(&[u8], ProtobufError); 8] = [
            (b"\x08", ProtobufError::Truncated),
            (b"\x08\x80", ProtobufError::Truncated),
            (b"\x0a\x05abc", ProtobufError::Truncated),
            (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", ProtobufError::Truncated),
            (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", ProtobufError::VarintOverflow),
            (b"\x00\x01", ProtobufError::FieldNumber(0)),
            (b"\x0b", ProtobufError::WireType(3)),
            (b"\x09\x01", ProtobufError::Truncated),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Reader::new(bytes).next_field(), Err(expected), "{bytes:?}");
        }
    }
}
