//! Counts the messages of a request before memory is spent on them.

use super::MESSAGES_MAX;
use crate::wire::protobuf::{FieldValue, ProtobufError, Reader};

/// Below this depth nothing is counted: the decoder refuses what is nested deeper.
const DEPTH_MAX: u32 = 100;

/// What a message is, as far as that says which of its fields are messages.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Request,
    Resource,
    Scope,
    Metric,
    Data,
    Point,
    Attributes,
    Pair,
    Value,
}

impl Kind {
    /// The kind of field `number`, if it is a message.
    fn field(self, number: u32) -> Option<Self> {
        match (self, number) {
            (Self::Request, 1) => Some(Self::Resource),
            (Self::Resource, 1) | (Self::Scope, 1) => Some(Self::Attributes),
            (Self::Resource, 2) => Some(Self::Scope),
            (Self::Scope, 2) => Some(Self::Metric),
            (Self::Metric, 5 | 7 | 9 | 10 | 11) => Some(Self::Data),
            (Self::Data, 1) => Some(Self::Point),
            // Attributes, exemplars, quantiles and packed numbers; the last are counted too, which is harmless.
            (Self::Point, _) => Some(Self::Attributes),
            // Of a resource, a scope or an exemplar.
            (Self::Attributes, 1..=3 | 7) => Some(Self::Pair),
            (Self::Pair, 2) => Some(Self::Value),
            (Self::Value, 5) => Some(Self::Attributes),
            (Self::Value, 6) => Some(Self::Attributes),
            _ => None,
        }
    }
}

/// How many messages a request has; more than [`MESSAGES_MAX`] are not counted to the end.
pub(super) fn messages(body: &[u8]) -> Result<usize, ProtobufError> {
    let mut count = 0;
    walk(body, Kind::Request, 0, &mut count)?;
    Ok(count)
}

fn walk(message: &[u8], kind: Kind, depth: u32, count: &mut usize) -> Result<(), ProtobufError> {
    let mut reader = Reader::new(message);
    while *count <= MESSAGES_MAX {
        // What is no message after all (packed numbers, text) ends the walk there; the decoder judges it.
        let field = match reader.next_field() {
            Ok(Some(field)) => field,
            Ok(None) => break,
            Err(error) if matches!(kind, Kind::Attributes | Kind::Pair | Kind::Value) => {
                let _ = error;
                break;
            }
            Err(error) => return Err(error),
        };
        let (Some(inner), FieldValue::Bytes(bytes)) = (kind.field(field.number), field.value) else {
            continue;
        };
        *count += 1;
        if depth < DEPTH_MAX {
            walk(bytes, inner, depth + 1, count)?;
        }
    }
    Ok(())
}
