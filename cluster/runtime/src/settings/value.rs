//! A setting's value after a file was parsed, and how typed keys read it.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

/// A parsed value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// Text; durations usually come as text.
    Text(String),
    /// A duration.
    Duration(Duration),
    /// Values in order.
    List(Vec<Value>),
    /// Values by name.
    Map(BTreeMap<String, Value>),
}

/// A type that a key may have.
pub trait Setting: Clone + Send + Sync + 'static {
    /// The type of values, such as `a whole number`.
    const KIND: &'static str;

    /// Reads the value; `None` when it is of another type or out of range.
    fn read(value: &Value) -> Option<Self>;
}

impl Setting for Value {
    const KIND: &'static str = "any value";

    fn read(value: &Value) -> Option<Self> {
        Some(value.clone())
    }
}

impl Setting for bool {
    const KIND: &'static str = "true or false";

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Bool(b) => Some(*b),
            Value::Text(text) => text.parse().ok(),
            _ => None,
        }
    }
}

impl Setting for i64 {
    const KIND: &'static str = "a whole number";

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Int(n) => Some(*n),
            Value::Float(f) if f.fract() == 0.0 && f.abs() < 9e15 => Some(*f as i64),
            _ => None,
        }
    }
}

macro_rules! whole {
    ($($t:ty),*) => {$(
        impl Setting for $t {
            const KIND: &'static str = "a whole number in range";

            fn read(value: &Value) -> Option<Self> {
                i64::read(value).and_then(|n| n.try_into().ok())
            }
        }
    )*};
}
whole!(i32, u32, u64, usize);

impl Setting for f64 {
    const KIND: &'static str = "a number";

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Float(f) => Some(*f),
            Value::Int(n) => Some(*n as f64),
            _ => None,
        }
    }
}

impl Setting for Duration {
    const KIND: &'static str = "a duration such as 10s";

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Duration(d) => Some(*d),
            Value::Text(text) => proto_ids::parse_duration(text),
            // A bare number is seconds.
            Value::Int(n) => u64::try_from(*n).ok().map(Duration::from_secs),
            Value::Float(f) => Duration::try_from_secs_f64(*f).ok(),
            _ => None,
        }
    }
}

impl Setting for String {
    const KIND: &'static str = "text";

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }
}

impl Setting for Cow<'static, str> {
    const KIND: &'static str = "text";

    fn read(value: &Value) -> Option<Self> {
        String::read(value).map(Cow::Owned)
    }
}

impl<T: Setting> Setting for Vec<T> {
    const KIND: &'static str = "a list";

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::List(items) => items.iter().map(T::read).collect(),
            _ => None,
        }
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Self::Bool(b)
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}

impl From<i32> for Value {
    fn from(n: i32) -> Self {
        Self::Int(n.into())
    }
}

impl From<f64> for Value {
    fn from(f: f64) -> Self {
        Self::Float(f)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Duration> for Value {
    fn from(d: Duration) -> Self {
        Self::Duration(d)
    }
}
