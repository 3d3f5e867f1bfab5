//! Work that one server of several does for all: bringing a sink its records, ending what is due in targets.
//!
//! Decides nothing about the work. Whoever does it is guarded in the commit all the same: a server that was paused and
//! believes it still has a duty changes nothing that another one did meanwhile.

/// Who does what.
pub trait Duties: Send + Sync {
    /// Whether it is this server's now. Who asks for one that nobody has gets it soon; it is lost when this server does not
    /// answer for some seconds.
    fn holds(&self, duty: &str) -> bool;
    /// Whether part `part` of work that is divided into `of` is this server's now. Who asks for one part is asked to bear
    /// its share of all: the servers that are up have as many as each other, but for one.
    fn holds_part(&self, work: &str, part: u32, of: u32) -> bool;
}

/// The only server there is: everything is its.
pub struct Alone;

impl Duties for Alone {
    fn holds(&self, _: &str) -> bool {
        true
    }
    fn holds_part(&self, _: &str, _: u32, _: u32) -> bool {
        true
    }
}
