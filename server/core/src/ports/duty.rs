//! Work that one server of several does for all: ending what is due in a target, bringing a sink its records.
//!
//! Decides nothing about the work. Whoever does it is guarded in the commit all the same: a server that was paused and
//! believes it still has a duty changes nothing that another one did meanwhile.

/// Who does what.
pub trait Duties: Send + Sync {
    /// Whether it is this server's now. Who asks for one that nobody has gets it soon; it is lost when this server does not
    /// answer for some seconds.
    fn holds(&self, duty: &str) -> bool;
}

/// The only server there is: everything is its.
pub struct Alone;

impl Duties for Alone {
    fn holds(&self, _: &str) -> bool {
        true
    }
}
