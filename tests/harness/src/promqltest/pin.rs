//! Asks a query again in other words that must have the same answer.

/// Whether the answer depends on the query's own start, end or step, so that an instant and a range query may differ.
pub fn depends_on_range(query: &str) -> bool {
    let squeezed: String =
        query.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
    ["start()", "end()", "range()", "step()"].iter().any(|call| squeezed.contains(call))
}
