//! The list filter's tokens, each with its position, so that errors can tell where.

use super::QueryError;

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A bare word: a keyword or a name.
    Word(String),
    /// A name in backticks.
    Name(String),
    /// Text in single or double quotes.
    Text(String),
    /// A number as written.
    Number(String),
    /// `( ) , = != < <= > >=`
    Sign(&'static str),
}

/// A token and where it begins, counted in bytes from 1.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) token: Token,
    pub(super) at: usize,
}

impl Token {
    /// As it is named in errors.
    pub(super) fn shown(&self) -> &str {
        match self {
            Self::Word(text) | Self::Name(text) | Self::Text(text) | Self::Number(text) => text,
            Self::Sign(sign) => sign,
        }
    }
}

const SIGNS: [(&str, &str); 12] = [
    ("!=", "!="),
    ("<>", "!="),
    ("<=", "<="),
    (">=", ">="),
    ("<", "<"),
    (">", ">"),
    ("=", "="),
    ("(", "("),
    (")", ")"),
    (",", ","),
    ("*", "*"),
    (";", ";"),
];

/// Splits the text.
pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, QueryError> {
    let mut all = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let at = text.len() - rest.len() + 1;
        let Some(first) = rest.chars().next() else {
            return Ok(all);
        };
        let (token, len) = match first {
            '\'' | '"' | '`' => quoted(rest, first, at)?,
            c if c.is_ascii_digit() || matches!(c, '-' | '+' | '.') => number(rest, at)?,
            c if c.is_alphabetic() || c == '_' => word(rest),
            _ => match SIGNS.iter().find(|(sign, _)| rest.starts_with(sign)) {
                Some((sign, meaning)) => (Token::Sign(meaning), sign.len()),
                None => return Err(QueryError::syntax(at, &first.to_string())),
            },
        };
        all.push(Placed { token, at });
        rest = &rest[len..];
    }
}

fn word(rest: &str) -> (Token, usize) {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
    let len = rest.find(|c| !part(c)).unwrap_or(rest.len());
    (Token::Word(rest[..len].to_owned()), len)
}

fn number(rest: &str, at: usize) -> Result<(Token, usize), QueryError> {
    let sign = usize::from(rest.starts_with(['-', '+']));
    let part = |c: char| c.is_ascii_alphanumeric() || c == '.';
    let len = rest[sign..]
        .find(|c| !part(c))
        .map_or(rest.len(), |len| len + sign);
    let number = &rest[..len];
    if number.parse::<f64>().is_err() {
        return Err(QueryError::syntax(at, number));
    }
    Ok((Token::Number(number.to_owned()), len))
}

/// Quotes are doubled or escaped with a backslash inside.
fn quoted(rest: &str, quote: char, at: usize) -> Result<(Token, usize), QueryError> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((index, c)) = chars.next() {
        let is_doubled = c == quote && chars.peek().is_some_and(|(_, next)| *next == quote);
        if is_doubled {
            text.push(quote);
            chars.next();
        } else if c == '\\' && quote != '`' {
            match chars.next() {
                Some((_, 'n')) => text.push('\n'),
                Some((_, 't')) => text.push('\t'),
                Some((_, 'r')) => text.push('\r'),
                // LIKE wildcards keep their backslash in SQL text; here they never have a meaning.
                Some((_, other)) => text.push(other),
                None => break,
            }
        } else if c == quote {
            let token = if quote == '`' {
                Token::Name(text)
            } else {
                Token::Text(text)
            };
            return Ok((token, index + 1));
        } else {
            text.push(c);
        }
    }
    Err(QueryError::syntax(at, rest))
}
