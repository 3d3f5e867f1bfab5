//! Random header blocks of a client with a dynamic table, decoded by an independent HPACK decoder with and without the
//! shim: only `:authority` literals may differ, whatever was evicted meanwhile.

use super::super::rewrite;
use proptest::prelude::*;
use std::collections::VecDeque;

const TABLE: usize = 4096;
/// Spellings of the Huffman code given in RFC 7541, appendix C, and of `:authority`.
const CODED: [(&[u8], &[u8]); 3] = [
    (b"www.example.com", &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff]),
    (b"no-cache", &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]),
    (b":authority", &[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f]),
];
/// Static names by index.
const NAMES: [(usize, &[u8]); 3] = [(1, b":authority"), (4, b":path"), (58, b"user-agent")];

#[derive(Clone, Debug)]
enum Name {
    Static(usize),
    Plain(bool),
    Coded,
    /// Of the n-th oldest entry of the dynamic table.
    Dynamic(usize),
}

#[derive(Clone, Debug)]
enum Op {
    Literal { kind: u8, name: Name, value: usize, coded: bool },
    Indexed(usize),
    Resize(usize),
}

/// One insertion: its name, the value the client sent, the value behind the shim.
#[derive(Clone)]
struct Entry {
    name: Vec<u8>,
    sent: Vec<u8>,
    seen: Vec<u8>,
}

impl Entry {
    fn size(&self) -> usize {
        self.name.len() + self.sent.len() + 32
    }
}

#[derive(Default)]
struct Client {
    table: VecDeque<Entry>,
    limit: usize,
    block: Vec<u8>,
    fields: Vec<Entry>,
}

impl Client {
    fn integer(&mut self, first: u8, bits: u32, mut value: usize) {
        let most = (1usize << bits) - 1;
        if value < most {
            return self.block.push(first | value as u8);
        }
        self.block.push(first | most as u8);
        value -= most;
        while value >= 128 {
            self.block.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.block.push(value as u8);
    }

    fn string(&mut self, first: u8, bytes: &[u8]) {
        self.integer(first, 7, bytes.len());
        self.block.extend_from_slice(bytes);
    }

    /// One of the entries the client still has, the oldest for 0: at the edge of eviction a fault would show.
    fn entry(&self, n: usize) -> Option<(usize, Entry)> {
        let place = (self.table.len().checked_sub(1)?) - n % self.table.len();
        self.table.get(place).map(|e| (place, e.clone()))
    }

    fn evict(&mut self, room: usize) {
        while !self.table.is_empty() && self.table.iter().map(Entry::size).sum::<usize>() + room > self.limit {
            self.table.pop_back();
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Resize(limit) => {
                // Only at the beginning of a block (RFC 7541, section 4.2).
                if self.block.is_empty() {
                    self.limit = *limit;
                    self.integer(0x20, 5, *limit);
                    self.evict(0);
                }
            }
            Op::Indexed(n) => {
                let Some((n, entry)) = self.entry(*n) else { return };
                self.integer(0x80, 7, 62 + n);
                self.fields.push(entry);
            }
            Op::Literal { kind, name, value, coded } => self.literal(*kind, name, *value, *coded),
        }
    }

    fn literal(&mut self, kind: u8, name: &Name, value: usize, coded: bool) {
        let bits = if kind == 0x40 { 6 } else { 4 };
        let (name, by_dynamic) = match name {
            Name::Static(n) => {
                self.integer(kind, bits, NAMES[*n].0);
                (NAMES[*n].1.to_vec(), false)
            }
            Name::Dynamic(n) => {
                let Some((n, entry)) = self.entry(*n) else { return };
                self.integer(kind, bits, 62 + n);
                (entry.name, true)
            }
            Name::Plain(authority) => {
                let name: &[u8] = if *authority { b":authority" } else { b"x-other" };
                self.integer(kind, bits, 0);
                self.string(0, name);
                (name.to_vec(), false)
            }
            Name::Coded => {
                self.integer(kind, bits, 0);
                self.string(0x80, CODED[2].1);
                (CODED[2].0.to_vec(), false)
            }
        };
        let sent = if coded {
            let (plain, code) = CODED[value % 2];
            self.string(0x80, code);
            plain.to_vec()
        } else {
            let plain = vec![b'%'; value];
            self.string(0, &plain);
            plain
        };
        let replaced = name == b":authority" && !by_dynamic && !sent.is_empty();
        let seen = if replaced { b"x".to_vec() } else { sent.clone() };
        let entry = Entry { name, sent, seen };
        self.fields.push(entry.clone());
        if kind == 0x40 {
            self.evict(entry.size());
            if entry.size() <= self.limit {
                self.table.push_front(entry);
            }
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    let name = prop_oneof![
        4 => (0..NAMES.len()).prop_map(Name::Static),
        2 => any::<bool>().prop_map(Name::Plain),
        1 => Just(Name::Coded),
        2 => (0..4usize).prop_map(Name::Dynamic),
    ];
    // Lengths around the one-byte limit, and around what fits into the table.
    let length = prop_oneof![4 => 0..40usize, 1 => 120..135usize, 1 => 1000..1100usize, 1 => 4040..4100usize];
    let kind = prop_oneof![3 => Just(0x40u8), 1 => Just(0u8), 1 => Just(0x10u8)];
    prop_oneof![
        5 => (kind, name, length, any::<bool>()).prop_map(|(kind, name, value, coded)| Op::Literal { kind, name, value, coded }),
        4 => (0..4usize).prop_map(Op::Indexed),
        1 => prop_oneof![3 => 30..400usize, 1 => 0..=TABLE].prop_map(Op::Resize),
    ]
}

fn pairs(fields: &[Entry], value: fn(&Entry) -> &Vec<u8>) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields.iter().map(|f| (f.name.clone(), value(f).clone())).collect()
}

proptest! {
    #![proptest_config(super::seeded(256))]
    #[test]
    fn an_independent_decoder_sees_only_authorities_change(
        blocks in prop::collection::vec(prop::collection::vec(op(), 1..25), 1..12),
        // Small tables evict most.
        table in prop_oneof![3 => 30..400usize, 1 => Just(TABLE)],
    ) {
        let mut client = Client { limit: TABLE, ..Client::default() };
        let (mut direct, mut behind) = (fluke_hpack::Decoder::new(), fluke_hpack::Decoder::new());
        let mut first = true;
        for ops in &blocks {
            client.block.clear();
            client.fields.clear();
            if first {
                client.apply(&Op::Resize(table));
                first = false;
            }
            ops.iter().for_each(|op| client.apply(op));
            // A block does not end with a size update.
            client.apply(&Op::Literal { kind: 0, name: Name::Static(1), value: 1, coded: false });
            let sent = direct.decode(&client.block).map_err(|e| TestCaseError::fail(format!("{e:?}")))?;
            prop_assert_eq!(sent, pairs(&client.fields, |f| &f.sent), "the client of this test speaks HPACK");
            let rewritten = rewrite(&client.block).unwrap();
            let changes = rewritten.is_some();
            let block = rewritten.unwrap_or_else(|| client.block.clone());
            prop_assert!(block.len() <= client.block.len());
            prop_assert!(changes || block == client.block);
            let seen = behind.decode(&block).map_err(|e| TestCaseError::fail(format!("{e:?}")))?;
            prop_assert_eq!(seen, pairs(&client.fields, |f| &f.seen));
        }
    }
}
