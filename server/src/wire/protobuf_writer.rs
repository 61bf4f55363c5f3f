//! Appends protobuf fields; the counterpart of the reader.

/// Appends a varint.
#[inline]
pub fn uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes [`uvarint`] appends.
#[inline]
pub fn uvarint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// A field of wire type 0; `int64` goes in as its two's complement.
#[inline]
pub fn varint_field(out: &mut Vec<u8>, number: u32, value: u64) {
    uvarint(out, u64::from(number << 3));
    uvarint(out, value);
}

/// A `sint32` or `sint64`: the sign in the lowest bit.
#[inline]
pub fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

/// A `double`.
#[inline]
pub fn double_field(out: &mut Vec<u8>, number: u32, value: f64) {
    uvarint(out, u64::from(number << 3 | 1));
    out.extend_from_slice(&value.to_le_bytes());
}

/// Bytes, a string or a message.
#[inline]
pub fn bytes_field(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    uvarint(out, u64::from(number << 3 | 2));
    uvarint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A message that `write` appends.
pub fn message_field(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let mut message = Vec::new();
    write(&mut message);
    bytes_field(out, number, &message);
}
