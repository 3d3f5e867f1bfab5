//! The tree off the write path: its roots are those of the leaves, over any end and beginning.

use super::{open, place, size};
use server_core::{
    journal::Frontier,
    ports::{Archive, Ledger, TreeRoot},
};
use testkit::ledger_law::nouns::note;

#[tokio::test]
async fn roots_are_those_of_the_answered_leaves_and_go_on_after_opening_again() {
    let (_folder, path) = place();
    let mut tree = Frontier::new();
    let mut roots = Vec::new();
    for round in 0..4u64 {
        let store = open(&path);
        if round == 0 {
            assert_eq!(store.root().await.unwrap(), None);
            assert_eq!(store.write_root().await.unwrap(), None);
        }
        for _ in 0..=round * 3 {
            tree.append(*store.commit(note()).await.unwrap().leaf().unwrap());
        }
        let root = TreeRoot { size: tree.size(), root: tree.root() };
        // The second time nothing is new: the same root is answered, nothing is written.
        for _ in 0..2 {
            assert_eq!(store.write_root().await.unwrap(), Some(root));
        }
        assert_eq!(store.root().await.unwrap(), Some(root));
        roots.push(root);
        assert_eq!(store.roots(0, 100).await.unwrap(), roots);
        assert_eq!(store.roots(root.size - 1, 100).await.unwrap(), [root]);
        // What comes behind the last root is rehashed at the next start.
        tree.append(*store.commit(note()).await.unwrap().leaf().unwrap());
        assert_eq!(size(&store), tree.size());
    }
    let store = open(&path);
    assert_eq!(store.write_root().await.unwrap(), Some(TreeRoot { size: tree.size(), root: tree.root() }));
}
