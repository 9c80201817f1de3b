//! Small encodings of columns that no query looks into.

use prost::Message;
use schema_store::StoreError;

/// A branch's ancestors.
#[derive(Clone, PartialEq, Message)]
struct Ancestors {
    #[prost(message, repeated, tag = "1")]
    all: Vec<Ancestor>,
}

#[derive(Clone, PartialEq, Message)]
struct Ancestor {
    #[prost(string, tag = "1")]
    branch_id: String,
    #[prost(int64, tag = "2")]
    begin: i64,
    #[prost(int64, tag = "3")]
    end: i64,
}

/// Encodes ancestors for their column.
pub(crate) fn ancestors_encode(ancestors: &[(String, i64, i64)]) -> Vec<u8> {
    let all = ancestors.iter().map(|(branch_id, begin, end)| Ancestor {
        branch_id: branch_id.clone(),
        begin: *begin,
        end: *end,
    });
    Ancestors { all: all.collect() }.encode_to_vec()
}

/// Decodes them.
pub(crate) fn ancestors_decode(data: &[u8]) -> Result<Vec<(String, i64, i64)>, StoreError> {
    let ancestors = Ancestors::decode(data).map_err(|error| {
        StoreError::Corrupt(format!("decode the ancestors of a history branch: {error}"))
    })?;
    let plain = |ancestor: Ancestor| (ancestor.branch_id, ancestor.begin, ancestor.end);
    Ok(ancestors.all.into_iter().map(plain).collect())
}
