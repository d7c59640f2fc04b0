//! A Hub on loopback that serves a checkpoint folder, with faults.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// The commit that [`Site`] is at.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// The name of its repository.
pub const REPO: &str = "owner/name";

/// What a client asked for.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// A header by its name in lower case.
    pub fn header(&self, wanted: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(name, _)| name == wanted);
        found.next().map(|(_, value)| value.as_str())
    }

    /// First byte of the range that was asked for.
    pub fn start(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.strip_suffix('-')?.parse().ok()
    }
}

/// What it is answered.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// The connection is closed after so many bytes of the body.
    pub cut: Option<usize>,
}

impl Answer {
    pub fn new(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

/// A server that answers every request with a function until it is dropped.
pub struct Server {
    pub url: String,
    address: std::net::SocketAddr,
    log: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(answer: impl Fn(&Request) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (log, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (log, stop): (Arc<Mutex<Vec<Request>>>, _) = (Arc::clone(&log), Arc::clone(&stop));
            move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    // A client that goes away is no matter.
                    let _ = stream.and_then(|stream| {
                        let Some(request) = read(&stream)? else {
                            return Ok(());
                        };
                        let answered = answer(&request);
                        log.lock().unwrap().push(request.clone());
                        write(&stream, &request, &answered)
                    });
                }
            }
        });
        Self {
            url: format!("http://{address}"),
            address,
            log,
            stop,
            thread: Some(thread),
        }
    }

    /// All requests so far; forgets them.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes it.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read(stream: &TcpStream) -> std::io::Result<Option<Request>> {
    let mut lines = BufReader::new(stream).lines();
    let Some(first) = lines.next().transpose()? else {
        return Ok(None);
    };
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let (method, path) = (method.to_owned(), path.to_owned());
    let mut headers = Vec::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    Ok(Some(Request {
        method,
        path,
        headers,
    }))
}

/// One answer a connection: which of them are reused is not the matter of these tests.
fn write(mut stream: &TcpStream, request: &Request, answer: &Answer) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Said\r\nConnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let named = |wanted: &str| answer.headers.iter().any(|(name, _)| *name == wanted);
    if !named("Content-Length") && !named("Transfer-Encoding") {
        head += &format!("Content-Length: {}\r\n", answer.body.len());
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if request.method != "HEAD" {
        let sent = answer.cut.unwrap_or(answer.body.len());
        stream.write_all(&answer.body[..sent.min(answer.body.len())])?;
    }
    stream.flush()
}

/// The files of a repository, answered as the Hub does.
#[derive(Debug, Clone, Default)]
pub struct Site {
    pub files: BTreeMap<String, Vec<u8>>,
    /// Where weights are, as on the Hub; on the same server when empty.
    pub storage: String,
    /// Whether the list has sizes.
    pub sizes: bool,
    /// What names the contents of files, if it is their hash.
    pub etags: BTreeMap<String, String>,
}

impl Site {
    /// All files of a folder.
    pub fn of(folder: &Path) -> Self {
        fn collect(folder: &Path, before: &str, files: &mut BTreeMap<String, Vec<u8>>) {
            for entry in folder.read_dir().unwrap() {
                let entry = entry.unwrap();
                let name = format!("{before}{}", entry.file_name().to_str().unwrap());
                match entry.path().is_dir() {
                    true => collect(&entry.path(), &format!("{name}/"), files),
                    false => {
                        files.insert(name, std::fs::read(entry.path()).unwrap());
                    }
                }
            }
        }
        let mut site = Self {
            sizes: true,
            ..Self::default()
        };
        collect(folder, "", &mut site.files);
        site
    }

    /// What names the content of a file that is not named by its hash.
    pub fn etag(name: &str) -> String {
        name.replace(['/', '.'], "_")
    }

    fn etag_of(&self, name: &str) -> String {
        let hash = self.etags.get(name);
        hash.cloned().unwrap_or_else(|| Self::etag(name))
    }

    /// The answer of the Hub. `/COMMIT/` in paths of files, as clients ask for the commit that the
    /// list named.
    pub fn answer(&self, request: &Request) -> Answer {
        let path = request.path.as_str();
        let list = format!("/api/models/{REPO}/revision/");
        if let Some(revision) = path.strip_prefix(&list) {
            let revision = revision.split('?').next().unwrap();
            return match [COMMIT, "main", "refs%2Fpr%2F1"].contains(&revision) {
                true => self.list(),
                false => Answer::new(404).header("X-Error-Code", "RevisionNotFound"),
            };
        }
        if let Some(name) = path.strip_prefix(&format!("/{REPO}/resolve/{COMMIT}/")) {
            return match self.files.get(name) {
                Some(_) if name.ends_with(".safetensors") => self.elsewhere(name),
                // As the Hub does for small files.
                Some(_) => Answer::new(307).header("Location", format!("/cache/{name}")),
                None => Answer::new(404).header("X-Error-Code", "EntryNotFound"),
            };
        }
        if let Some(name) = path.strip_prefix("/cache/") {
            return self
                .content(name, request)
                .header("X-Repo-Commit", COMMIT)
                .header("ETag", format!("\"{}\"", self.etag_of(name)));
        }
        match path.strip_prefix("/storage/") {
            // The storage has names of its own for contents.
            Some(name) => self.content(name, request).header("ETag", "\"other\""),
            None => Answer::new(404).header("X-Error-Code", "RepoNotFound"),
        }
    }

    fn list(&self) -> Answer {
        let entry = |(name, content): (&String, &Vec<u8>)| match self.sizes {
            true => serde_json::json!({"rfilename": name, "size": content.len()}),
            false => serde_json::json!({"rfilename": name}),
        };
        let files: Vec<_> = self.files.iter().map(entry).collect();
        let list = serde_json::json!({"id": REPO, "sha": COMMIT, "siblings": files});
        Answer::new(200).body(list.to_string())
    }

    fn elsewhere(&self, name: &str) -> Answer {
        Answer::new(302)
            .header("Location", format!("{}/storage/{name}", self.storage))
            .header("X-Repo-Commit", COMMIT)
            .header("X-Linked-Etag", format!("\"{}\"", self.etag_of(name)))
            .header("X-Linked-Size", self.files[name].len().to_string())
    }

    fn content(&self, name: &str, request: &Request) -> Answer {
        let content = &self.files[name];
        match request.start() {
            None => Answer::new(200).body(content.clone()),
            Some(start) if start >= content.len() => Answer::new(416),
            Some(start) => {
                let (last, all) = (content.len() - 1, content.len());
                Answer::new(206)
                    .header("Content-Range", format!("bytes {start}-{last}/{all}"))
                    .body(&content[start..])
            }
        }
    }
}
