//! server-service
