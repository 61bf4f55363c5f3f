//! PromQL for Kymo: from text to a streaming execution over [`kymo_storage::api`].
