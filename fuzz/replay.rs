//! A property over its committed corpus and over neighbours of it: what `make test` does of fuzzing. Shared by the tests
//! of several crates; the neighbours are the same each time.

use std::{fs, path::PathBuf};

/// How many neighbours of each file are tried.
const NEIGHBOURS: u32 = 200;

/// Panics with the name of the file that does not hold, or was changed into what does not. `holds` answers whether it
/// took the bytes for what it checks: a corpus of which nothing is taken, or everything, shows little.
pub fn over(name: &str, holds: impl Fn(&[u8]) -> bool) {
    let dir: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../fuzz/corpus", name].iter().collect();
    let mut files: Vec<_> = fs::read_dir(&dir).expect("a corpus").map(|f| f.expect("a file").path()).collect();
    files.sort();
    assert!(files.len() >= 5, "{} has too few files", dir.display());
    let mut taken = 0;
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for file in &files {
        let seed = fs::read(file).expect("a readable file");
        let tried = Tried(file.display().to_string());
        taken += usize::from(holds(&seed));
        for _ in 0..NEIGHBOURS {
            holds(&dice.neighbour(&seed));
        }
        drop(tried);
    }
    assert!((1..files.len()).contains(&taken), "{taken} of {} files of {} are taken", files.len(), dir.display());
}

/// Says which file it was when a property panics.
struct Tried(String);

impl Drop for Tried {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("at {} or a neighbour of it", self.0);
        }
    }
}

/// xorshift64: numbers without a source of randomness.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit.max(1)).expect("a usize fits")).expect("it is below a usize")
    }

    /// One to three small changes: a byte replaced, flipped, put in or taken out, a piece doubled, an end cut off.
    fn neighbour(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut data = seed.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(data.len() + 1);
            let byte = u8::try_from(self.below(256)).expect("it is below 256");
            match self.below(6) {
                0 if at < data.len() => data[at] = byte,
                1 if at < data.len() => data[at] ^= 1 << self.below(8),
                2 if at < data.len() => drop(data.remove(at)),
                3 => {
                    let end = (at + self.below(32)).min(data.len());
                    let piece = data[at..end].to_vec();
                    data.splice(at..at, piece);
                }
                4 => data.truncate(at),
                _ => data.insert(at, byte),
            }
        }
        data
    }
}
