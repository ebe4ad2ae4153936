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

/// What twelve bits begin with.
static SHORT: [Short; 1 << SHORT_BITS] = short();

/// One or two symbols, or none if the first code is longer.
#[derive(Clone, Copy)]
struct Short {
    symbols: [u8; 2],
    count: u8,
    /// Bits of their codes.
    length: u8,
}

const fn short() -> [Short; 1 << SHORT_BITS] {
    let (codes, symbols) = (codes(), symbols());
    let mut short = [Short {
        symbols: [0; 2],
        count: 0,
        length: 0,
    }; 1 << SHORT_BITS];
    let mut a = 0;
    while LENGTHS[symbols[a] as usize] as usize <= SHORT_BITS {
        let first = symbols[a] as usize;
        let length = LENGTHS[first];
        let one = Short {
            symbols: [first as u8, 0],
            count: 1,
            length,
        };
        set(&mut short, codes[first], one);
        let mut b = 0;
        while length + LENGTHS[symbols[b] as usize] <= SHORT_BITS as u8 {
            let second = symbols[b] as usize;
            let two = Short {
                symbols: [first as u8, second as u8],
                count: 2,
                length: length + LENGTHS[second],
            };
            set(
                &mut short,
                codes[first] << LENGTHS[second] | codes[second],
                two,
            );
            b += 1;
        }
        a += 1;
    }
    short
}

/// Sets the entries of all twelve bits that begin with these codes.
const fn set(short: &mut [Short; 1 << SHORT_BITS], codes: u32, entry: Short) {
    let others = SHORT_BITS - entry.length as usize;
    let mut at = (codes as usize) << others;
    let end = (codes as usize + 1) << others;
    while at < end {
        short[at] = entry;
        at += 1;
    }
}

/// Of codes with more than twelve bits, the shortest that begins with a number of ones.
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

/// The next bits of a string.
#[derive(Debug, Default)]
struct Window {
    /// From the highest on.
    bits: u64,
    /// How many of them have come from the string.
    count: usize,
}

impl Window {
    #[inline]
    fn take(&mut self, length: usize) {
        self.bits <<= length;
        self.count -= length;
    }

    #[inline]
    fn short(&self) -> &'static Short {
        &SHORT[(self.bits >> (64 - SHORT_BITS)) as usize]
    }

    /// Takes whole octets as long as they fit, and gives those behind them.
    #[inline]
    fn fill<'a>(&mut self, mut octets: &'a [u8]) -> &'a [u8] {
        while self.count <= 56
            && let Some((next, rest)) = octets.split_first()
        {
            self.bits |= u64::from(*next) << (56 - self.count);
            self.count += 8;
            octets = rest;
        }
        octets
    }

    /// Writes the next one or two symbols, of which all bits have come, and says how many they are.
    fn symbols(&mut self, out: &mut [u8]) -> Result<usize, DecodeError> {
        let short = self.short();
        if short.count > 0 {
            out[..2].copy_from_slice(&short.symbols);
            self.take(usize::from(short.length));
            return Ok(usize::from(short.count));
        }
        let (symbol, length) = long(self.bits)?;
        out[0] = symbol;
        self.take(length);
        Ok(1)
    }
}

/// Decodes a string to the begin of `out`, which has room for [`decoded_len_max`], and says how long it is.
pub(super) fn decode(octets: &[u8], out: &mut [u8]) -> Result<usize, DecodeError> {
    let mut window = Window::default();
    let (rest, len) = decode_most(&mut window, octets, out)?;
    decode_end(window, rest, out, len)
}

/// Decodes a string whose octets come in pieces.
///
/// Holds: what a piece gives, also its error, depends on the octets that have come, and not on where they are cut.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// Fewer bits than the longest code has.
    window: Window,
}

impl Pieces {
    /// Decodes what a piece makes certain, to the end of `out`.
    pub(super) fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
        let begin = room(out, octets.len());
        let window = &mut self.window;
        let (mut octets, mut len) = decode_most(window, octets, &mut out[begin..])?;
        loop {
            octets = window.fill(octets);
            if window.count < LENGTH_MAX {
                break;
            }
            len += window.symbols(&mut out[begin + len..])?;
        }
        out.truncate(begin + len);
        Ok(())
    }

    /// Decodes what is left at the end of the string.
    pub(super) fn end(self, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        let begin = room(out, 0);
        let len = decode_end(self.window, &[], &mut out[begin..], 0)?;
        out.truncate(begin + len);
        Ok(())
    }
}

/// Makes room behind `out` for what this number of octets, and the bits of a window, may stand for. It says where the room begins.
fn room(out: &mut Vec<u8>, octets: usize) -> usize {
    let begin = out.len();
    let end = begin + decoded_len_max(octets + size_of::<u64>());
    if end > out.capacity() {
        // A quarter more than is needed: a string may be long.
        out.reserve_exact(end + end / 4 - begin);
    }
    out.resize(end, 0);
    begin
}

/// Decodes a string up to its last octets, which are left, and says how many it wrote.
#[inline]
fn decode_most<'a>(
    window: &mut Window,
    mut octets: &'a [u8],
    out: &mut [u8],
) -> Result<(&'a [u8], usize), DecodeError> {
    let mut len = 0;
    while let Some(next) = octets.first_chunk() {
        // The bits of an octet that does not fit whole come again, as they are.
        window.bits |= u64::from_be_bytes(*next) >> window.count;
        let taken = (63 - window.count) / 8;
        window.count += taken * 8;
        octets = &octets[taken..];
        while window.count >= SHORT_BITS {
            let short = window.short();
            if short.count == 0 {
                if window.count < LENGTH_MAX {
                    break;
                }
                let (symbol, length) = long(window.bits)?;
                out[len] = symbol;
                len += 1;
                window.take(length);
            } else {
                out[len..len + 2].copy_from_slice(&short.symbols);
                len += usize::from(short.count);
                window.take(usize::from(short.length));
            }
        }
    }
    Ok((octets, len))
}

/// Decodes the last octets of a string, up to its padding.
fn decode_end(
    mut window: Window,
    mut octets: &[u8],
    out: &mut [u8],
    mut len: usize,
) -> Result<usize, DecodeError> {
    loop {
        octets = window.fill(octets);
        if window.count < LENGTH_MAX {
            // All that is left. Behind it are ones, as its padding should be.
            window.bits |= u64::MAX >> window.count;
            if window.bits == u64::MAX {
                return match window.count {
                    0..8 => Ok(len),
                    _ => Err(DecodeError::HuffmanPaddingTooLong),
                };
            }
        }
        let short = window.short();
        let length = usize::from(short.length);
        if short.count > 0 && length <= window.count {
            out[len..len + 2].copy_from_slice(&short.symbols);
            len += usize::from(short.count);
            window.take(length);
            continue;
        }
        let (symbol, length) = match short.count {
            0 => long(window.bits)?,
            _ => (short.symbols[0], length_of(short.symbols[0])),
        };
        if length > window.count {
            return Err(DecodeError::HuffmanPaddingNotOnes);
        }
        out[len] = symbol;
        len += 1;
        window.take(length);
    }
}

/// The symbol whose code of more than twelve bits the window begins with, and the length of the code.
#[inline]
fn long(window: u64) -> Result<(u8, usize), DecodeError> {
    let bits = (window >> 32) as u32;
    let mut length = usize::from(LONG_FROM[bits.leading_ones() as usize]);
    while bits > RUNS[length].last {
        length += 1;
    }
    let run = &RUNS[length];
    let at = run.at + (bits >> (32 - length)) - run.first;
    match u8::try_from(SYMBOLS[at as usize]) {
        Ok(symbol) => Ok((symbol, length)),
        Err(_) => Err(DecodeError::HuffmanEos),
    }
}

fn length_of(symbol: u8) -> usize {
    usize::from(LENGTHS[usize::from(symbol)])
}

/// How many octets a string takes when it is encoded.
pub(super) fn encoded_len(string: &[u8]) -> usize {
    let bits: usize = string.iter().map(|symbol| length_of(*symbol)).sum();
    bits.div_ceil(8)
}

/// Writes an encoded string, with ones as its padding, to the end of `out`.
pub(super) fn encode(out: &mut Vec<u8>, string: &[u8]) {
    let (mut window, mut bits) = (0_u64, 0);
    for symbol in string {
        window = window << length_of(*symbol) | u64::from(CODES[usize::from(*symbol)]);
        bits += length_of(*symbol);
        while bits >= 8 {
            bits -= 8;
            out.push((window >> bits) as u8);
        }
    }
    if bits > 0 {
        out.push((window << (8 - bits)) as u8 | 0xff >> bits);
    }
}
