//! Takes an input apart; one that ends early goes on as zeros.

/// What is left of an input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.u8()))
    }

    /// Bytes behind their length in two bytes; fewer if there are no more.
    pub(crate) fn piece(&mut self) -> &'a [u8] {
        let length = usize::from(self.u16()).min(self.0.len());
        let (piece, rest) = self.0.split_at(length);
        self.0 = rest;
        piece
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Applies what is left to `bytes`: places in two bytes, each with what to write there; and as the last thing, if a byte is
    /// left, cuts so many bytes off.
    pub(crate) fn edit(mut self, bytes: &mut Vec<u8>) {
        while self.0.len() >= 3 {
            let (at, byte) = (usize::from(self.u16()), self.u8());
            let length = bytes.len().max(1);
            if let Some(slot) = bytes.get_mut(at % length) {
                *slot = byte;
            }
        }
        if !self.is_empty() {
            bytes.truncate(bytes.len().saturating_sub(usize::from(self.u8())));
        }
    }
}

/// A seed: the parts one after another.
pub(crate) fn seed(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// As [`Input::piece`] reads it.
pub(crate) fn piece(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_le_bytes()[..], bytes].concat()
}
