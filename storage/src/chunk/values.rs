//! Value payloads: the choice of the smallest form, verification, decoding. Hot path.

use super::ints::{self, FLAGS_MASK, Plan};
use super::number::{self, ExceptionRun, Modelled, NAMED_BITS, POWERS};
use crate::codec::varint::{Cursor, put_ivarint, put_uvarint};
use crate::error::{Error, Result};

const CONSTANT_DECIMAL: u8 = 0x00;
const CONSTANT_BITS: u8 = 0x04;
const RAW: u8 = 0x08;

const MODEL_MASK: u8 = 3;
const DECIMAL: u8 = 1;
const DECIMAL_ULP: u8 = 2;
const FLOAT_ORDER: u8 = 3;
const HAS_EXCEPTIONS: u8 = 4;
/// The code of an exception whose bits have no short name.
const LITERAL: u64 = 7;

/// How hard the smallest form is looked for.
struct Effort {
    /// Above so many bits a sample the other number models are tried as well.
    good_enough_bits: f64,
    /// Whether decimal + ulp is one of them: the search for its exponent costs more than all else.
    tries_ulp: bool,
}

const LASTING: Effort = Effort { good_enough_bits: 10.0, tries_ulp: true };
const PASSING: Effort = Effort { good_enough_bits: 40.0, tries_ulp: false };

/// Encodes columns of values; keeps scratch memory between calls.
#[derive(Debug, Default)]
pub struct ValueEncoder {
    candidate: Vec<u8>,
    decoder: ValueDecoder,
    decoded: Vec<f64>,
    fallbacks: u64,
}

impl ValueEncoder {
    /// An encoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many columns so far were written raw because decoding them did not give back the same bits. Anything but 0 is
    /// a bug of the codec (and costs space, never data).
    pub fn fallbacks(&self) -> u64 {
        self.fallbacks
    }

    /// Appends the payload of `values` to `out`. The payload has been decoded and compared bit for bit. It is never
    /// larger than `1 + 8 * values.len()` bytes.
    pub fn encode_verified(&mut self, values: &[f64], out: &mut Vec<u8>) {
        self.encode_with(values, &LASTING, out);
    }

    /// As [`ValueEncoder::encode_verified`], at a third of the cost for values that compress badly: for payloads that live
    /// in memory until they are encoded once more.
    pub fn encode_passing(&mut self, values: &[f64], out: &mut Vec<u8>) {
        self.encode_with(values, &PASSING, out);
    }

    fn encode_with(&mut self, values: &[f64], effort: &Effort, out: &mut Vec<u8>) {
        let start = out.len();
        encode(values, effort, &mut self.candidate, out);
        self.decoded.clear();
        let payload = out.get(start..).unwrap_or_default();
        let decoded = self.decoder.decode_into(payload, values.len(), &mut self.decoded);
        if decoded.is_err() || !is_same_bits(values, &self.decoded) {
            self.fallbacks += 1;
            out.truncate(start);
            encode_raw(values, out);
        }
    }
}

fn is_same_bits(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

fn encode(values: &[f64], effort: &Effort, candidate: &mut Vec<u8>, out: &mut Vec<u8>) {
    let Some(first) = values.first() else { return };
    if values.iter().all(|v| v.to_bits() == first.to_bits()) {
        return encode_constant(*first, out);
    }
    let start = out.len();
    encode_raw(values, out);
    let mut offer = |candidate: &mut Vec<u8>| {
        if candidate.len() < out.len() - start {
            out.truncate(start);
            out.extend_from_slice(candidate);
        }
        candidate.clear();
    };
    candidate.clear();
    if let Some((exponent, modelled)) = number::decimal(values) {
        let plan = ints::plan(&modelled.integers);
        encode_modelled(DECIMAL, Some(exponent), &modelled, &plan, candidate);
        let is_good = candidate.len() as f64 * 8.0 < effort.good_enough_bits * values.len() as f64;
        offer(candidate);
        if is_good {
            return;
        }
    }
    let modelled = number::float_order(values);
    encode_modelled(FLOAT_ORDER, None, &modelled, &ints::plan(&modelled.integers), candidate);
    offer(candidate);
    if !effort.tries_ulp {
        return;
    }
    if let Some((exponent, near, distances)) = number::decimal_ulp(values) {
        encode_ulp(exponent, &near, &distances, candidate);
        offer(candidate);
    }
}

fn encode_constant(value: f64, out: &mut Vec<u8>) {
    let start = out.len();
    let exponent = number::smallest_exponent(value);
    if let Some((exponent, integer)) = exponent.and_then(|e| Some((e, number::exact_integer(value, e)?))) {
        out.extend_from_slice(&[CONSTANT_DECIMAL, exponent as u8]);
        put_ivarint(out, integer);
    }
    if !(1..=8).contains(&(out.len() - start)) {
        out.truncate(start);
        out.push(CONSTANT_BITS);
        out.extend_from_slice(&value.to_bits().to_le_bytes());
    }
}

fn encode_raw(values: &[f64], out: &mut Vec<u8>) {
    out.push(RAW);
    out.extend(values.iter().flat_map(|v| v.to_bits().to_le_bytes()));
}

fn first_byte(model: u8, exceptions: &[ExceptionRun], plan: &Plan) -> u8 {
    model | plan.flags() | if exceptions.is_empty() { 0 } else { HAS_EXCEPTIONS }
}

fn encode_modelled(model: u8, exponent: Option<u8>, modelled: &Modelled, plan: &Plan, out: &mut Vec<u8>) {
    out.push(first_byte(model, &modelled.exceptions, plan));
    out.extend(exponent);
    encode_exceptions(&modelled.exceptions, out);
    plan.write(out);
}

fn encode_ulp(exponent: u8, near: &Modelled, distances: &[i64], out: &mut Vec<u8>) {
    let plan = ints::plan(&near.integers);
    out.push(first_byte(DECIMAL_ULP, &near.exceptions, &plan));
    out.push(exponent);
    encode_exceptions(&near.exceptions, out);
    let mut first_column = Vec::new();
    plan.write(&mut first_column);
    put_uvarint(out, first_column.len() as u64);
    out.append(&mut first_column);
    let plan = ints::plan(distances);
    out.push(DECIMAL_ULP | plan.flags());
    plan.write(out);
}

fn encode_exceptions(runs: &[ExceptionRun], out: &mut Vec<u8>) {
    if runs.is_empty() {
        return;
    }
    put_uvarint(out, runs.len() as u64);
    let mut end = 0;
    for run in runs {
        let named = NAMED_BITS.iter().position(|b| *b == run.bits);
        let code = named.map_or(LITERAL, |code| code as u64);
        let gap = (run.start - end) as u64;
        put_uvarint(out, gap << 4 | code << 1 | u64::from(run.length > 1));
        if code == LITERAL {
            out.extend_from_slice(&run.bits.to_le_bytes());
        }
        if run.length > 1 {
            put_uvarint(out, run.length as u64);
        }
        end = run.start + run.length;
    }
}

/// Decodes columns of values; keeps scratch memory between calls.
#[derive(Debug, Default)]
pub struct ValueDecoder {
    integers: Vec<i64>,
    distances: Vec<i64>,
    padded: Vec<u8>,
}

impl ValueDecoder {
    /// A decoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the `count` values of `payload`, which holds nothing else, to `out`. Allocates memory for `count` samples
    /// and the payload, whatever the bytes say.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Corrupt`] if the bytes are not a payload of `count` values; `out` is then as before.
    pub fn decode_into(&mut self, payload: &[u8], count: usize, out: &mut Vec<f64>) -> Result<()> {
        let start = out.len();
        let decoded = self.decode(payload, count, out);
        if decoded.is_none() {
            out.truncate(start);
        }
        decoded.ok_or_else(|| {
            Error::corrupt(format!("{} bytes are not the payload of {count} values", payload.len()))
        })
    }

    fn decode(&mut self, payload: &[u8], count: usize, out: &mut Vec<f64>) -> Option<()> {
        if count == 0 {
            return payload.is_empty().then_some(());
        }
        let mut reader = Cursor::new(payload);
        let flags = reader.u8()?;
        if flags & MODEL_MASK == 0 {
            return decode_unmodelled(flags, &mut reader, count, out);
        }
        let model = flags & MODEL_MASK;
        let power = if model == FLOAT_ORDER { 1.0 } else { *POWERS.get(usize::from(reader.u8()?))? };
        let mut exceptions = Cursor::new(reader.rest());
        let start = out.len();
        if flags & HAS_EXCEPTIONS != 0 {
            skip_exceptions(&mut reader)?;
        }
        let (integers, padded) = (&mut self.integers, &mut self.padded);
        if model == DECIMAL_ULP {
            let length = usize::try_from(reader.uvarint()?).ok()?;
            let mut near = Cursor::new(reader.bytes(length)?);
            ints::read(flags & FLAGS_MASK, &mut near, count, padded, integers)?;
            let flags = reader.u8()?;
            if flags & !FLAGS_MASK != DECIMAL_ULP {
                return None;
            }
            ints::read(flags & FLAGS_MASK, &mut reader, count, padded, &mut self.distances)?;
            out.extend(integers.iter().zip(&self.distances).map(|(integer, distance)| {
                let order = number::near_order(*integer, power).wrapping_add(*distance);
                f64::from_bits(number::from_order(order))
            }));
        } else {
            let flags = flags & FLAGS_MASK;
            let scratch = (padded, integers);
            if model == FLOAT_ORDER {
                let of = |i: i64| f64::from_bits(number::from_order(i));
                ints::extend(flags, &mut reader, count, scratch, out, of)?;
            } else if power == 1.0 {
                ints::extend(flags, &mut reader, count, scratch, out, |i| i as f64)?;
            } else {
                ints::extend(flags, &mut reader, count, scratch, out, |i| i as f64 / power)?;
            }
        }
        if flags & HAS_EXCEPTIONS != 0 {
            apply_exceptions(&mut exceptions, out.get_mut(start..)?)?;
        }
        Some(())
    }
}

fn decode_unmodelled(kind: u8, reader: &mut Cursor<'_>, count: usize, out: &mut Vec<f64>) -> Option<()> {
    match kind {
        CONSTANT_DECIMAL => {
            let power = POWERS.get(usize::from(reader.u8()?))?;
            let value = reader.ivarint()? as f64 / power;
            reader.is_empty().then(|| out.resize(out.len() + count, value))
        }
        CONSTANT_BITS => {
            let value = f64::from_bits(reader.u64()?);
            reader.is_empty().then(|| out.resize(out.len() + count, value))
        }
        RAW => {
            let (values, rest) = reader.rest().as_chunks::<8>();
            let is_whole = values.len() == count && rest.is_empty();
            is_whole.then(|| out.extend(values.iter().map(|b| f64::from_bits(u64::from_le_bytes(*b)))))
        }
        _ => None,
    }
}

/// One run: where it starts after the end of the run before, how long, which bits.
fn read_exception(reader: &mut Cursor<'_>) -> Option<(u64, u64, u64)> {
    let word = reader.uvarint()?;
    let code = word >> 1 & 7;
    let bits = if code == LITERAL { reader.u64()? } else { *NAMED_BITS.get(code as usize)? };
    let length = if word & 1 == 0 { 1 } else { reader.uvarint()? };
    Some((word >> 4, length, bits))
}

fn skip_exceptions(reader: &mut Cursor<'_>) -> Option<()> {
    let runs = reader.uvarint()?;
    // Each run takes at least a byte, so the loop ends with the bytes.
    for _ in 0..runs {
        read_exception(reader)?;
    }
    Some(())
}

fn apply_exceptions(reader: &mut Cursor<'_>, values: &mut [f64]) -> Option<()> {
    let runs = reader.uvarint()?;
    let mut rest = values;
    for _ in 0..runs {
        let (gap, length, bits) = read_exception(reader)?;
        rest = rest.get_mut(usize::try_from(gap).ok()?..)?;
        let (run, after) = rest.split_at_mut_checked(usize::try_from(length).ok()?)?;
        run.fill(f64::from_bits(bits));
        rest = after;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stale_nan;
    use proptest::prelude::*;

    fn round_trip(values: &[f64]) -> usize {
        let mut encoder = ValueEncoder::new();
        let mut out = vec![1, 2, 3];
        encoder.encode_verified(values, &mut out);
        assert_eq!(encoder.fallbacks(), 0, "{:x?}", values.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
        let payload = &out[3..];
        assert!(payload.len() <= 1 + 8 * values.len());
        let mut back = Vec::new();
        ValueDecoder::new().decode_into(payload, values.len(), &mut back).unwrap();
        assert!(is_same_bits(values, &back));
        payload.len()
    }

    #[test]
    fn sizes_of_well_known_shapes() {
        let ramp: Vec<f64> = (0..480).map(|i| 1e6 + f64::from(i) * 7.0).collect();
        let gauge: Vec<f64> = (0..480).map(|i| f64::from(i * 7919 % 100) / 100.0).collect();
        let mut sum = 0.0;
        let sums: Vec<f64> = (0..480)
            .map(|i| {
                sum += f64::from(i * 7919 % 100) / 1e4;
                sum
            })
            .collect();
        let mut gone = ramp.clone();
        gone[100..].fill(stale_nan());
        let noise: Vec<f64> =
            (0..480_u64).map(|i| f64::from_bits(i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2)).collect();
        let cases: [(&str, &[f64], usize); 9] = [
            ("nothing", &[], 0),
            ("one", &[1.5], 3),
            ("constant", &[1234.0; 1920], 4),
            ("minus zero", &[-0.0; 10], 9),
            ("ramp", &ramp, 20),
            ("stale after a while", &gone, 30),
            ("two digits of noise", &gauge, 480),
            ("float sums", &sums, 900),
            ("noise", &noise, 1 + 480 * 8),
        ];
        for (name, values, at_most) in cases {
            let size = round_trip(values);
            assert!(size <= at_most, "{name}: {size} bytes");
        }
    }

    /// Values that break codecs, and neighbours of them.
    fn awkward() -> impl Strategy<Value = f64> {
        let special = [
            0,
            1,
            1 << 63,
            (1 << 63) | 1,
            0x7ff0 << 48,
            0xfff0 << 48,
            0x7ff8 << 48,
            (0x7ff0 << 48) | 2,
            (0x7ff8 << 48) | 1,
            u64::MAX,
            i64::MAX as u64,
            0x000f_ffff_ffff_ffff,
            0x0010_0000_0000_0000,
            0x7fef_ffff_ffff_ffff,
            9_007_199_254_740_991_f64.to_bits(),
            9_007_199_254_740_992_f64.to_bits(),
            9_007_199_254_740_994_f64.to_bits(),
            (-9_007_199_254_740_993_f64).to_bits(),
            9.223_372_036_854_776e18_f64.to_bits(),
            1e22_f64.to_bits(),
        ];
        prop_oneof![
            4 => proptest::sample::select(special.to_vec()).prop_map(f64::from_bits),
            2 => any::<u64>().prop_map(f64::from_bits),
            4 => (-1_000_000_i64..1_000_000, 0_i32..9).prop_map(|(i, e)| i as f64 / 10_f64.powi(e)),
            2 => any::<i64>().prop_map(|i| i as f64),
            2 => (0_u64..40).prop_map(|i| 4_503_599_627_370_490.0 + i as f64),
            2 => (0_u64..9).prop_map(|i| f64::from_bits(0.1_f64.to_bits() + i)),
            1 => Just(0.1 + 0.2),
        ]
    }

    fn columns() -> impl Strategy<Value = Vec<f64>> {
        let walk = (any::<i32>(), proptest::collection::vec(-5_i32..6, 1..600), 0_i32..6).prop_map(
            |(start, steps, e)| {
                let mut sum = f64::from(start);
                steps
                    .into_iter()
                    .map(|s| {
                        sum += f64::from(s) / 10_f64.powi(e);
                        sum
                    })
                    .collect::<Vec<f64>>()
            },
        );
        let few =
            (proptest::collection::vec(awkward(), 1..4), proptest::collection::vec(any::<u8>(), 1..600))
                .prop_map(|(values, picks)| {
                    picks.into_iter().map(|p| values[usize::from(p) % values.len()]).collect()
                });
        let seasoned = (walk.clone(), proptest::collection::vec((any::<u16>(), awkward()), 0..6)).prop_map(
            |(mut walk, spice)| {
                for (at, value) in spice {
                    let at = usize::from(at) % walk.len();
                    walk[at] = value;
                }
                walk
            },
        );
        prop_oneof![walk, few, seasoned, proptest::collection::vec(awkward(), 0..40)]
    }

    proptest! {
        #![proptest_config(crate::tests::cases(12_000))]

        #[test]
        fn any_bits_come_back(values in columns()) {
            round_trip(&values);
        }

        #[test]
        fn hostile_bytes_are_refused_or_read(
            values in columns(),
            edits in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..4),
            cut in any::<u16>(),
            count in 0_usize..2000,
        ) {
            let mut bytes = Vec::new();
            ValueEncoder::new().encode_verified(&values, &mut bytes);
            for (at, byte) in edits {
                let at = usize::from(at) % bytes.len().max(1);
                if let Some(slot) = bytes.get_mut(at.min(20)) { *slot = byte; }
            }
            if cut % 3 == 0 { bytes.truncate(usize::from(cut) % (bytes.len() + 1)); }
            let mut out = vec![7.0];
            for count in [values.len(), count] {
                match ValueDecoder::new().decode_into(&bytes, count, &mut out) {
                    Ok(()) => { prop_assert_eq!(out.len(), 1 + count); out.truncate(1) }
                    Err(e) => { prop_assert_eq!(e.kind(), crate::ErrorKind::Corrupt); prop_assert_eq!(out.len(), 1) }
                }
            }
        }

        #[test]
        fn random_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..80), count in 0_usize..700) {
            let mut out = Vec::new();
            let _ = ValueDecoder::new().decode_into(&bytes, count, &mut out);
            prop_assert!(out.is_empty() || out.len() == count);
        }
    }
}
