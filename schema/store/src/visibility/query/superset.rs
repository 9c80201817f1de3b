//! Filters on attributes that are no columns. A store answers with the rows that may be wanted, and whoever can
//! read the attributes looks at each.

use super::{Column, Expr, Query};

impl Query {
    /// The filter without conditions on attributes that are no columns: it lets more rows through, and none too
    /// few. `None` when there are no such conditions, and the store's answer is final.
    pub fn superset(&self) -> Option<Query> {
        let filter = self
            .filter
            .as_ref()
            .filter(|filter| has_attribute(filter))?;
        Some(Query {
            filter: Some(widen(filter, true)),
            group_by_status: self.group_by_status,
        })
    }
}

fn has_attribute(expr: &Expr) -> bool {
    match expr {
        Expr::And(a, b) | Expr::Or(a, b) => has_attribute(a) || has_attribute(b),
        Expr::Not(inner) => has_attribute(inner),
        Expr::Compare { column, .. }
        | Expr::In { column, .. }
        | Expr::Between { column, .. }
        | Expr::IsNull(column) => matches!(column, Column::Attribute(_)),
    }
}

/// Replaces each condition on such an attribute by what lets rows through where it stands: true, and false below
/// an odd number of negations.
fn widen(expr: &Expr, to: bool) -> Expr {
    let both = |a: &Expr, b: &Expr| (Box::new(widen(a, to)), Box::new(widen(b, to)));
    match expr {
        Expr::And(a, b) => {
            let (a, b) = both(a, b);
            Expr::And(a, b)
        }
        Expr::Or(a, b) => {
            let (a, b) = both(a, b);
            Expr::Or(a, b)
        }
        Expr::Not(inner) => Expr::Not(Box::new(widen(inner, !to))),
        condition if has_attribute(condition) => constant(to),
        condition => condition.clone(),
    }
}

/// No row is without a run id.
fn constant(holds: bool) -> Expr {
    let never = Expr::IsNull(Column::RunId);
    match holds {
        true => Expr::Not(Box::new(never)),
        false => never,
    }
}
