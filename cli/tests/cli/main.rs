//! The command line from outside: the program itself, against fake servers and agents.

mod verbs;
