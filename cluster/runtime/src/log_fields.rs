//! How fields look in log lines that people read: bounded, since what clients send ends up in them, and without control
//! characters, which a terminal would obey.

use std::fmt::{self, Write};

use tracing::field::Field;
use tracing_subscriber::fmt::format::Writer;

/// Longest value of a field, in bytes; the rest is counted.
const VALUE_BYTES_MAX: usize = 2_000;

/// Writes one field, `name=value`, the message without its name.
pub(crate) fn write(into: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let name = field.name();
    if name != "message" {
        write!(into, "{}=", name.strip_prefix("r#").unwrap_or(name))?;
    }
    write_bounded(into, value)
}

fn write_bounded(into: &mut dyn Write, value: &dyn fmt::Debug) -> fmt::Result {
    let mut bounded = Bounded {
        into: &mut *into,
        left: VALUE_BYTES_MAX,
        cut: 0,
    };
    write!(bounded, "{value:?}")?;
    let cut = bounded.cut;
    match cut {
        0 => Ok(()),
        _ => write!(into, "... ({cut} bytes more)"),
    }
}

struct Bounded<'a> {
    into: &'a mut dyn Write,
    left: usize,
    cut: usize,
}

impl Write for Bounded<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            let length = c.len_utf8();
            if self.cut > 0 || length > self.left {
                self.cut += length;
                continue;
            }
            self.left -= length;
            match c.is_control() && c != '\n' && c != '\t' {
                true => write!(self.into, "{}", c.escape_default())?,
                false => self.into.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: impl fmt::Display) -> String {
        let mut text = String::new();
        write_bounded(&mut text, &format_args!("{value}")).expect("write");
        text
    }

    #[test]
    fn a_long_value_is_cut_and_counted() {
        assert_eq!(written("order-1"), "order-1");
        let id = "x".repeat(100_000);
        let told = written(&id);
        assert!(
            told.len() < 2_100 && told.ends_with("... (98000 bytes more)"),
            "{told}"
        );
    }

    #[test]
    fn a_terminal_obeys_nothing_that_a_client_sent() {
        assert_eq!(written("a\u{1b}[31mb\u{7}"), "a\\u{1b}[31mb\\u{7}");
    }
}
