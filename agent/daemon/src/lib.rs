//! agent-daemon
