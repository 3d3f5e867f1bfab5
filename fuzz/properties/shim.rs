//! What holds for any bytes a client may send through the shim. Shared by the fuzz target and the tests.

use crate::shim::Rewriter;

/// The cut of the input makes no difference, the output stays within a bound, and rewriting it again changes nothing.
pub fn holds(data: &[u8]) {
    let (mut whole, mut cut) = (Vec::new(), Vec::new());
    let at_once = Rewriter::default().feed(data, &mut whole);
    let mut rewriter = Rewriter::default();
    let bytewise = data.iter().try_for_each(|byte| {
        if rewriter.pass(1) {
            cut.push(*byte);
            return Ok(());
        }
        rewriter.feed(&[*byte], &mut cut)
    });
    assert_eq!((&at_once, &whole), (&bytewise, &cut));
    // A block of one frame may need four more, of nine bytes each; smaller ones never grow.
    assert!(whole.len() <= data.len() + 36 * (1 + data.len() / 16_384));
    if at_once.is_ok() {
        let mut again = Vec::new();
        assert_eq!(Rewriter::default().feed(&whole, &mut again), Ok(()));
        assert_eq!(whole, again);
    }
}
