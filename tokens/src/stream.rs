//! Streaming decode: one id in, whole characters out. A token may end inside a character; its
//! bytes wait for the rest. Not here: stop rules (`infer`).

use crate::Tokenizer;

/// Decodes ids one by one; what it has given so far, joined, is always valid text and a prefix of
/// what [`Tokenizer::decode`] gives for all ids.
#[derive(Debug)]
pub struct StreamDecoder<'t> {
    tokenizer: &'t Tokenizer,
    pending: Vec<u8>,
}

impl<'t> StreamDecoder<'t> {
    pub(crate) fn new(tokenizer: &'t Tokenizer) -> Self {
        Self { tokenizer, pending: Vec::new() }
    }

    /// The text that this id completes; empty while a character is still open.
    pub fn push(&mut self, id: u32) -> String {
        self.pending.extend_from_slice(self.tokenizer.bytes(id));
        self.take(false)
    }

    /// What was left open, as U+FFFD.
    pub fn finish(&mut self) -> String {
        self.take(true)
    }

    fn take(&mut self, last: bool) -> String {
        let mut text = String::new();
        let mut from = 0;
        loop {
            match std::str::from_utf8(&self.pending[from..]) {
                Ok(valid) => {
                    text.push_str(valid);
                    from = self.pending.len();
                    break;
                }
                Err(error) => {
                    let valid = from + error.valid_up_to();
                    text.push_str(&String::from_utf8_lossy(&self.pending[from..valid]));
                    from = valid;
                    match error.error_len() {
                        Some(bad) => from += bad,
                        None if last => from = self.pending.len(),
                        None => break,
                    }
                    text.push(char::REPLACEMENT_CHARACTER);
                }
            }
        }
        self.pending.drain(..from);
        text
    }
}

#[cfg(test)]
mod tests {
    use crate::tokenizer::tests::small;

    #[track_caller]
    fn check(bytes: &[u8], steps: &[&str]) {
        let tokenizer = small();
        let mut stream = tokenizer.stream();
        let mut got: Vec<String> = bytes.iter().map(|&b| stream.push(u32::from(b))).collect();
        got.push(stream.finish());
        assert_eq!(got, steps);
        let ids: Vec<u32> = bytes.iter().map(|&b| u32::from(b)).collect();
        assert_eq!(got.concat(), tokenizer.decode(&ids), "stream and whole decode differ");
    }

    #[test]
    fn characters_come_whole() {
        check("aé漢".as_bytes(), &["a", "", "é", "", "", "漢", ""]);
        check(&[0xF0, 0x9F, 0x91], &["", "", "", "\u{fffd}"]);
        check(&[0xE6, b'x'], &["", "\u{fffd}x", ""]);
        check(&[0xFF, 0x80], &["\u{fffd}", "\u{fffd}", ""]);
    }
}
