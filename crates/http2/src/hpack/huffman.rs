//! The Huffman code: RFC 7541, 5.2 and appendix B.
//!
//! The code is canonical: the codes of one length are successive numbers in the order of their symbols, and shorter codes
//! come before longer ones. So the lengths say everything, and all tables here are made of them by the compiler.
//!
//! The decoder looks twelve bits up at once, and gets the one or two symbols that begin with them. Codes of more than
//! twelve bits belong to rare symbols. They are found by their length, which the ones that they begin with nearly tell.

use super::DecodeError;

/// The length of each symbol's code in bits. The last is EOS.
static LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];
const EOS: usize = 256;
const LENGTH_MIN: usize = 5;
const LENGTH_MAX: usize = 30;

/// The code of each symbol, in the low bits.
static CODES: [u32; 257] = codes();
/// All symbols in the order of their codes.
static SYMBOLS: [u16; 257] = symbols();
/// Of each length its codes, which follow one another.
static RUNS: [Run; LENGTH_MAX + 1] = runs();

/// Codes of one length.
#[derive(Clone, Copy)]
struct Run {
    /// The last code, and behind it ones up to 32 bits. Of a length without codes, that of the length before.
    last: u32,
    /// The first code.
    first: u32,
    /// Where the symbol of the first code is in `SYMBOLS`.
    at: u32,
}

const fn symbols() -> [u16; 257] {
    let mut symbols = [0; 257];
    let mut at = 0;
    let mut length = LENGTH_MIN;
    while length <= LENGTH_MAX {
        let mut symbol = 0;
        while symbol < symbols.len() {
            if LENGTHS[symbol] as usize == length {
                symbols[at] = symbol as u16;
                at += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    symbols
}

const fn codes() -> [u32; 257] {
    let symbols = symbols();
    let mut codes = [0; 257];
    let mut at = 1;
    while at < symbols.len() {
        let (before, symbol) = (symbols[at - 1] as usize, symbols[at] as usize);
        codes[symbol] = (codes[before] + 1) << (LENGTHS[symbol] - LENGTHS[before]);
        at += 1;
    }
    codes
}

const fn runs() -> [Run; LENGTH_MAX + 1] {
    let (codes, symbols) = (codes(), symbols());
    let mut runs = [Run {
        last: 0,
        first: 0,
        at: 0,
    }; LENGTH_MAX + 1];
    let mut at = 0;
    let mut length = LENGTH_MIN;
    while length <= LENGTH_MAX {
        let mut run = runs[length - 1];
        let mut is_first = true;
        while at < symbols.len() && LENGTHS[symbols[at] as usize] as usize == length {
            let code = codes[symbols[at] as usize];
            if is_first {
                run.first = code;
                run.at = at as u32;
                is_first = false;
            }
            run.last = code << (32 - length) | (u32::MAX >> length);
            at += 1;
        }
        runs[length] = run;
        length += 1;
    }
    runs
}

/// How many bits are looked up at once.
const SHORT_BITS: usize = 12;

/// The symbols that twelve bits begin with. Bits 0 to 7 are the first symbol, 8 to 15 the second; from bit 16 on stands
/// the length of their codes together, from bit 24 on their number. It is 0 where the first code is longer.
static SHORT: [u32; 1 << SHORT_BITS] = short();

const fn short() -> [u32; 1 << SHORT_BITS] {
    let (codes, symbols) = (codes(), symbols());
    let mut short = [0; 1 << SHORT_BITS];
    let mut a = 0;
    while LENGTHS[symbols[a] as usize] as usize <= SHORT_BITS {
        let first = symbols[a] as usize;
        let length = LENGTHS[first] as usize;
        let entry = first as u32 | (length as u32) << 16 | 1 << 24;
        set(&mut short, codes[first], length, entry);
        let mut b = 0;
        while length + LENGTHS[symbols[b] as usize] as usize <= SHORT_BITS {
            let second = symbols[b] as usize;
            let both = length + LENGTHS[second] as usize;
            let entry = first as u32 | (second as u32) << 8 | (both as u32) << 16 | 2 << 24;
            let code = codes[first] << LENGTHS[second] | codes[second];
            set(&mut short, code, both, entry);
            b += 1;
        }
        a += 1;
    }
    short
}

/// Sets the entries of all twelve bits that begin with these `length` bits.
const fn set(short: &mut [u32; 1 << SHORT_BITS], bits: u32, length: usize, entry: u32) {
    let mut at = (bits as usize) << (SHORT_BITS - length);
    let end = (bits as usize + 1) << (SHORT_BITS - length);
    while at < end {
        short[at] = entry;
        at += 1;
    }
}

/// The shortest code that begins with a number of ones and has more than twelve bits.
static LONG_FROM: [u8; 33] = long_from();

const fn long_from() -> [u8; 33] {
    let runs = runs();
    let mut from = [0; 33];
    let mut ones = 0;
    while ones < from.len() {
        let lowest = !(u32::MAX as u64 >> ones) as u32;
        let mut length = SHORT_BITS + 1;
        while runs[length].last < lowest {
            length += 1;
        }
        from[ones] = length as u8;
        ones += 1;
    }
    from
}

/// The most octets that [`decode`] may write for an encoded string: the shortest code has five bits, and it writes two
/// octets at once.
pub(super) fn decoded_len_max(encoded_len: usize) -> usize {
    encoded_len * 8 / LENGTH_MIN + 1
}

/// Decodes a string to the begin of `out`, which has room for [`decoded_len_max`], and says how long it is.
pub(super) fn decode(mut octets: &[u8], out: &mut [u8]) -> Result<usize, DecodeError> {
    // The next bits, from the highest on, and how many of them are of the string.
    let (mut window, mut bits) = (0_u64, 0);
    let mut len = 0;
    loop {
        if bits < LENGTH_MAX {
            (window, bits) = refilled(window, bits, &mut octets);
            if bits < LENGTH_MAX {
                // The string ends here. Behind it are ones, as its padding should be.
                window |= u64::MAX >> bits;
                if window == u64::MAX {
                    return if bits < 8 {
                        Ok(len)
                    } else {
                        Err(DecodeError::HuffmanPaddingTooLong)
                    };
                }
            }
        }
        let entry = SHORT[(window >> (64 - SHORT_BITS)) as usize];
        let (mut count, mut length) = ((entry >> 24) as usize, (entry >> 16 & 0xff) as usize);
        let mut symbols = entry as u16;
        if count == 0 {
            (symbols, length) = long(window);
            count = 1;
        } else if length > bits {
            length = usize::from(LENGTHS[usize::from(symbols & 0xff)]);
            count = 1;
        }
        if length > bits {
            return Err(DecodeError::HuffmanPaddingNotOnes);
        }
        if usize::from(symbols) == EOS && length == LENGTH_MAX {
            return Err(DecodeError::HuffmanEos);
        }
        out[len..len + 2].copy_from_slice(&symbols.to_le_bytes());
        len += count;
        window <<= length;
        bits -= length;
    }
}

/// Fills the window from the begin of `octets`.
#[inline]
fn refilled(window: u64, bits: usize, octets: &mut &[u8]) -> (u64, usize) {
    if let Some(next) = octets.first_chunk() {
        // Bits of an octet that does not fit whole come again, as they are.
        let count = (63 - bits) / 8;
        *octets = &octets[count..];
        return (window | u64::from_be_bytes(*next) >> bits, bits + count * 8);
    }
    let (mut window, mut bits) = (window, bits);
    while bits <= 56
        && let Some((next, rest)) = octets.split_first()
    {
        window |= u64::from(*next) << (56 - bits);
        bits += 8;
        *octets = rest;
    }
    (window, bits)
}

/// The symbol whose code of more than twelve bits the window begins with, and the length of the code.
fn long(window: u64) -> (u16, usize) {
    let bits = (window >> 32) as u32;
    let mut length = usize::from(LONG_FROM[bits.leading_ones() as usize]);
    while bits > RUNS[length].last {
        length += 1;
    }
    let run = &RUNS[length];
    let at = run.at + (bits >> (32 - length)) - run.first;
    (SYMBOLS[at as usize], length)
}

/// How many octets a string takes when it is encoded.
pub(super) fn encoded_len(string: &[u8]) -> usize {
    let bits: usize = string
        .iter()
        .map(|symbol| usize::from(LENGTHS[usize::from(*symbol)]))
        .sum();
    bits.div_ceil(8)
}

/// Writes an encoded string, with ones as its padding, to the end of `out`.
pub(super) fn encode(out: &mut Vec<u8>, string: &[u8]) {
    let (mut window, mut bits) = (0_u64, 0);
    for symbol in string {
        let symbol = usize::from(*symbol);
        let length = usize::from(LENGTHS[symbol]);
        window = window << length | u64::from(CODES[symbol]);
        bits += length;
        while bits >= 8 {
            bits -= 8;
            out.push((window >> bits) as u8);
        }
    }
    if bits > 0 {
        out.push((window << (8 - bits)) as u8 | 0xff >> bits);
    }
}
