use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::json;

use super::{Rating, Verifier, VerifierError};

/// Bytes of an answer, at most.
const LARGEST_ANSWER: u64 = 1 << 20;

/// A program that rates images: it reads a line of JSON, `{"prompt": TEXT, "image": PATH}`, and
/// answers with one, `{"score": NUMBER}` or `{"yes": NUMBER, "no": NUMBER}`, logits of both answers.
/// It runs as long as this value is there, so that a model is loaded once.
pub struct CommandVerifier {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl fmt::Debug for CommandVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommandVerifier({})", self.name)
    }
}

impl CommandVerifier {
    /// Starts a program with its arguments. No shell is between; its error output goes to ours.
    ///
    /// # Errors
    /// [`VerifierError::Start`].
    pub fn start(program: &str, arguments: &[&str]) -> Result<Self, VerifierError> {
        let failed = |source| VerifierError::Start {
            program: program.to_owned(),
            source,
        };
        let mut command = Command::new(program);
        command.args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let output = output.ok_or_else(|| failed(std::io::ErrorKind::BrokenPipe.into()))?;
        Ok(Self {
            name: program.to_owned(),
            child,
            input,
            output: BufReader::new(output),
        })
    }

    fn no_answer(&mut self, reason: &str) -> VerifierError {
        let ended = self.child.try_wait().ok().flatten();
        VerifierError::NoAnswer {
            program: self.name.clone(),
            reason: match ended {
                Some(status) => format!("it ended, {status}"),
                None => reason.to_owned(),
            },
        }
    }
}

impl Verifier for CommandVerifier {
    fn rate(&mut self, prompt: &str, image: &Path) -> Result<Rating, VerifierError> {
        let question = json!({ "prompt": prompt, "image": image });
        let asked = match &mut self.input {
            Some(input) => writeln!(input, "{question}").and_then(|()| input.flush()),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        if let Err(error) = asked {
            return Err(self.no_answer(&error.to_string()));
        }
        let mut line = Vec::new();
        let read = (&mut self.output)
            .take(LARGEST_ANSWER)
            .read_until(b'\n', &mut line);
        match read {
            Err(error) => return Err(self.no_answer(&error.to_string())),
            Ok(0) => {
                // What closed its output is ending, if it does not wait for its input.
                drop(self.input.take());
                let _ = self.child.wait();
                return Err(self.no_answer("its output is closed"));
            }
            Ok(_) => {}
        }
        let rating = serde_json::from_slice(&line).ok();
        rating
            .filter(Rating::is_finite)
            .ok_or_else(|| VerifierError::Answer {
                program: self.name.clone(),
                answer: String::from_utf8_lossy(&line[..line.len().min(200)])
                    .trim_end()
                    .to_owned(),
            })
    }
}

impl Drop for CommandVerifier {
    fn drop(&mut self) {
        // A program that reads lines ends with its input; one that does not is not waited for.
        drop(self.input.take());
        if let Ok(None) = self.child.try_wait() {
            std::thread::sleep(std::time::Duration::from_millis(50));
            if let Ok(None) = self.child.try_wait() {
                let _ = self.child.kill();
            }
        }
        let _ = self.child.wait();
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    fn shell(script: &str) -> CommandVerifier {
        CommandVerifier::start("sh", &["-c", script]).unwrap()
    }

    fn rate(verifier: &mut CommandVerifier) -> Result<Rating, VerifierError> {
        verifier.rate("a \"red\"\ncircle", Path::new("one.png"))
    }

    #[test]
    fn one_line_for_each_image() {
        let mut verifier = shell(
            r#"n=0; while read -r line; do n=$((n + 1)); echo "$line" >&2
            case "$line" in *'"image":"one.png"'*'red'*) echo "{\"score\": $n}";; esac; done"#,
        );
        assert_eq!(rate(&mut verifier).unwrap(), Rating::Score(1.0));
        assert_eq!(rate(&mut verifier).unwrap(), Rating::Score(2.0));
        let mut verifier = shell(r#"read -r line; echo '{"no": 1, "yes": -2.5}'; cat"#);
        let expected = Rating::Answer { yes: -2.5, no: 1.0 };
        assert_eq!(rate(&mut verifier).unwrap(), expected);
    }

    #[test]
    fn programs_that_do_not_answer() {
        let error = CommandVerifier::start("/nowhere/verifier", &[]).unwrap_err();
        assert!(error.to_string().contains("/nowhere/verifier"), "{error}");
        let error = rate(&mut shell("exit 3")).unwrap_err();
        assert!(matches!(error, VerifierError::NoAnswer { .. }), "{error}");
        assert!(error.to_string().contains("3"), "{error}");
        for answer in ["yes", "{}", r#"{"score": 1e999}"#, r#"{"score": null}"#, ""] {
            let script = format!("read -r line; echo '{answer}'; sleep 9");
            let error = rate(&mut shell(&script)).unwrap_err();
            assert!(
                matches!(error, VerifierError::Answer { .. }),
                "{answer}: {error}"
            );
        }
    }
}
