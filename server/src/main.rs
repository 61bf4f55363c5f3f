//! The binary `kymo`: flags in, a running server out.

fn main() {}
