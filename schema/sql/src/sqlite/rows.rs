//! Any number of rows as two bound values: a JSON array of arrays for numbers and text, and one run of bytes
//! that blobs are cut from by offset and length. So a statement's text, and with it its plan, is the same for
//! every number of rows.

use std::fmt::Write;

/// Rows being collected.
pub(super) struct Rows {
    json: String,
    bytes: Vec<u8>,
    at_start_of_row: bool,
    pub(super) count: usize,
    /// A text with a zero byte was met: SQL text cannot hold it.
    pub(super) has_zero: bool,
}

impl Rows {
    pub(super) fn new() -> Self {
        Self {
            json: String::from("["),
            // Never empty: SQLite takes a cut from an empty blob for null.
            bytes: vec![0],
            at_start_of_row: true,
            count: 0,
            has_zero: false,
        }
    }

    /// Begins the next row.
    pub(super) fn row(&mut self) -> &mut Self {
        self.json
            .push_str(if self.count == 0 { "[" } else { "],[" });
        self.count += 1;
        self.at_start_of_row = true;
        self
    }

    pub(super) fn int(&mut self, number: i64) -> &mut Self {
        self.comma();
        let _ = write!(self.json, "{number}");
        self
    }

    pub(super) fn null(&mut self) -> &mut Self {
        self.comma();
        self.json.push_str("null");
        self
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.comma();
        self.json.push('"');
        let mut plain_from = 0;
        for (index, byte) in text.bytes().enumerate() {
            if byte >= 0x20 && byte != b'"' && byte != b'\\' {
                continue;
            }
            self.has_zero |= byte == 0;
            self.json.push_str(&text[plain_from..index]);
            let _ = write!(self.json, "\\u{byte:04x}");
            plain_from = index + 1;
        }
        self.json.push_str(&text[plain_from..]);
        self.json.push('"');
        self
    }

    /// A blob takes two places of the row: offset and length.
    pub(super) fn blob(&mut self, bytes: &[u8]) -> &mut Self {
        let offset = self.bytes.len() as i64 + 1;
        self.bytes.extend_from_slice(bytes);
        self.int(offset).int(bytes.len() as i64)
    }

    pub(super) fn optional_blob(&mut self, bytes: Option<&[u8]>) -> &mut Self {
        match bytes {
            Some(bytes) => self.blob(bytes),
            None => self.null().null(),
        }
    }

    /// The two values.
    pub(super) fn finish(mut self) -> (String, Vec<u8>) {
        self.json.push_str(if self.count == 0 { "]" } else { "]]" });
        (self.json, self.bytes)
    }

    fn comma(&mut self) {
        if !self.at_start_of_row {
            self.json.push(',');
        }
        self.at_start_of_row = false;
    }
}
