//! Strings as they stand in header blocks (RFC 7541, 5.2).

/// A string literal (RFC 7541, 5.2).
pub(crate) fn string(block: &mut Vec<u8>, pattern: u8, string: &[u8]) {
    if let Some(mut rest) = string.len().checked_sub(0x7f) {
        block.push(pattern | 0x7f);
        while rest >= 0x80 {
            block.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        block.push(rest as u8);
    } else {
        block.push(pattern | string.len() as u8);
    }
    block.extend_from_slice(string);
}

/// A Huffman string of these codes and their lengths.
pub(crate) fn huffman(codes: &[(u64, u32)], length: usize) -> Vec<u8> {
    let mut value = Vec::new();
    let (mut bits, mut count) = (0_u64, 0);
    for (code, length_of_code) in codes.iter().cycle() {
        bits = bits << length_of_code | code;
        count += length_of_code;
        while count >= 8 {
            count -= 8;
            value.push((bits >> count) as u8);
        }
        if count == 0 && value.len() >= length {
            return value;
        }
    }
    unreachable!("the codes go round");
}
