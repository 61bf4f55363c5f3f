//! Where the buckets of a native histogram begin and end.
//!
//! The bounds of exponential buckets are part of the data model: clients and servers compute them from the position, and a
//! bound that differs in the last bit is another bound. [`FRACTIONS`] holds the values the Prometheus ecosystem uses, some of
//! which are not the floats nearest to the powers they stand for.

use std::fmt;

/// One bucket with its bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket<N> {
    /// The lower bound.
    pub lower: f64,
    /// The upper bound.
    pub upper: f64,
    /// Whether an observation equal to the lower bound is inside.
    pub lower_inclusive: bool,
    /// Whether an observation equal to the upper bound is inside.
    pub upper_inclusive: bool,
    /// How many observations.
    pub count: N,
}

impl<N> Bucket<N> {
    /// Which bounds are inside, as the HTTP API numbers it: 0 the upper, 1 the lower, 2 neither, 3 both.
    pub fn boundary_rule(&self) -> u8 {
        match (self.lower_inclusive, self.upper_inclusive) {
            (false, true) => 0,
            (true, false) => 1,
            (false, false) => 2,
            (true, true) => 3,
        }
    }

    /// Which share of the bucket's width lies below `value`, which is strictly inside finite bounds: of the bounds
    /// themselves (`linear`), or of their logarithms.
    pub fn share_below(&self, value: f64, linear: bool) -> f64 {
        if linear {
            return (value - self.lower) / (self.upper - self.lower);
        }
        let [lower, upper, value_log] = [self.lower, self.upper, value].map(|v| v.abs().log2());
        if value > 0.0 {
            (value_log - lower) / (upper - lower)
        } else {
            1.0 - (value_log - upper) / (lower - upper)
        }
    }
}

impl fmt::Display for Bucket<f64> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = if self.lower_inclusive { '[' } else { '(' };
        let close = if self.upper_inclusive { ']' } else { ')' };
        let [lower, upper, count] = [self.lower, self.upper, self.count].map(General);
        write!(f, "{open}{lower},{upper}{close}:{count}")
    }
}

/// The upper bound of the positive exponential bucket at `position`: `2^(position / 2^schema)`, and the largest finite float
/// for the bucket of the largest finite floats, so that the next bucket is that of infinity.
pub fn exponential_bound(position: i32, schema: i32) -> f64 {
    let (fraction, exponent) = if schema < 0 {
        (1.0, i64::from(position) << schema.unsigned_abs().min(31))
    } else {
        let schema = schema.min(8);
        let within = position & ((1 << schema) - 1);
        let fraction = FRACTIONS.get((within << (8 - schema)) as usize).copied().unwrap_or(1.0);
        (fraction, i64::from(position >> schema))
    };
    if fraction == 1.0 && exponent == 1024 { f64::MAX } else { scale(fraction, exponent) }
}

/// `fraction * 2^exponent`, rounded once; `fraction` is in `[1, 2)`.
fn scale(fraction: f64, exponent: i64) -> f64 {
    let power = |exponent: i64| f64::from_bits(((exponent + 1023) as u64) << 52);
    match exponent {
        1024.. => f64::INFINITY,
        -1022..1024 => fraction * power(exponent),
        // Subnormal: the first product is exact, the second rounds.
        -1080..-1022 => fraction * power(exponent + 100) * power(-100),
        _ => 0.0,
    }
}

/// A float with the shortest digits that read back the same, with an exponent below 1e-4 and from 1e6 on: `%g` of
/// the Go library.
#[derive(Debug, Clone, Copy)]
pub struct General(pub f64);

impl fmt::Display for General {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0;
        if value.is_nan() {
            return f.write_str("NaN");
        }
        if value.is_infinite() {
            return f.write_str(if value > 0.0 { "+Inf" } else { "-Inf" });
        }
        let scientific = format!("{value:e}");
        let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        if (-4..6).contains(&exponent) {
            return write!(f, "{value}");
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(f, "{digits}e{sign}{:02}", exponent.unsigned_abs())
    }
}

/// `2^(i / 256)` for `i` from 0 on.
#[rustfmt::skip]
#[expect(clippy::approx_constant, reason = "the bound is a neighbour of the constant")]
const FRACTIONS: [f64; 256] = [
    1.0, 1.0027112750502025, 1.0054299011128027, 1.0081558981184175, 1.0108892860517005, 1.0136300849514894,
    1.0163783149109529, 1.019133996077738, 1.0218971486541166, 1.0246677928971357, 1.0274459491187635,
    1.030231637686041, 1.0330248790212284, 1.0358256936019572, 1.0386341019613787, 1.041450124688316,
    1.0442737824274138, 1.0471050958792898, 1.049944085800687, 1.052790773004626, 1.0556451783605572,
    1.0585073227945128, 1.0613772272892619, 1.0642549128844643, 1.0671404006768235, 1.0700337118202417,
    1.0729348675259753, 1.0758438890627908, 1.0787607977571196, 1.081685614993215, 1.084618362213309,
    1.0875590609177694, 1.0905077326652577, 1.0934643990728858, 1.0964290818163767, 1.099401802630222,
    1.102382583307841, 1.1053714457017412, 1.1083684117236785, 1.1113735033448175, 1.1143867425958924,
    1.117408151567369, 1.1204377524096065, 1.1234755673330197, 1.1265216186082418, 1.129575928566288, 1.132638519598719,
    1.1357094141578052, 1.1387886347566916, 1.1418762039695616, 1.144972144431804, 1.1480764788401787,
    1.1511892299529827, 1.1543104205902162, 1.157440073633751, 1.1605782120274986, 1.1637248587775775,
    1.1668800369524817, 1.17004376968325, 1.173216080163637, 1.1763969916502812, 1.1795865274628758, 1.1827847109843408,
    1.1859915656609936, 1.189207115002721, 1.1924313825831512, 1.1956643920398273, 1.1989061670743806,
    1.202156731452703, 1.2054161090051239, 1.2086843236265814, 1.211961399276801, 1.2152473599804687,
    1.2185422298274082, 1.2218460329727572, 1.225158793637145, 1.2284805361068698, 1.2318112847340759,
    1.235151063936933, 1.2384998981998163, 1.241857812073484, 1.245224830175258, 1.2486009771892046, 1.2519862778663162,
    1.255380757024691, 1.2587844395497165, 1.2621973503942505, 1.2656195145788063, 1.2690509571917332,
    1.2724917033894028, 1.275941778396392, 1.279401207505669, 1.2828700160787783, 1.2863482295460256,
    1.2898358734066657, 1.2933329732290895, 1.2968395546510096, 1.3003556433796506, 1.3038812651919358,
    1.307416445934677, 1.3109612115247644, 1.3145155879493549, 1.318079601266064, 1.3216532776031575, 1.325236643159741,
    1.3288297242059544, 1.332432547083161, 1.3360451382041454, 1.339667524053303, 1.3432997311868353,
    1.3469417862329456, 1.3505937158920343, 1.3542555469368927, 1.357927306212901, 1.3616090206382245,
    1.3653007172040117, 1.3690024229745905, 1.3727141650876684, 1.37643597075453, 1.380167867260238, 1.3839098819638318,
    1.387662042298529, 1.3914243757719258, 1.3951969099661998, 1.398979672538311, 1.4027726912202045,
    1.4065759938190152, 1.4103896082172704, 1.414213562373095, 1.4180478843204152, 1.4218926021691654,
    1.4257477441054942, 1.4296133383919698, 1.4334894133677887, 1.437375997448982, 1.4412731191286252,
    1.4451808069770464, 1.4490990896420348, 1.4530279958490522, 1.4569675544014435, 1.4609177941806468,
    1.4648787441464057, 1.4688504333369816, 1.4728328908693673, 1.4768261459394991, 1.4808302278224716,
    1.4848451658727522, 1.4888709895243968, 1.4929077282912646, 1.4969554117672352, 1.5010140696264251,
    1.5050837316234063, 1.5091644275934224, 1.5132561874526096, 1.5173590411982143, 1.5214730189088141,
    1.525598150744538, 1.5297344669472868, 1.5338819978409555, 1.5380407738316564, 1.5422108254079407,
    1.5463921831410214, 1.5505848776849998, 1.5547889397770884, 1.559004400237837, 1.5632312899713576,
    1.5674696399655528, 1.5717194812923414, 1.5759808451078863, 1.5802537626528244, 1.5845382652524933,
    1.5888343843171635, 1.5931421513422668, 1.597461597908627, 1.601792755682693, 1.6061356564167706, 1.610490331949254,
    1.6148568142048605, 1.6192351351948633, 1.6236253270173284, 1.6280274218573476, 1.632441451987275,
    1.6368674497669642, 1.641305447644006, 1.6457554781539645, 1.6502175739206175, 1.6546917676561939,
    1.6591780921616157, 1.6636765803267362, 1.6681872651305822, 1.6727101796415962, 1.6772453570178782,
    1.6817928305074288, 1.6863526334483931, 1.6909247992693046, 1.6955093614893322, 1.7001063537185233,
    1.704715809658051, 1.7093377631004625, 1.7139722479299258, 1.7186192981224775, 1.7232789477462735,
    1.727951230961837, 1.7326361820223106, 1.7373338352737058, 1.742044225155156, 1.7467673861991684,
    1.7515033530318778, 1.756252160373299, 1.7610138430375835, 1.7657884359332723, 1.7705759740635543,
    1.7753764925265207, 1.780190026515424, 1.7850166113189343, 1.7898562823214004, 1.7947090750031065,
    1.7995750249405345, 1.804454167806623, 1.809346539371031, 1.8142521755003982, 1.819171112158608, 1.8241033854070525,
    1.8290490314048966, 1.8340080864093422, 1.8389805867758935, 1.8439665689586255, 1.8489660695104506,
    1.8539791250833852, 1.85900577242882, 1.8640460483977885, 1.8690999899412382, 1.8741676341102995, 1.87924901805656,
    1.8843441790323339, 1.8894531543909385, 1.8945759815869654, 1.899712698176555, 1.9048633418176737,
    1.9100279502703894, 1.915206561397147, 1.9203992131630472, 1.9256059436361244, 1.9308267909876267,
    1.9360617934922941, 1.9413109895286402, 1.9465744175792328, 1.9518521162309779, 1.9571441241753997,
    1.9624504802089269, 1.967771223233175, 1.9731063922552337, 1.9784560263879505, 1.983820164850219,
    1.9891988469672657, 1.9945921121709396,
];

#[cfg(test)]
#[expect(clippy::approx_constant, reason = "the bound is a neighbour of the constant")]
mod tests {
    use super::*;

    #[test]
    fn bounds_at_the_ends_of_the_number_range() {
        let cases = [
            (0, 0, 1.0),
            (1, 0, 2.0),
            (-1, 0, 0.5),
            (0, 8, 1.0),
            (256, 8, 2.0),
            (128, 8, 1.414213562373095),
            (1, 1, 1.414213562373095),
            (-1, 1, 0.7071067811865475),
            (1, -1, 4.0),
            (1, -4, 65_536.0),
            (1024, 0, f64::MAX),
            (1025, 0, f64::INFINITY),
            (1 << 18, 8, f64::MAX),
            ((1 << 18) + 1, 8, f64::INFINITY),
            (64, -4, f64::MAX),
            (65, -4, f64::INFINITY),
            (-1074, 0, 5e-324),
            (-1076, 0, 0.0),
            (i32::MAX, -4, f64::INFINITY),
            (i32::MIN, -4, 0.0),
            (i32::MIN, 8, 0.0),
        ];
        for (position, schema, expected) in cases {
            assert_eq!(exponential_bound(position, schema), expected, "{position} of schema {schema}");
        }
    }

    #[test]
    fn bounds_grow_and_nest() {
        for schema in -4..=8_i32 {
            for position in -3000..3000 {
                let bound = exponential_bound(position, schema);
                let next = exponential_bound(position + 1, schema);
                assert!(
                    bound < next || (bound == next && (bound < 1e-307 || bound.is_infinite())),
                    "{position} {schema}"
                );
                if schema < 8 {
                    assert_eq!(bound, exponential_bound(position * 2, schema + 1));
                }
            }
        }
    }

    #[test]
    fn numbers_are_written_as_go_does() {
        let cases = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.5, "1.5"),
            (100_000.0, "100000"),
            (999_999.5, "999999.5"),
            (1e6, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (1e-4, "0.0001"),
            (1.5e-5, "1.5e-05"),
            (1e100, "1e+100"),
            (-2.5e-300, "-2.5e-300"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ];
        for (value, expected) in cases {
            assert_eq!(General(value).to_string(), expected);
        }
    }

    #[test]
    fn shares_mirror_below_zero() {
        let bucket =
            |lower, upper| Bucket { lower, upper, lower_inclusive: false, upper_inclusive: true, count: 1.0 };
        assert_eq!(bucket(1.0, 4.0).share_below(2.0, false), 0.5);
        assert_eq!(bucket(-4.0, -1.0).share_below(-2.0, false), 0.5);
        assert_eq!(bucket(1.0, 5.0).share_below(2.0, true), 0.25);
        assert!((bucket(-8.0, -1.0).share_below(-4.0, false) - 1.0 / 3.0).abs() < 1e-15);
        assert_eq!(bucket(0.5, 2.5).to_string(), "(0.5,2.5]:1");
    }
}
