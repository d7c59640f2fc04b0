//! A running `sana serve`, and requests to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Workplace, checkpoint};

/// The server, which ends with this.
pub struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub address: SocketAddr,
    _folder: Workplace,
}

/// What it answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

/// Long enough for a slow machine, short of a hanging test.
const PATIENCE: Duration = Duration::from_secs(120);

impl Server {
    /// `sana serve` on the checkpoint of the fixtures, ready to make images.
    pub fn start(options: &[&str]) -> Self {
        let mut server = Self::start_with(options, |_| {});
        assert_eq!(server.line(), "ready");
        server
    }

    /// `sana serve` that listens, with a command changed before.
    pub fn start_with(options: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let here = Workplace::new();
        let model = checkpoint();
        let usual = ["serve", "--port", "0", "--device", "flex", "--model"];
        let usual = [&usual, &[model.to_str().unwrap()][..], options].concat();
        let mut command = here.command(&usual);
        command.stdout(Stdio::piped()).env_remove("SANA_API_KEY");
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut server = Self {
            child,
            stdout,
            address: "127.0.0.1:0".parse().unwrap(),
            _folder: here,
        };
        assert!(server.line().starts_with("model sana, device flex"));
        let line = server.line();
        let address = line.strip_prefix("listening on http://").unwrap();
        server.address = address.trim_end_matches('/').parse().unwrap();
        server
    }

    /// The next line it printed.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, which it must have soon.
    pub fn exit(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends bytes and leaves the answer to be read.
    pub fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    }

    /// A request, as bytes.
    pub fn request(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n",
            self.address,
            body.len()
        );
        for header in headers {
            request += &format!("{header}\r\n");
        }
        [request.as_bytes(), b"\r\n", body].concat()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[])
    }

    pub fn get_with(&self, path: &str, headers: &[&str]) -> Answer {
        Answer::read(self.send(&self.request("GET", path, headers, b"")))
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::read(self.send(&self.json(path, body)))
    }

    /// A request with a body of JSON, as bytes.
    pub fn json(&self, path: &str, body: &Value) -> Vec<u8> {
        let header = "Content-Type: application/json";
        self.request("POST", path, &[header], body.to_string().as_bytes())
    }

    /// Sends a form of fields and files.
    pub fn post_form(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        files: &[(&str, &[u8])],
    ) -> Answer {
        let mut body = Vec::new();
        for (name, value) in fields {
            let part = format!(
                "--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            );
            body.extend(part.as_bytes());
        }
        for (name, file) in files {
            let part = format!(
                "--XX\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"a\"\r\n\
                 Content-Type: image/png\r\n\r\n"
            );
            body.extend([part.as_bytes(), file, b"\r\n"].concat());
        }
        body.extend(b"--XX--\r\n");
        let header = "Content-Type: multipart/form-data; boundary=XX";
        Answer::read(self.send(&self.request("POST", path, &[header], &body)))
    }

    /// The value of a metric without labels.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
            .trim()
            .parse()
            .unwrap()
    }

    /// Waits until something is so.
    #[track_caller]
    pub fn until(&self, so: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !so(self) {
            assert!(begin.elapsed() < PATIENCE, "it does not happen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    pub fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head in {:?}", String::from_utf8_lossy(&bytes)));
        let head = String::from_utf8(bytes[..end].to_vec())
            .unwrap()
            .to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut body = bytes[end + 4..].to_vec();
        if head.contains("transfer-encoding: chunked") {
            body = unchunked(&body);
        }
        Self { status, head, body }
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The body of an answer that went well.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Asserts that it is an error of this status whose message contains the words.
    #[track_caller]
    pub fn fails(&self, status: u16, words: &[&str]) {
        assert_eq!(self.status, status, "{}", self.text());
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        let message = body["error"]["message"].as_str().unwrap();
        for word in words {
            assert!(message.contains(word), "{word} in {message}");
        }
    }

    /// The data of its events.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.text());
        assert!(self.head.contains("content-type: text/event-stream"));
        let text = self.text();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|two| two == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        let chunk = &body[end + 2..];
        whole.extend(&chunk[..length.min(chunk.len())]);
        if length == 0 || chunk.len() < length + 2 {
            break;
        }
        body = &chunk[length + 2..];
    }
    whole
}
