//! Integers: RFC 7541, 5.1.

use super::error::{DecodeError, Stop};

/// The most octets that an integer takes after its first. The RFC leaves the limit to each decoder. With four of them
/// values reach 2^28, more than any length or size that we would take, and the sum cannot overflow.
const MORE_OCTETS_MAX: usize = 4;

/// The integer in the low `bits` of the first octet and in those behind it, and the octets behind the integer.
#[inline]
pub(super) fn decode(octets: &[u8], bits: u32) -> Result<(usize, &[u8]), Stop> {
    let Some((first, rest)) = octets.split_first() else {
        return Err(Stop::NotWhole);
    };
    let prefix_max = (1 << bits) - 1;
    let prefix = usize::from(*first) & prefix_max;
    if prefix < prefix_max {
        Ok((prefix, rest))
    } else {
        decode_more(prefix, rest)
    }
}

fn decode_more(prefix: usize, octets: &[u8]) -> Result<(usize, &[u8]), Stop> {
    let mut value = prefix;
    let mut rest = octets;
    for at in 0..MORE_OCTETS_MAX {
        let Some((octet, behind)) = rest.split_first() else {
            return Err(Stop::NotWhole);
        };
        value += usize::from(octet & 0x7f) << (7 * at);
        rest = behind;
        if octet & 0x80 == 0 {
            return Ok((value, rest));
        }
    }
    Err(DecodeError::IntegerTooLong.into())
}

/// Writes `value` into the low `bits` of an octet whose other bits are those of `pattern`, and into octets behind it.
pub(super) fn encode(out: &mut Vec<u8>, pattern: u8, bits: u32, value: usize) {
    let prefix_max = (1 << bits) - 1;
    if value < prefix_max {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | prefix_max as u8);
    let mut rest = value - prefix_max;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(octets: &[u8], bits: u32, value: usize) {
        assert_eq!(decode(octets, bits), Ok((value, &[][..])));
        for len in 0..octets.len() {
            assert_eq!(decode(&octets[..len], bits), Err(Stop::NotWhole));
        }
        let mut out = Vec::new();
        encode(&mut out, 0, bits, value);
        assert_eq!(out, octets);
    }

    #[test]
    fn c_1_integers() {
        check(&[0b0000_1010], 5, 10);
        check(&[0b0001_1111, 0b1001_1010, 0b0000_1010], 5, 1337);
        check(&[0b0010_1010], 8, 42);
    }

    #[test]
    fn the_prefix_alone_reaches_one_less_than_all_ones() {
        check(&[30], 5, 30);
        check(&[31, 0], 5, 31);
        check(&[31, 1], 5, 32);
    }

    #[test]
    fn four_octets_behind_the_first_are_the_most() {
        let value = 31 + (1 << 28) - 1;
        check(&[31, 0xff, 0xff, 0xff, 0x7f], 5, value);
        let too_long = Err(Stop::Error(DecodeError::IntegerTooLong));
        assert_eq!(decode(&[31, 0x80, 0x80, 0x80, 0x80], 5), too_long);
        assert_eq!(decode(&[31, 0xff, 0xff, 0xff, 0xff, 0xff], 5), too_long);
        assert_eq!(decode(&[31, 0x80, 0x80, 0x80], 5), Err(Stop::NotWhole));
    }
}
