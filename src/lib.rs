//! Kymo in your process: the storage engine and PromQL in one handle, without a server.
