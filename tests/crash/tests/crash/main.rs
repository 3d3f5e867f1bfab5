//! What a server that dies leaves behind, and what a race leaves behind: nothing that four accounts do not agree on.
//!
//! `ERRAND_SEED=n` runs one seed only, the one that a failure printed.

mod again;
mod checkpoints;
mod clock;
mod descriptors;
mod disk;
mod down;
mod drain;
mod hang;
mod hold;
mod kill;
mod load;
mod local;
mod memory;
mod panic;
mod paused;
mod planted;
mod process;
mod race;
mod scan;
mod signed;
mod steps;
mod stop;
mod two;
