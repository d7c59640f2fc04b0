//! Standard output whose reader may go away.

use std::io::{self, Stdout, Write};

/// Standard output, or nothing once whoever read it has gone, as in `sana inspect DIR | head -1`:
/// the work continues, and an image is written all the same.
pub struct Output<W> {
    to: W,
}

/// Where a command prints its results.
pub fn output() -> Output<Stdout> {
    Output { to: io::stdout() }
}

fn unless_closed<T>(result: io::Result<T>, otherwise: T) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(otherwise),
        result => result,
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        unless_closed(self.to.write(bytes), bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        unless_closed(self.to.flush(), ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fails(io::ErrorKind);

    impl Write for Fails {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn only_a_reader_that_has_gone_is_no_error() {
        let mut closed = Output {
            to: Fails(io::ErrorKind::BrokenPipe),
        };
        writeln!(closed, "{}", 1).unwrap();
        closed.flush().unwrap();
        let mut full = Output {
            to: Fails(io::ErrorKind::StorageFull),
        };
        assert!(writeln!(full, "{}", 1).is_err());
        assert!(full.flush().is_err());
    }
}
