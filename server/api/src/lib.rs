//! server-api
