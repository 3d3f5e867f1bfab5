//! server-daemon
