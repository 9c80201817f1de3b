//! Text to AST by recursive descent: `or := and (OR and)*`, `and := not (AND not)*`,
//! `not := NOT not | '(' or ')' | comparison`. Depth and number of conditions are limited, since every walk
//! over the AST is recursive.

use super::{
    Column, Expr, Op, Query, QueryError, Value,
    lexer::{Placed, Token, tokens},
    literal::{self, Literal},
};

/// Deepest nesting of parentheses and NOT.
const DEPTH_MAX: usize = 64;

/// Most conditions in one filter.
const CONDITIONS_MAX: usize = 256;

/// Most values in all IN lists of one filter.
const VALUES_MAX: usize = 4096;

/// Longest filter.
const LENGTH_MAX: usize = 256 * 1024;

impl Query {
    /// Parses a list filter. An empty one matches all.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        if text.len() > LENGTH_MAX {
            return Err(QueryError(format!(
                "query is longer than {LENGTH_MAX} bytes"
            )));
        }
        if let Some(at) = text.find('\0') {
            // PostgreSQL takes none, and no name has one.
            return Err(QueryError(format!(
                "query contains a NUL character (position {})",
                at + 1
            )));
        }
        let mut parser = Parser {
            tokens: tokens(text)?,
            next: 0,
            end: text.len() + 1,
            depth: 0,
            conditions: 0,
            values: 0,
        };
        let query = parser.query()?;
        // People end SQL with it.
        parser.sign(";");
        match parser.peek() {
            None => Ok(query),
            Some(_) => Err(parser.unexpected()),
        }
    }
}

struct Parser {
    tokens: Vec<Placed>,
    next: usize,
    end: usize,
    depth: usize,
    conditions: usize,
    values: usize,
}

impl Parser {
    fn query(&mut self) -> Result<Query, QueryError> {
        let mut query = Query::default();
        let is_clause = |word: &str| {
            ["ORDER", "GROUP", "LIMIT", "HAVING"]
                .iter()
                .any(|c| c.eq_ignore_ascii_case(word))
        };
        match self.peek() {
            None | Some(Token::Sign(";")) => return Ok(query),
            Some(Token::Word(word)) if is_clause(word) => {}
            Some(_) => query.filter = Some(self.or()?),
        }
        if self.word("GROUP") {
            self.expect_word("BY")?;
            query.group_by_status = self.group()?;
        }
        for clause in ["HAVING", "ORDER", "LIMIT"] {
            if self.word(clause) {
                let clause = if clause == "ORDER" {
                    "ORDER BY"
                } else {
                    clause
                };
                return Err(QueryError(format!(
                    "operation is not supported: '{clause}' clause"
                )));
            }
        }
        Ok(query)
    }

    fn group(&mut self) -> Result<bool, QueryError> {
        let column = self.column()?;
        if self.sign(",") {
            return Err(QueryError(
                "operation is not supported: 'GROUP BY' clause supports only a single field"
                    .to_owned(),
            ));
        }
        if column != Column::ExecutionStatus {
            return Err(QueryError(
                "operation is not supported: 'GROUP BY' clause is only supported for ExecutionStatus search attribute"
                    .to_owned(),
            ));
        }
        Ok(true)
    }

    fn or(&mut self) -> Result<Expr, QueryError> {
        let mut left = self.and()?;
        while self.word("OR") {
            left = Expr::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expr, QueryError> {
        let mut left = self.not()?;
        while self.word("AND") {
            left = Expr::And(Box::new(left), Box::new(self.not()?));
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expr, QueryError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(QueryError(format!(
                "query is nested deeper than {DEPTH_MAX}"
            )));
        }
        let expr = if self.word("NOT") {
            Expr::Not(Box::new(self.not()?))
        } else if self.sign("(") {
            let inner = self.or()?;
            self.expect_sign(")")?;
            inner
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn comparison(&mut self) -> Result<Expr, QueryError> {
        self.conditions += 1;
        if self.conditions > CONDITIONS_MAX {
            return Err(QueryError(format!(
                "query has more than {CONDITIONS_MAX} conditions"
            )));
        }
        let column = self.column()?;
        if self.word("IS") {
            let negated = self.word("NOT");
            self.expect_word("NULL")?;
            return Ok(negate(Expr::IsNull(column), negated));
        }
        let signs = [
            ("=", Op::Eq),
            ("!=", Op::Ne),
            ("<=", Op::Le),
            (">=", Op::Ge),
            ("<", Op::Lt),
            (">", Op::Gt),
        ];
        for (sign, op) in signs {
            if self.sign(sign) {
                if column.is_list() && !matches!(op, Op::Eq | Op::Ne) {
                    return Err(unsupported(column, sign));
                }
                let value = self.value(column)?;
                return Ok(Expr::Compare { column, op, value });
            }
        }
        let negated = self.word("NOT");
        let expr = if self.word("IN") {
            self.in_list(column)?
        } else if self.word("BETWEEN") {
            if column.is_list() || column.takes_words() {
                return Err(QueryError(format!(
                    "invalid expression: cannot do range condition on search attribute '{}' of type {}",
                    column.name(),
                    column.type_name(),
                )));
            }
            let low = self.value(column)?;
            self.expect_word("AND")?;
            let high = self.value(column)?;
            Expr::Between { column, low, high }
        } else if self.word("STARTS_WITH") {
            if column.is_list() {
                return Err(unsupported(column, "STARTS_WITH"));
            }
            if !column.is_keyword() {
                return Err(QueryError(format!(
                    "invalid expression: operator 'STARTS_WITH' not supported for {} type search attribute '{}'",
                    column.type_name(),
                    column.name(),
                )));
            }
            let op = Op::StartsWith;
            let value = self.value(column)?;
            Expr::Compare { column, op, value }
        } else {
            return Err(self.unexpected());
        };
        Ok(negate(expr, negated))
    }

    fn in_list(&mut self, column: Column) -> Result<Expr, QueryError> {
        self.expect_sign("(")?;
        let mut values = vec![self.value(column)?];
        while self.sign(",") {
            values.push(self.value(column)?);
        }
        self.expect_sign(")")?;
        Ok(Expr::In { column, values })
    }

    fn column(&mut self) -> Result<Column, QueryError> {
        let at = self.at();
        let name = match self.peek() {
            Some(Token::Word(name) | Token::Name(name)) => name.clone(),
            _ => return Err(self.unexpected()),
        };
        self.next += 1;
        Column::named(&name).ok_or_else(|| {
            QueryError(format!(
                "invalid expression: column name '{name}' is not a valid search attribute (position {at})"
            ))
        })
    }

    fn value(&mut self, column: Column) -> Result<Value, QueryError> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(QueryError(format!(
                "query has more than {VALUES_MAX} values"
            )));
        }
        let at = self.at();
        let literal = match self.peek() {
            Some(Token::Text(text)) => Literal::Text(text),
            Some(Token::Number(number)) => Literal::Number(number),
            Some(Token::Word(word)) if column.takes_words() => Literal::Word(word),
            _ => return Err(self.unexpected()),
        };
        let value = literal::value(column, literal).map_err(|why| {
            let shown = self.peek().map(Token::shown).unwrap_or_default();
            QueryError(format!(
                "invalid value for search attribute {} of type {}: '{shown}'{why} (position {at})",
                column.name(),
                column.type_name(),
            ))
        })?;
        self.next += 1;
        Ok(value)
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|placed| &placed.token)
    }

    fn at(&self) -> usize {
        self.tokens
            .get(self.next)
            .map_or(self.end, |placed| placed.at)
    }

    fn word(&mut self, wanted: &str) -> bool {
        let found =
            matches!(self.peek(), Some(Token::Word(word)) if word.eq_ignore_ascii_case(wanted));
        self.next += usize::from(found);
        found
    }

    fn sign(&mut self, wanted: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(sign)) if *sign == wanted);
        self.next += usize::from(found);
        found
    }

    fn expect_word(&mut self, wanted: &str) -> Result<(), QueryError> {
        if self.word(wanted) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    fn expect_sign(&mut self, wanted: &str) -> Result<(), QueryError> {
        if self.sign(wanted) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    fn unexpected(&self) -> QueryError {
        QueryError::syntax(self.at(), self.peek().map(Token::shown).unwrap_or_default())
    }
}

/// A list has no order, and no beginning.
fn unsupported(column: Column, operator: &str) -> QueryError {
    QueryError(format!(
        "operation is not supported: operator '{operator}' not supported for {} type search attribute '{}'",
        column.type_name(),
        column.name(),
    ))
}

fn negate(expr: Expr, negated: bool) -> Expr {
    if negated {
        Expr::Not(Box::new(expr))
    } else {
        expr
    }
}
