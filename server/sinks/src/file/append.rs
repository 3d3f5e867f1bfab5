//! Appending to a file that is looked at first, whoever put it there.

use nix::fcntl::OFlag;
use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// What is there, or the folder it will be made in: whether lines may be appended. Opens nothing.
pub fn look(path: &Path) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Ok(meta) => plain(&meta),
        Err(e) if e.kind() == io::ErrorKind::NotFound => match path.parent().map(fs::metadata) {
            Some(Ok(folder)) if folder.is_dir() => Ok(()),
            _ => Err("its folder does not exist".into()),
        },
        Err(e) => Err(e.kind().to_string()),
    }
}

/// Only a regular file that nobody can execute.
fn plain(meta: &Metadata) -> Result<(), String> {
    let kind = meta.file_type();
    let what = if kind.is_symlink() {
        "is a symbolic link"
    } else if kind.is_dir() {
        "is a directory"
    } else if kind.is_fifo() {
        "is a FIFO"
    } else if kind.is_char_device() || kind.is_block_device() {
        "is a device"
    } else if kind.is_socket() {
        "is a socket"
    } else if meta.permissions().mode() & 0o111 != 0 {
        "can be executed (chmod a-x)"
    } else {
        return Ok(());
    };
    Err(format!("it {what}; a journal goes into a regular file only"))
}

/// Appends whole lines and syncs them. A line that a crash or a full disk cut short is ended first: it stays a line of
/// its own, and its record comes again.
pub fn append(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let text = |e: io::Error| e.to_string();
    let mut file = open(path)?;
    let mut whole = Vec::with_capacity(bytes.len() + 1);
    if cut_short(&mut file).map_err(text)? {
        whole.push(b'\n');
    }
    whole.extend_from_slice(bytes);
    file.write_all(&whole).and_then(|()| file.sync_data()).map_err(text)
}

fn open(path: &Path) -> Result<File, String> {
    look(path)?;
    let new = !path.exists();
    // Neither a link nor a FIFO that took the place since is followed or waited for.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600).custom_flags(flags.bits());
    let file = options.open(path).map_err(|e| e.to_string())?;
    // Looked at again in hand: the name may lead elsewhere by now.
    plain(&file.metadata().map_err(|e| e.to_string())?)?;
    if new && let Some(folder) = path.parent() {
        File::open(folder).and_then(|f| f.sync_all()).map_err(|e| e.to_string())?;
    }
    Ok(file)
}

fn cut_short(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn lines_go_into_a_plain_file_that_its_owner_alone_reads() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("journal.jsonl");
        append(&path, b"one\n").unwrap();
        append(&path, b"two\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one\ntwo\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_line_that_was_cut_short_is_ended_before_the_next() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("journal.jsonl");
        fs::write(&path, b"one\ntw").unwrap();
        append(&path, b"two\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one\ntw\ntwo\n");
    }

    #[test]
    fn what_is_no_plain_file_is_refused_before_and_after_it_is_opened() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        fs::create_dir(at("dir")).unwrap();
        fs::write(at("plain"), b"").unwrap();
        symlink(at("plain"), at("link")).unwrap();
        symlink(at("nowhere"), at("dangling")).unwrap();
        fs::write(at("program"), b"").unwrap();
        fs::set_permissions(at("program"), fs::Permissions::from_mode(0o755)).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for name in ["dir", "link", "dangling", "program", "fifo", "socket", "no/folder"] {
            assert!(look(&at(name)).is_err(), "{name}");
            assert!(append(&at(name), b"one\n").is_err(), "{name}");
        }
        drop(socket);
        for device in ["/dev/full", "/dev/null"] {
            assert!(look(Path::new(device)).is_err() && append(Path::new(device), b"one\n").is_err(), "{device}");
        }
        for name in ["plain", "new"] {
            look(&at(name)).unwrap();
            append(&at(name), b"one\n").unwrap();
        }
    }
}
