//! What holds for any bytes read as `/proc/PID/stat`. Shared by the fuzz target and the tests.

use agent_workload::proc::Stat;

/// What is accepted has possible values, and a hostile command in front of the fields moves none of them.
pub fn holds(data: &[u8]) {
    let Ok(stat) = Stat::parse(data) else { return };
    assert!(stat.pid > 0 && stat.ppid >= 0 && stat.state.is_ascii_alphabetic());
    let close = data.iter().rposition(|b| *b == b')').expect("it was parsed");
    let open = data.iter().position(|b| *b == b'(').expect("it was parsed");
    let hostile = [&data[..=open], b") R 1 (", &data[open + 1..close], b") Z 9 (", &data[close..]].concat();
    assert_eq!(Stat::parse(&hostile), Ok(stat));
}
